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


class Likes:
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
PATHS = openapi_document(Likes)["paths"]


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
    assert len({each["operationId"] for item in PATHS.values() for each in item.values()}) == 6
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
