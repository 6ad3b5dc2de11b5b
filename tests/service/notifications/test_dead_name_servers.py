"""Receivers whose name servers answer nothing: their own affair, and nobody else's."""

import socket

import pytest
from eventlet import patcher

from services.notifications import webhooks
from shared import outside_names
from shared.ids import new_id
from tests.fakes import FakeReceiver
from tests.polling import until
from tests.service.notifications.hooks import (
    a_post,
    an_endpoint,
    deliveries,
    endpoint_now,
    pass_time,
    posting_on,
    tell,
)
from tests.service.notifications.told import started

HERE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def receiver():
    with FakeReceiver().running() as server:
        yield server


@pytest.fixture
def name_servers(monkeypatch):
    """Of names that begin with ``dead`` nothing is known until the test says that it is over."""
    over = patcher.original("threading").Event()

    def look_up(host, *_):
        if host.startswith("dead"):
            over.wait(20)
        return HERE

    monkeypatch.setattr(outside_names, "_getaddrinfo", look_up)
    monkeypatch.setattr(outside_names, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(webhooks, "SECONDS", 3.0)
    yield over
    over.set()


def endpoints_at(db, port, names, *, org_id):
    """Make endpoints without asking for their names."""
    known = a_post(f"127.0.0.1:{port}", resolve=lambda _host, _seconds, **_: ["127.0.0.1"])
    return [an_endpoint(db, known, f"http://{name}.example:{port}/hook", org_id=org_id) for name in names]


def test_they_hold_up_no_other_organization_and_a_wait_for_a_turn_is_no_attempt(
    notifications_db, receiver, name_servers, tamper
):
    port = receiver.place.partition(":")[2]
    one, other = new_id("org"), new_id("org")
    dead = endpoints_at(notifications_db, port, [f"dead{number}" for number in range(10)], org_id=one)
    [alive] = endpoints_at(notifications_db, port, ["alive"], org_id=other)

    def sent_to(endpoint):
        return deliveries(notifications_db, endpoint, org_id=endpoint["org_id"])[0]

    for endpoint in dead:
        endpoint["org_id"] = one
    alive["org_id"] = other
    with posting_on(notifications_db, a_post(f"127.0.0.1:{port}")):
        tell(notifications_db, started(one))
        until(lambda: sum(sent_to(each)["failure"] is not None for each in dead) >= 8, seconds=2)
        tell(notifications_db, started(other))
        until(lambda: sent_to(alive)["status"] == "delivered", seconds=2)
        postponed = [each for each in dead if "looked up" in (sent_to(each)["failure"] or "")]
        assert len(postponed) == 8
        assert [(sent_to(each)["attempt"], sent_to(each)["attempts"]) for each in postponed] == [(0, [])] * 8
        assert not any(endpoint_now(notifications_db, each, org_id=one)["failing_since"] for each in postponed)

        name_servers.set()
        pass_time(tamper, 10)
        until(lambda: all(sent_to(each)["status"] == "delivered" for each in postponed))

    assert [[tried["number"] for tried in sent_to(each)["attempts"]] for each in postponed] == [[1]] * 8
