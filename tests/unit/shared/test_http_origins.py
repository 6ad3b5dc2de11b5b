"""What browsers are told about web pages that call, and about answers that are opened in them."""

import pytest
from werkzeug.test import Client

from shared.http import Answer, Request, application_of, route
from shared.http_origins import Origins

APP = "https://app.example.com"
STRANGER = "https://evil.example.com"


class Shop:
    @route("GET", "/open", auth=None, answers={204: None}, summary="Whether it is open")
    def is_open(self, _request: Request) -> Answer:
        return Answer(204)

    @route("GET", "/page", auth=None, answers={200: "text/html"}, summary="A page of its own")
    def page(self, _request: Request) -> Answer:
        return Answer(200, b"<p>", {"Content-Type": "text/html", "Content-Security-Policy": "default-src 'self'"})


@pytest.fixture
def client():
    return Client(application_of(Shop(), origins=Origins([APP])))


@pytest.mark.parametrize(("path", "status"), [("/open", 204), ("/nowhere", 404), ("/open?what=1", 400)])
def test_a_page_that_may_call_can_read_every_answer_and_its_headers(client, path, status):
    answer = client.get(path, headers={"Origin": APP})

    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert {"ETag", "Retry-After", "RateLimit", "X-Request-Id"} <= set(
        answer.headers["Access-Control-Expose-Headers"].split(", ")
    )
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [STRANGER, "null", APP + ".evil.example.com", APP.upper(), None])
def test_any_other_page_can_read_nothing(client, origin):
    answer = client.get("/open", headers={"Origin": origin} if origin else {})

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"


def test_no_page_may_send_cookies(client):
    assert "Access-Control-Allow-Credentials" not in client.get("/open", headers={"Origin": APP}).headers


def test_a_browser_is_told_before_what_a_page_may_send(client):
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}

    told = client.options("/open", headers={"Origin": APP, **asked})
    refused = client.options("/open", headers={"Origin": STRANGER, **asked})

    assert told.status_code == 204
    assert "GET" in told.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Idempotency-Key", "If-Match"} <= set(
        told.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Access-Control" not in str(refused.headers)


def test_where_no_page_may_call_nothing_is_said_of_it():
    client = Client(application_of(Shop()))

    answer = client.get("/open", headers={"Origin": APP})

    assert "Vary" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_page_may_call_where_the_setting_says_so():
    client = Client(application_of(Shop(), origins=Origins(["*"])))

    assert client.get("/open", headers={"Origin": STRANGER}).headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["/open", "/nowhere", "/page"])
def test_every_answer_tells_a_browser_to_do_nothing_with_it(client, path):
    headers = client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == (
        "default-src 'self'" if path == "/page" else "default-src 'none'; frame-ancestors 'none'"
    )
    assert "Strict-Transport-Security" not in headers


def test_a_client_that_comes_by_https_is_told_to_keep_to_it():
    client = Client(application_of(Shop(), encrypted=True))

    assert client.get("/open").headers["Strict-Transport-Security"] == "max-age=31536000"
