"""How often one may ask: who is counted, what is told, and what happens where nobody counts together."""

import socket
import time

import pytest
from werkzeug.test import Client

from shared.http import Answer, Auth, Principal, Request, application_of, route
from shared.http_limits import Counters, Limits, client_address
from shared.http_problems import Quota, RateLimited, quota_headers
from shared.problems import Forbidden, Unauthenticated


def _check(_service, request):
    credential = request.headers.get("Authorization", "")
    if not credential:
        raise Unauthenticated
    if credential == "no rights":
        raise Forbidden
    return Principal(kind="key", id=credential, name="a key", org_id="org_1")


class Door:
    def __init__(self):
        self.passed = 0

    @route(
        "GET",
        "/in",
        auth=Auth(scheme="key", description="a key", check=_check),
        answers={204: None},
        summary="Goes in",
    )
    def enter(self, _request: Request) -> Answer:
        self.passed += 1
        return Answer(204)

    @route("GET", "/alive", auth=None, answers={204: None}, summary="Whether it answers", quiet=True)
    def alive(self, _request: Request) -> Answer:
        return Answer(204)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at the beginning of a minute until it is moved."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def a_door(**limits):
    door = Door()
    policies = {"address": None, "credential": None, "refused": None, **limits}
    return door, Client(application_of(door, limits=Limits(**policies), proxies=1))


def ask(client, *, key="key_1", address="192.0.2.1", path="/in"):
    return client.get(path, headers={"Authorization": key, "X-Forwarded-For": address})


@pytest.mark.usefixtures("clock")
def test_an_address_that_asks_too_often_is_refused_and_told_when_to_come_back():
    door, client = a_door(address="3/minute")

    statuses = [ask(client).status_code for _ in range(3)]
    refused = ask(client)

    assert (statuses, door.passed) == ([204] * 3, 3)
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limited")
    assert refused.json["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert refused.json["violated-policies"] == ["address"]
    assert refused.json["retryable"] is True
    assert refused.headers["Retry-After"] == "60"
    assert refused.headers["RateLimit"] == '"address";r=0;t=60'
    assert ask(client, address="192.0.2.2").status_code == 204


@pytest.mark.usefixtures("clock")
def test_every_answer_says_what_is_left():
    _, client = a_door(address="3/minute", credential="2/hour")

    answer = ask(client)

    assert answer.headers["RateLimit-Policy"] == '"address";q=3;w=60, "credential";q=2;w=3600'
    assert answer.headers["RateLimit"].startswith('"address";r=2;t=60, "credential";r=1;t=')


@pytest.mark.usefixtures("clock")
def test_a_credential_is_counted_wherever_it_comes_from():
    _, client = a_door(credential="2/minute")

    statuses = [ask(client, address=f"192.0.2.{number}").status_code for number in range(3)]
    other = ask(client, key="key_2")

    assert statuses == [204, 204, 429]
    assert other.status_code == 204


@pytest.mark.usefixtures("clock")
def test_the_address_comes_before_the_credential_and_the_credential_after_its_rights():
    _, client = a_door(address="2/minute", credential="1/minute")

    without = ask(client, key="", address="192.0.2.1")
    without_rights = [ask(client, key="no rights", address=f"192.0.2.{number}") for number in (2, 3)]
    too_often = [ask(client, key="", address="192.0.2.1") for _ in range(2)][-1]

    assert without.status_code == 401
    assert [answer.status_code for answer in without_rights] == [403, 403]
    assert too_often.status_code == 429


@pytest.mark.usefixtures("clock")
def test_an_address_that_guesses_credentials_is_kept_out():
    door, client = a_door(refused="2/minute")
    guesses = [ask(client, key="").status_code for _ in range(2)]

    kept_out = ask(client)

    assert guesses == [401, 401]
    assert (kept_out.status_code, kept_out.json["code"], door.passed) == (429, "abnormal_usage", 0)
    assert kept_out.json["type"].endswith("#abnormal-usage-detected")
    assert int(kept_out.headers["Retry-After"]) > 0
    assert ask(client, address="192.0.2.2").status_code == 204


@pytest.mark.usefixtures("clock")
def test_what_leads_nowhere_counts_and_what_watches_the_process_does_not():
    _, client = a_door(address="2/minute")

    watched = [ask(client, path="/alive").status_code for _ in range(5)]
    lost = [ask(client, path="/nowhere").status_code for _ in range(3)]

    assert watched == [204] * 5
    assert lost == [404, 404, 429]


def test_the_window_slides(clock):
    _, client = a_door(address="4/minute")
    clock[0] += 30
    statuses = [ask(client).status_code for _ in range(5)]

    clock[0] += 30  # a new minute, of which nothing has passed: all four of the last one still count
    at_once = ask(client).status_code
    clock[0] += 30  # half of it has: two still count
    later = [ask(client).status_code for _ in range(3)]
    clock[0] += 120
    much_later = [ask(client).status_code for _ in range(5)]

    assert statuses == [204] * 4 + [429]
    assert at_once == 429
    assert later == [204, 204, 429]
    assert much_later == [204] * 4 + [429]


def test_there_are_never_more_counters_than_allowed():
    counters = Counters(most=10)

    for number in range(100):
        counters.acquire_sliding_window_entry(str(number), 5, 60)

    assert counters.reset() == 10


@pytest.mark.parametrize(
    ("noted", "proxies", "whom"),
    [
        ("", 0, "127.0.0.1"),
        ("192.0.2.9", 0, "127.0.0.1"),  # no proxy of ours: anybody may say that
        ("192.0.2.9", 1, "192.0.2.9"),
        ("10.0.0.1, 192.0.2.9", 1, "192.0.2.9"),
        ("10.0.0.1, 192.0.2.9, 192.0.2.10", 2, "192.0.2.9"),
        ("192.0.2.9", 2, "127.0.0.1"),  # it did not come by both
        ("2001:db8:1:2:3::4", 1, "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.9", 1, "192.0.2.9"),
        ("nonsense", 1, "nonsense"),
    ],
)
def test_whom_a_request_is_counted_for(noted, proxies, whom):
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": noted}

    assert client_address(environ, proxies=proxies) == whom


def test_the_fields_are_structured_as_the_draft_has_them():
    quotas = [Quota(policy="a", quota=10, window_seconds=60, remaining=9, seconds=5)]

    assert quota_headers(quotas) == {"RateLimit-Policy": '"a";q=10;w=60', "RateLimit": '"a";r=9;t=5'}
    assert quota_headers([]) == {}


def test_where_redis_is_gone_everybody_counts_alone_and_nobody_waits():
    gone = socket.socket()
    gone.bind(("127.0.0.1", 0))  # and never listens
    limits = Limits(address="2/minute", credential=None, refused=None, storage_url=_url(gone))
    started = time.monotonic()

    for _ in range(2):
        limits.let_in("192.0.2.1")

    with pytest.raises(RateLimited):
        limits.let_in("192.0.2.1")
    assert time.monotonic() - started < 2
    gone.close()


def test_where_redis_says_nothing_one_request_waits_a_moment_and_the_others_do_not():
    silent = socket.create_server(("127.0.0.1", 0))
    limits = Limits(address="1000/minute", credential=None, refused=None, storage_url=_url(silent))
    limits.let_in("192.0.2.1")
    started = time.monotonic()

    for _ in range(100):
        limits.let_in("192.0.2.1")

    assert time.monotonic() - started < 0.5
    silent.close()


def _url(server):
    return f"redis://127.0.0.1:{server.getsockname()[1]}"
