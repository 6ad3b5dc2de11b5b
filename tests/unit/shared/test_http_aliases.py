"""Further addresses of a route: the same handler, guard and checks, described as deprecated."""

import pytest
from marshmallow import fields
from werkzeug.test import Client

from shared.http import Alias, Answer, Auth, Principal, Request, Schema, application_of, route
from shared.openapi import openapi_document
from shared.problems import Forbidden, Unauthenticated


def _check(_service, request):
    if request.headers.get("Authorization") != "Bearer good":
        raise Unauthenticated
    return Principal(kind="key", id="key_1", name="a key", org_id="org_1", role="viewer")


def _permit(asked, principal):
    if asked.method != "GET":
        raise Forbidden(principal.role)


key = Auth(scheme="key", description="a key", check=_check, permit=_permit)


class LikesQuery(Schema):
    product = fields.String(load_default=None)
    limit = fields.Integer(load_default=50)


class LikeSchema(Schema):
    thing_id = fields.String()
    product = fields.String(allow_none=True)
    guarded = fields.Boolean()


class NoteRequest(Schema):
    text = fields.String(required=True)
    stars = fields.Integer(load_default=0)


class NoteSchema(Schema):
    thing_id = fields.String()
    text = fields.String()
    stars = fields.Integer()


class Likes:
    @route(
        "POST",
        "/v1/things/<thing_id>/notes",
        aliases=(
            Alias(
                "POST",
                "/api/notes",
                renamed={"thingId": "thing_id", "noteText": "text"},
                ignored={"clientId": "nobody asks"},
            ),
        ),
        auth=Auth(scheme="key", description="a key", check=_check),
        body=NoteRequest,
        answers={200: NoteSchema},
        summary="Note",
    )
    def note(self, request: Request, thing_id: str) -> Answer:
        return Answer(200, {"thing_id": thing_id, **request.body})

    @route(
        "GET",
        "/v1/things/<thing_id>/likes",
        aliases=(
            Alias("GET", "/api/likes/<thing_id>", renamed={"type": "product"}, ignored={"clientId": "nobody asks"}),
            Alias("GET", "/old/<thing_id>"),
            Alias("GET", "/api/headshots/<thing_id>/likes", given={"product": "headshot"}),
        ),
        auth=key,
        query=LikesQuery,
        guard=lambda _service, request, proceed: setattr(request, "claim", "guarded") or proceed(),
        answers={200: LikeSchema},
        summary="Likes",
    )
    def likes(self, request: Request, thing_id: str) -> Answer:
        return Answer(200, {"thing_id": thing_id, "guarded": request.claim == "guarded", **request.query})

    @route(
        "PUT",
        "/v1/things/<thing_id>/like",
        aliases=(Alias("POST", "/api/likes/<thing_id>"),),
        auth=key,
        answers={204: None},
        summary="Like",
    )
    def like(self, _request: Request, **_path: str) -> Answer:
        return Answer(204)


GOOD = {"Authorization": "Bearer good"}
DOCUMENT = openapi_document(Likes)
PATHS = DOCUMENT["paths"]
NOTE = {"thingId": "t1", "noteText": "good"}


@pytest.fixture
def client():
    return Client(application_of(Likes()))


@pytest.mark.parametrize("path", ["/v1/things/t1/likes", "/api/likes/t1", "/old/t1"])
def test_every_address_of_a_route_answers_alike(client, path):
    answer = client.get(path, headers=GOOD)

    assert (answer.status_code, answer.json) == (200, {"thing_id": "t1", "guarded": True, "product": None})
    assert client.get(path).status_code == 401


def test_a_parameter_has_the_name_it_had_and_what_is_ignored_is_taken(client):
    answer = client.get("/api/likes/t1?type=headshot&clientId=7&clientId=8", headers=GOOD)

    assert answer.json["product"] == "headshot"


@pytest.mark.parametrize("query", ["", "?product=staging", "?product=staging&product=tech_pack"])
def test_what_the_address_says_is_what_is_asked_for(client, query):
    answer = client.get(f"/api/headshots/t1/likes{query}", headers=GOOD)

    assert (answer.status_code, answer.json["product"]) == (200, "headshot")


@pytest.mark.parametrize(
    "path", ["/v1/things/t1/likes?type=headshot", "/old/t1?type=headshot", "/api/likes/t1?type=a&product=b"]
)
def test_names_of_one_address_are_not_those_of_another(client, path):
    assert client.get(path, headers=GOOD).status_code == 400


def test_another_method_is_asked_for_what_the_route_is_asked_for(client):
    answers = [client.put("/v1/things/t1/like", headers=GOOD), client.post("/api/likes/t1", headers=GOOD)]

    assert [answer.status_code for answer in answers] == [403, 403]  # the guard sees the route's method
    assert client.put("/api/likes/t1", headers=GOOD).status_code == 405


def test_the_document_has_each_address_and_says_which_to_use():
    canonical, alias, old = (
        PATHS[path]["get"] for path in ("/v1/things/{thing_id}/likes", "/api/likes/{thing_id}", "/old/{thing_id}")
    )

    assert "deprecated" not in canonical
    assert alias["deprecated"] is old["deprecated"] is True
    assert "`GET /v1/things/{thing_id}/likes`" in alias["description"]
    assert alias["responses"].keys() == canonical["responses"].keys()
    assert len({each["operationId"] for item in PATHS.values() for each in item.values()}) == 8
    assert {one["name"] for one in alias["parameters"]} >= {"thing_id", "type", "limit", "clientId"}
    assert {one["name"] for one in canonical["parameters"]} >= {"thing_id", "product", "limit"}
    assert "post" in PATHS["/api/likes/{thing_id}"]


def test_the_document_says_what_the_address_stands_for():
    alias = PATHS["/api/headshots/{thing_id}/likes"]["get"]

    assert "`GET /v1/things/{thing_id}/likes?product=headshot`" in alias["description"]
    assert "product" not in {one["name"] for one in alias["parameters"]}


def test_an_address_without_what_its_route_needs_is_refused():
    with pytest.raises(ValueError, match="placeholders"):
        route(
            "GET",
            "/v1/things/<thing_id>",
            aliases=(Alias("GET", "/thing"),),
            auth=None,
            answers={204: None},
            summary="Thing",
        )


def test_what_stands_in_the_address_of_the_route_may_stand_in_the_body_of_another(client):
    there = client.post("/v1/things/t1/notes", json={"text": "good", "stars": 3}, headers=GOOD)
    here = client.post("/api/notes", json={**NOTE, "stars": 3, "clientId": {"any": "thing"}}, headers=GOOD)

    assert (here.status_code, here.json) == (200, {"thing_id": "t1", "text": "good", "stars": 3})
    assert here.json == there.json


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"noteText": "good"}, "/thingId", "required"),
        ({**NOTE, "thingId": None}, "/thingId", "required"),
        ({**NOTE, "thingId": {"a": 1}}, "/thingId", "required"),
        ({"thingId": "t1"}, "/noteText", "required"),
        ({**NOTE, "noteText": 7}, "/noteText", "invalid"),
        ({**NOTE, "text": "bad"}, "/text", "unknown_field"),
        ({**NOTE, "thing_id": "t2"}, "/thing_id", "unknown_field"),
        ({**NOTE, "stars": "many"}, "/stars", "invalid"),
    ],
)
def test_a_mistake_is_pointed_at_by_the_name_it_was_made_under(client, body, pointer, code):
    answer = client.post("/api/notes", json=body, headers=GOOD)

    assert answer.status_code == 400
    assert [(one["pointer"], one["code"]) for one in answer.json["errors"]] == [(pointer, code)]
    assert answer.json["detail"].startswith(pointer)


def test_the_document_has_the_body_as_it_is_sent_there():
    operation = PATHS["/api/notes"]["post"]
    media = operation["requestBody"]["content"]["application/json"]

    assert [one["in"] for one in operation["parameters"]] == []
    assert list(media["schema"]["properties"]) == ["noteText", "stars", "thingId", "clientId"]
    assert media["schema"]["required"] == ["thingId", "noteText"]
    assert set(media["example"]) >= {"thingId", "noteText"}
    assert set(DOCUMENT["components"]["schemas"]["NoteRequest"]["properties"]) == {"text", "stars"}


def test_a_placeholder_that_nothing_stands_for_is_refused():
    with pytest.raises(ValueError, match="placeholders"):
        Alias("POST", "/api/notes", renamed={"noteText": "text"}).check("/v1/things/<thing_id>/notes")


@pytest.mark.parametrize("body", [[NOTE], "t1", 7, None])
def test_a_body_that_has_no_fields_is_refused_there_too(client, body):
    assert client.post("/api/notes", json=body, headers=GOOD).status_code == 400
