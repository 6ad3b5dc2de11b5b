"""The way of a request through a declared route, on the WSGI application, without sockets."""

import json
import time
from io import BytesIO

import eventlet
import marshmallow
import psycopg2
import pytest
from marshmallow import fields, validate
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from werkzeug.test import Client, create_environ, run_wsgi_app

from shared import budget, http_application, logs
from shared.http import Answer, Auth, Principal, Request, Schema, Stream, Waiting, application_of, route
from shared.http_body import read_body
from shared.http_exchange import WaitingRoom
from shared.http_problems import RequestTimeout
from shared.problems import Conflict, NotFound, Unauthenticated


class ThingRequest(Schema):
    name = fields.String(required=True, validate=validate.Length(1, 20))
    sizes = fields.List(fields.Integer(strict=True))
    part = fields.Nested(Schema.from_dict({"kind": fields.String(required=True)}, name="PartSchema"))


class ThingQuery(Schema):
    limit = fields.Integer(load_default=50, validate=validate.Range(1, 200))


class ThingSchema(Schema):
    id = fields.String()
    parts = fields.List(fields.Nested(Schema.from_dict({"kind": fields.String()}, name="PartOutSchema")))


class PriceSchema(Schema):
    amount = fields.Integer()


def _check(_service, request):
    if request.headers.get("Authorization") != "Bearer good":
        raise Unauthenticated
    return Principal(kind="key", id="key_1", name="a key", org_id="org_1")


key = Auth(scheme="key", description="a key", check=_check)


class Things:
    def __init__(self):
        self.asked = []
        self.polls = 0

    @route("GET", "/things/<thing_id>", auth=key, query=ThingQuery, answers={200: ThingSchema}, summary="One thing")
    def thing(self, request: Request, thing_id: str) -> Answer:
        self.asked.append((thing_id, request.query, request.org_id))
        return Answer(200, {"id": thing_id, "secret": "no", "parts": [{"kind": "leg", "cost": 3}]})

    @route("POST", "/things", auth=None, body=ThingRequest, answers={201: ThingSchema}, summary="Make a thing")
    def create(self, request: Request) -> Answer:
        self.asked.append(request.body)
        return Answer(201, {"id": "1"}, {"Location": "/things/1"})

    @route(
        "POST",
        "/files",
        auth=key,
        reads=("image/png",),
        max_body_bytes=200_000,
        answers={201: ThingSchema},
        summary="Send a file",
    )
    def file(self, request: Request) -> Answer:
        self.asked.append(request.raw)
        return Answer(201, {"id": "1"})

    @route("GET", "/broken", auth=None, answers={200: ThingSchema}, summary="Fails")
    def broken(self, _request: Request) -> Answer:
        raise RuntimeError("the password is hunter2")

    @route("GET", "/undeclared", auth=None, answers={200: ThingSchema}, summary="Answers what it should not")
    def undeclared(self, _request: Request) -> Answer:
        return Answer(418, {"id": "1"})

    @route("GET", "/down", auth=None, answers={200: ThingSchema}, summary="Its database is down")
    def down(self, _request: Request) -> Answer:
        raise psycopg2.OperationalError("connection to server at 10.0.0.1 failed")

    @route("GET", "/slow", auth=None, answers={200: ThingSchema}, summary="Hangs", time_limit_seconds=0.05)
    def slow(self, _request: Request) -> Answer:
        eventlet.sleep(30)
        return Answer(200, {})

    @route("GET", "/budget", auth=None, answers={200: None}, summary="Says what time is left")
    def budget(self, _request: Request) -> Answer:
        return Answer(200, str(budget.remaining_seconds(99)).encode(), {"Content-Type": "text/plain"})

    @route("GET", "/refused", auth=None, answers={}, problems=(Conflict,), summary="Refuses")
    def refused(self, _request: Request) -> Answer:
        raise Conflict("It is being made.", retry_after=3)

    @route("GET", "/stream", auth=None, answers={200: "application/zip"}, summary="Streams")
    def stream(self, _request: Request) -> Answer:
        return Answer(200, iter([b"ab", b"cd"]), {"Content-Type": "application/zip", "Content-Length": "4"})

    @route("GET", "/late", auth=None, answers={200: "text/csv"}, summary="Streams late", time_limit_seconds=0.05)
    def late(self, _request: Request) -> Answer:
        def pieces():
            eventlet.sleep(30)
            yield b"a"

        return Answer(200, Stream(pieces=pieces()), {"Content-Type": "text/csv"})

    @route("GET", "/made", auth=None, answers={200: "text/csv"}, summary="Streams without a length")
    def made(self, _request: Request) -> Answer:
        return Answer(200, Stream(pieces=iter([b"ab", b"", b"cd"])), {"Content-Type": "text/csv"})

    @route("GET", "/traced", auth=None, answers={200: "text/plain"}, summary="Says for which request it works")
    def traced(self, _request: Request) -> Answer:
        pieces = (f"{logs.correlation()[0]} ".encode() for _ in range(3))
        return Answer(200, Stream(pieces=pieces), {"Content-Type": "text/plain"})

    @route(
        "GET",
        "/either/<kind>",
        auth=None,
        answers={200: (ThingSchema, PriceSchema)},
        summary="Answers in one of two shapes",
    )
    def either(self, _request: Request, kind: str) -> Answer:
        return Answer(200, {"id": "7", "secret": "no"} if kind == "thing" else {"amount": 3, "secret": "no"})

    @route("GET", "/wait", auth=None, answers={200: ThingSchema, 202: ThingSchema}, summary="Waits")
    def wait(self, _request: Request) -> Waiting:
        def poll():
            self.polls += 1
            return Answer(200, {"id": "done"}) if self.polls == 3 else None

        return Waiting(first=Answer(202, {"id": "queued"}), poll=poll, seconds=5, waiter="key_1")


@pytest.fixture
def things():
    return Things()


@pytest.fixture
def client(things):
    return Client(application_of(things))


def test_an_answer_holds_what_its_schema_declares_and_nothing_else(client, things):
    answer = client.get("/things/7?limit=3", headers={"Authorization": "Bearer good"})

    assert answer.status_code == 200
    assert answer.json == {"id": "7", "parts": [{"kind": "leg"}]}
    assert answer.content_type == "application/json"
    assert things.asked == [("7", {"limit": 3}, "org_1")]


def test_every_member_of_the_problem_is_there(client):
    answer = client.get("/things/7", headers={"X-Request-Id": "req_mine"})

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.headers["X-Request-Id"] == "req_mine"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json == {
        "type": "/docs/errors#unauthenticated",
        "title": "A valid credential is needed",
        "status": 401,
        "detail": "A valid credential is needed",
        "instance": "/things/7",
        "code": "unauthenticated",
        "request_id": "req_mine",
        "errors": [],
        "retryable": False,
    }


@pytest.mark.parametrize("offered", ["", "a b", "x" * 101, "ü", "a,b", "<script>"])
def test_a_request_id_that_does_not_look_like_one_is_replaced(client, offered):
    answer = client.get("/broken", headers={"X-Request-Id": offered.encode().decode("latin-1")})

    assert answer.headers["X-Request-Id"].startswith("req_")


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("/name", "required")]),
        ({"name": None}, [("/name", "null")]),
        ({"name": ""}, [("/name", "invalid")]),
        ({"name": "a", "x/y~z": 1}, [("/x~1y~0z", "unknown_field")]),
        ({"name": "a", "sizes": [1, "2", 3]}, [("/sizes/1", "invalid")]),
        ({"name": "a", "part": {"kind": "b", "cost": 1}}, [("/part/cost", "unknown_field")]),
        ([], [("", "invalid")]),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_pointers(client, things, body, errors):
    answer = client.post("/things", json=body)

    assert answer.status_code == 400
    assert answer.json["code"] == "validation_failed"
    assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == errors
    assert things.asked == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"name": NaN}', b'{"name": "a\\u0000b"}', b'{"\\u0000": 1}', b"1" * 5000],
)
def test_a_body_that_is_no_json_is_a_bad_request(client, body):
    answer = client.post("/things", data=body, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json["code"] == "validation_failed"


@pytest.mark.parametrize("around", ['{"name":%s}', '{"name":%s,"more":"\\u0000"}', "%s"])
@pytest.mark.parametrize("levels", [65, 400, 970, 20_000])
def test_a_body_nested_deeper_than_anything_we_read_is_a_bad_request(client, around, levels):
    body = around % ("[" * levels + "]" * levels)

    answer = client.post("/things", data=body, content_type="application/json")

    assert answer.status_code == 400
    assert (answer.json["code"], answer.json["errors"][0]["pointer"]) == ("validation_failed", "")


def test_a_body_may_be_wide(client):
    body = b'{"name":"a","sizes":[' + b",".join([b"1"] * 1000) + b'],"part":{"kind":"leg"}}'

    assert client.post("/things", data=body, content_type="application/json").status_code == 201


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"name":"a","name":"b"}', ["/name"]),
        (b'{"name":"a","name":"a"}', ["/name"]),
        (b'{"name":"a","n\\u0061me":"b"}', ["/name"]),
        (b'{"name":"a","part":{"kind":"b","kind":"c","kind":"d"}}', ["/part/kind"]),
        (b'{"sizes":[1,{"x/y":1,"x/y":2}],"name":"a","name":"b"}', ["/name", "/sizes/1/x~1y"]),
        (b'{"part":{"kind":"b","kind":"c"},"name":"a","part":{"kind":"d"}}', ["/part"]),
    ],
)
def test_a_name_that_comes_twice_is_refused_with_its_pointer(client, things, body, pointers):
    answer = client.post("/things", data=body, content_type="application/json")

    assert (answer.status_code, answer.json["code"]) == (400, "validation_failed")
    assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == [
        (pointer, "duplicate") for pointer in pointers
    ]
    assert things.asked == []


def test_the_same_name_in_two_objects_is_not_twice(client):
    body = b'{"name":"kind","part":{"kind":"name"}}'

    assert client.post("/things", data=body, content_type="application/json").status_code == 201


@pytest.mark.parametrize("charset", ["utf-16", "UTF-16LE", "iso-8859-1", '"utf-7"', "''"])
def test_json_in_another_charset_is_not_read(client, things, charset):
    content_type = f"application/json; charset={charset}"

    answer = client.post("/things", data=b'{"name": "a"}', content_type=content_type)

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
    assert things.asked == []


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;CHARSET="UTF-8"',
        "application/merge-patch+json",
        "",
    ],
)
def test_json_says_its_charset_or_nothing(client, things, content_type):
    answer = client.post("/things", data='{"name": "ä"}'.encode(), content_type=content_type)

    assert (answer.status_code, things.asked) == (201, [{"name": "ä"}])


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "unheard-of"])
def test_a_compressed_body_is_not_taken_for_a_plain_one(client, things, coding):
    closed = []
    headers = {"Content-Encoding": coding}
    environ = {"darkroom.close": lambda: closed.append(True)}

    answer = client.post("/things", json={"name": "a"}, headers=headers, environ_overrides=environ)

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
    assert (things.asked, closed) == ([], [True])


def test_a_body_may_say_that_it_is_not_compressed(client):
    assert client.post("/things", json={"name": "a"}, headers={"Content-Encoding": "identity"}).status_code == 201


def test_a_form_is_told_to_come_as_json(client):
    answer = client.post("/things", data={"name": "a"})

    assert answer.status_code == 415
    assert answer.json["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "query",
    [
        *("limt=3", "limit=0", "limit=201", "limit=x", "limit=1&limit=2", "limit=%00", "limit="),
        *("limit=1_0", "limit=%2B5", "limit=+5", "limit=5%20", "limit=%D9%A3", "limit=5.0", "limit=" + "1" * 5000),
    ],
)
def test_a_query_that_does_not_fit_is_refused(client, query):
    answer = client.get(f"/things/7?{query}", headers={"Authorization": "Bearer good"})

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"].startswith("/query/lim")


def test_no_text_of_an_unexpected_error_reaches_the_client(client):
    answer = client.get("/broken")

    assert answer.status_code == 500
    assert answer.json["code"] == "internal_error"
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text


def test_the_request_id_of_a_failure_finds_in_the_logs_what_the_client_was_not_told(client):
    with capture_logs(processors=[merge_contextvars]) as lines:
        answer = client.get("/broken")

    (line,) = [line for line in lines if line["event"] == "request_failed"]
    assert line["request_id"] == answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert "hunter2" in str(line["exc_info"])


def test_a_status_that_is_not_declared_is_our_mistake(client):
    assert client.get("/undeclared").status_code == 500


def test_a_database_that_is_down_answers_503(client):
    answer = client.get("/down")

    assert answer.status_code == 503
    assert answer.json["code"] == "service_unavailable"
    assert answer.json["retryable"] is True
    assert answer.headers["Retry-After"] == "1"
    assert "10.0.0.1" not in answer.text


def test_a_handler_that_hangs_is_interrupted(client):
    started = time.monotonic()

    answer = client.get("/slow")

    assert answer.status_code == 503
    assert time.monotonic() - started < 2


def test_a_request_has_two_seconds_in_all(client):
    left = float(client.get("/budget").text)

    assert 1 < left <= 2


def test_a_refusal_says_when_to_try_again(client):
    answer = client.get("/refused")

    assert answer.status_code == 409
    assert answer.headers["Retry-After"] == "3"


def test_an_unknown_address_and_a_wrong_method_are_problems_too(client):
    unknown = client.get("/nothing")
    trailing = client.get("/broken/")
    wrong = client.delete("/things")

    assert (unknown.status_code, unknown.json["code"]) == (404, "not_found")
    assert (trailing.status_code, trailing.json["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "POST"


def test_head_answers_like_get_without_the_body(client):
    answer = client.head("/stream")

    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == "4"
    assert answer.data == b""


def test_options_lists_the_methods_of_an_address(client):
    known = client.options("/things/7")
    unknown = client.options("/nothing")

    assert (known.status_code, known.headers["Allow"]) == (204, "GET, HEAD")
    assert unknown.status_code == 404


def test_a_body_in_pieces_is_sent_with_its_length(client):
    answer = client.get("/stream")

    assert answer.data == b"abcd"
    assert answer.headers["Content-Length"] == "4"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_in_pieces_needs_no_length(client):
    answer = client.get("/made")

    assert answer.data == b"abcd"
    assert "Content-Length" not in answer.headers
    assert answer.headers["Cache-Control"] == "private, no-store"


def test_every_piece_of_a_body_is_made_for_its_request(client):
    answer = client.get("/traced", headers={"X-Request-Id": "req_mine"})

    assert answer.text.split() == ["req_mine"] * 3


def test_the_first_piece_of_a_body_is_part_of_the_requests_time(client):
    started = time.monotonic()

    answer = client.get("/late")

    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert time.monotonic() - started < 2


def test_of_several_shapes_each_is_cut_to_what_is_declared(client):
    assert client.get("/either/thing").json == {"id": "7"}
    assert client.get("/either/price").json == {"amount": 3}


def test_a_body_above_the_limit_is_refused_before_it_is_read(client):
    unread = _Unread()

    status, problem = _send(client, "/things", source=unread, length=65 << 10)

    assert status == 413
    assert problem["limit"] == 64 << 10
    assert unread.reads == 0


def test_a_large_body_is_read_only_from_a_known_client(client):
    unread = _Unread()

    status, _ = _send(client, "/files", source=unread, length=200_000)

    assert status == 401
    assert unread.reads == 0


def test_a_known_client_may_send_a_large_body(client, things):
    answer = client.post("/files", data=b"x" * 150_000, headers={"Authorization": "Bearer good"})

    assert answer.status_code == 201
    assert things.asked == [b"x" * 150_000]


def test_a_chunked_body_is_counted_while_it_is_read():
    endless = _Endless()
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": endless}

    with pytest.raises(Exception, match="at most"):
        read_body(environ, max_bytes=100_000)

    assert endless.given == 100_001


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("shared.http_body._BASE_SECONDS", 0.05)

    with pytest.raises(RequestTimeout):
        read_body({"CONTENT_LENGTH": "10", "wsgi.input": _Stuck()}, max_bytes=100)


def test_a_body_that_ends_early_is_refused(client):
    status, problem = _send(client, "/things", source=BytesIO(b'{"name"'), length=20)

    assert (status, problem["code"]) == (400, "malformed_request")


def test_who_waits_gets_the_outcome_when_it_is_there(client, things):
    answer = client.get("/wait")

    assert (answer.status_code, answer.json) == (200, {"id": "done"})
    assert things.polls == 3


def _waiting(waiter, *, seconds=1.0, poll=lambda: None):
    return Waiting(first=Answer(202, waiter), poll=poll, seconds=seconds, waiter=waiter)


def test_at_most_two_of_one_key_wait_and_the_third_is_answered_at_once():
    nested = []
    room = WaitingRoom(sleep=lambda _seconds: None)

    def poll_then_wait(depth):
        def poll():
            if depth < 3:
                nested.append(room.wait(_waiting("key_1", poll=poll_then_wait(depth + 1)), now=time.monotonic))
            return Answer(200, depth)

        return poll

    room.wait(_waiting("key_1", poll=poll_then_wait(1)), now=time.monotonic)

    assert [answer.status for answer in nested] == [202, 200]


def test_a_full_waiting_room_answers_at_once():
    room = WaitingRoom(sleep=lambda _seconds: None, in_all=0)

    assert room.wait(_waiting("key_1", poll=lambda: Answer(200)), now=time.monotonic).status == 202


def test_a_closing_process_sends_home_who_waits():
    room = WaitingRoom(sleep=lambda _seconds: room.close())

    answer = room.wait(_waiting("key_1", seconds=3600), now=time.monotonic)

    assert answer.status == 202


def test_waiting_ends_when_its_time_is_up():
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds

    room = WaitingRoom(sleep=sleep)

    answer = room.wait(_waiting("key_1", seconds=10), now=lambda: clock[0])

    assert answer.status == 202
    assert clock[0] == pytest.approx(10)


def test_requests_are_counted_by_route_not_by_address(client):
    before = _count("/things/<thing_id>", "GET", "401")

    client.get("/things/1")
    client.get("/things/2")

    assert _count("/things/<thing_id>", "GET", "401") == before + 2


def test_the_time_to_answer_is_measured_by_route(client):
    name, labels = "darkroom_http_request_seconds", {"route": "/things/<thing_id>"}
    before = REGISTRY.get_sample_value(f"{name}_count", labels) or 0

    client.get("/things/1")
    client.get("/things/2")

    assert REGISTRY.get_sample_value(f"{name}_count", labels) == before + 2
    assert REGISTRY.get_sample_value(f"{name}_bucket", {**labels, "le": "+Inf"}) == before + 2


def test_an_unknown_method_does_not_become_a_label(client):
    before = _count("unmatched", "other", "405")

    client.open("/things", method="BREW")

    assert _count("unmatched", "other", "405") == before + 1


def test_a_guard_is_asked_before_the_body_is_looked_at():
    seen = []

    def guard(_service, request, proceed):
        seen.append(request.body)
        try:
            return proceed()
        except NotFound:
            return Answer(201, {"id": "guarded"})

    class Guarded:
        @route("POST", "/g", auth=None, body=ThingRequest, guard=guard, answers={201: ThingSchema}, summary="Guarded")
        def make(self, _request: Request) -> Answer:
            raise NotFound

    client = Client(application_of(Guarded()))

    bad = client.post("/g", json={"unknown": 1})
    good = client.post("/g", json={"name": "a"})

    assert (bad.status_code, good.status_code) == (400, 201)
    assert good.json == {"id": "guarded"}
    assert seen == [{}, {}]


def test_of_large_bodies_few_are_worked_on_at_once_and_the_next_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(http_application, "LARGE_BODIES_AT_ONCE", 1)
    at_work, go_on = eventlet.Event(), eventlet.Event()

    large = {"auth": key, "reads": ("image/png",), "max_body_bytes": 2_000_000, "answers": {201: ThingSchema}}

    class Files:
        @route("POST", "/slow", summary="Slow", time_limit_seconds=30, **large)
        def slow(self, _request: Request) -> Answer:
            at_work.send()
            go_on.wait()
            return Answer(201, {"id": "1"})

        @route("POST", "/quick", summary="Quick", time_limit_seconds=0.2, **large)
        def quick(self, _request: Request) -> Answer:
            return Answer(201, {"id": "1"})

        @route("POST", "/modest", summary="Modest", **{**large, "max_body_bytes": 1_000_000})
        def modest(self, _request: Request) -> Answer:
            return Answer(201, {"id": "1"})

    client = Client(application_of(Files()))
    send = {"headers": {"Authorization": "Bearer good"}}

    first = eventlet.spawn(client.post, "/slow", data=b"first", **send)
    at_work.wait()
    refused = client.post("/quick", data=b"second", **send)
    beside = client.post("/modest", data=b"beside", **send)
    go_on.send()
    first_answer = first.wait()
    again = client.post("/quick", data=b"third", **send)

    assert (refused.status_code, refused.json["code"]) == (503, "reduced_capacity")
    assert (refused.headers["Retry-After"], refused.json["retryable"]) == ("2", True)
    assert (first_answer.status_code, again.status_code, beside.status_code) == (201, 201, 201)


def test_a_schema_refuses_what_it_does_not_know():
    assert Schema.Meta.unknown == marshmallow.RAISE


def _send(client, path, *, source, length):
    """Post as a server hands it over: the body still in the socket."""
    environ = create_environ(path, method="POST")
    environ.update({"CONTENT_LENGTH": str(length), "wsgi.input": source})
    body, status, _ = run_wsgi_app(client.application, environ)
    return int(status.split()[0]), json.loads(b"".join(body))


def _count(url, method, status):
    labels = {"route": url, "method": method, "status": status}
    return REGISTRY.get_sample_value("darkroom_http_requests_total", labels) or 0


class _Unread:
    def __init__(self):
        self.reads = 0

    def read(self, _size=-1):
        self.reads += 1
        return b""


class _Endless:
    def __init__(self):
        self.given = 0

    def read(self, size):
        self.given += size
        return b"x" * size


class _Stuck:
    def read(self, _size):
        eventlet.sleep(30)
        return b""
