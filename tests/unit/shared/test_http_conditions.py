"""Conditional requests: what has not changed is not sent again, and what has changed is not overwritten unseen."""

import pytest
from marshmallow import fields
from werkzeug.test import Client

from shared.http import Answer, Auth, Principal, Request, Schema, application_of, route
from shared.http_schemas import SignedAddress

key = Auth(scheme="key", description="a key", check=lambda *_: Principal(kind="key", id="1", name="a", org_id="org_1"))


class PageSchema(Schema):
    url = SignedAddress()


class BookSchema(Schema):
    version = fields.Integer()
    title = fields.String()
    pages = fields.List(fields.Nested(PageSchema))


class NoteSchema(Schema):
    text = fields.String()


class Library:
    def __init__(self):
        self.book = {"version": 3, "title": "Emma", "pages": [{"url": "http://a/1?expires=1&signature=x"}], "cost": 1}
        self.note = {"text": "?signature=is not an address here"}

    @route("GET", "/book", auth=key, answers={200: BookSchema}, summary="The book")
    def read(self, _request: Request) -> Answer:
        return Answer(200, self.book, {"Retry-After": "5"})

    @route("GET", "/note", auth=key, answers={200: NoteSchema}, summary="A note")
    def read_note(self, _request: Request) -> Answer:
        return Answer(200, self.note)

    @route("GET", "/open", auth=None, answers={200: NoteSchema}, summary="For everybody")
    def opening(self, _request: Request) -> Answer:
        return Answer(200, self.note)

    @route(
        "PUT",
        "/book/<title>",
        auth=key,
        answers={200: BookSchema},
        current=(BookSchema, lambda service, _request, title: service.book if title else {}),
        summary="Name it",
    )
    def name(self, _request: Request, title: str) -> Answer:
        self.book |= {"title": title, "version": self.book["version"] + 1}
        return Answer(200, self.book)

    @route(
        "DELETE",
        "/note",
        auth=key,
        answers={204: None},
        current=(NoteSchema, lambda service, _request: service.note),
        summary="Throw it away",
    )
    def throw_away(self, _request: Request) -> Answer:
        self.note = {}
        return Answer(204)


@pytest.fixture
def library():
    return Library()


@pytest.fixture
def client(library):
    return Client(application_of(library))


def test_what_the_client_has_already_is_not_sent_again(client):
    first = client.get("/book")

    again = client.get("/book", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})

    assert first.status_code == 200
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert again.headers["Retry-After"] == "5"
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert "Content-Type" not in again.headers
    assert "Content-Length" not in again.headers


@pytest.mark.parametrize("header", ["*", 'W/"{}"', '"{}"', ' "a" ,W/"{}" '])
def test_a_tag_is_known_in_every_way_it_may_be_written(client, header):
    tag = client.get("/book").headers["ETag"].strip('"')

    assert client.get("/book", headers={"If-None-Match": header.format(tag)}).status_code == 304


@pytest.mark.parametrize("header", ["", "nonsense", '"other"', '"', "9"])
def test_another_tag_gets_the_whole_answer(client, header):
    assert client.get("/book", headers={"If-None-Match": header}).status_code == 200


def test_a_new_signature_is_no_new_state_but_another_address_is(client, library):
    tag = client.get("/book").headers["ETag"]

    library.book["pages"][0]["url"] = "http://a/1?expires=2&signature=y"
    signed_anew = client.get("/book").headers["ETag"]
    library.book["pages"][0]["url"] = "http://a/2?expires=2&signature=y"

    assert signed_anew == tag
    assert client.get("/book").headers["ETag"] != tag


def test_what_only_reads_like_a_signature_counts(client, library):
    tag = client.get("/note").headers["ETag"]

    library.note["text"] = "?signature=is something else here"

    assert client.get("/note").headers["ETag"] != tag


def test_what_the_client_may_not_see_does_not_change_the_tag(client, library):
    tag = client.get("/book").headers["ETag"]

    library.book["cost"] = 2

    assert client.get("/book").headers["ETag"] == tag


def test_an_answer_for_everybody_has_no_tag(client):
    assert "ETag" not in client.get("/open").headers


def test_a_change_of_what_the_client_saw_is_made(client, library):
    tag = client.get("/book").headers["ETag"]

    answer = client.put("/book/Persuasion", headers={"If-Match": tag})

    assert answer.status_code == 200
    assert library.book["title"] == "Persuasion"


def test_a_change_of_what_has_changed_since_is_refused_with_the_current_state(client, library):
    tag = client.get("/book").headers["ETag"]
    client.put("/book/Persuasion")

    answer = client.put("/book/Sanditon", headers={"If-Match": tag})

    assert (answer.status_code, answer.json["code"]) == (412, "precondition_failed")
    assert (answer.json["current"]["title"], answer.json["current"]["version"]) == ("Persuasion", 4)
    assert "cost" not in answer.json["current"]
    assert answer.json["etag"] == client.get("/book").headers["ETag"]
    assert library.book["title"] == "Persuasion"


def test_a_version_decides_alone(client, library):
    tag = client.get("/book").headers["ETag"]
    library.book["title"] = "Emma, illustrated"  # derived, say: the version has not changed

    assert client.put("/book/Persuasion", headers={"If-Match": tag}).status_code == 200


def test_where_there_is_no_version_the_whole_state_decides(client, library):
    tag = client.get("/note").headers["ETag"]
    library.note = {"text": "changed"}

    refused = client.delete("/note", headers={"If-Match": tag})
    accepted = client.delete("/note", headers={"If-Match": refused.json["etag"]})

    assert (refused.status_code, refused.json["current"]) == (412, {"text": "changed"})
    assert accepted.status_code == 204


@pytest.mark.parametrize("header", ["nonsense", "", '"3"x'])
def test_a_condition_that_cannot_be_read_is_not_met(client, header):
    expected = {"nonsense": 412, "": 412, '"3"x': 200}[header]  # the last names version 3, and then something else

    assert client.put("/book/Persuasion", headers={"If-Match": header}).status_code == expected


def test_any_state_will_do_for_a_star(client):
    assert client.put("/book/Persuasion", headers={"If-Match": "*"}).status_code == 200
