"""Streams under those who mean ill, and at the worst moment: real sockets, gateway and notifications as processes."""

import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
import requests
import sqlalchemy as sa

from darkroom_client import Darkroom, NoAnswer
from services.gateway.models import ApiKey, Member
from services.gateway.streams import PER_PRINCIPAL
from shared import events
from shared.events import EventRecorded
from shared.ids import new_id
from tests.polling import until
from tests.service.notifications.gateways import Follower, client_that_does_not_read
from tests.service.notifications.test_event_log_on_the_broker import logs, process, publish
from tests.service.notifications.told import failed, started

pytestmark = pytest.mark.broker


def recorded(db, org_id):
    return len(logs(db).get(org_id, ()))


@pytest.fixture
def backlog(gateway, environment, notifications_db, studio, tmp_path) -> Iterator[int]:
    """Let notifications run, and 100 events of 16 kB be in the log; gives how many there are in all."""
    org_id, _ = studio
    assert gateway.is_ready()  # it tells that the organization was made
    with process(environment, log=tmp_path / "notifications.log"):
        publish(environment["AMQP_URL"], [failed(org_id, message="m" * 16_000) for _ in range(100)])
        until(lambda: recorded(notifications_db, org_id) == 101, seconds=60)
        yield 101


def revoke(db, _org_id):
    with db.transaction() as session:
        session.execute(sa.update(ApiKey).values(revoked_at=sa.func.now()))


def remove(db, org_id):
    with db.transaction() as session:
        session.execute(sa.update(Member).where(Member.org_id == org_id).values(status="removed"))


def expire(db, _org_id):
    with db.transaction() as session:
        session.execute(sa.update(ApiKey).values(expires_at=sa.func.now()))


def trickle(sock, *, over: threading.Event) -> Callable[[], float]:
    """Read 10 kB a second, as slow as is borne with; return what gives the seconds until the connection was broken."""
    began = time.monotonic()
    took: list[float] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.05) and sock.recv(512):
                pass
        took.append(time.monotonic() - began)

    sock.settimeout(20)
    threading.Thread(target=read, daemon=True).start()
    return lambda: took[0] if took else 0.0


@pytest.mark.parametrize("end", [revoke, remove, expire])
@pytest.mark.usefixtures("backlog")
def test_a_backlog_that_is_taken_in_drops_ends_with_the_credential(gateway, gateway_db, studio, end):
    """What was begun would else be sent on for minutes."""
    org_id, key = studio
    over = threading.Event()
    with client_that_does_not_read(gateway, key) as sock:
        until(lambda: gateway.open_streams() == 1, seconds=20)
        assert sock.recv(64)
        end(gateway_db, org_id)
        ended = trickle(sock, over=over)

        # Five seconds are how long a credential is remembered; what the system had taken for the client comes after it.
        until(ended, seconds=12, what="the connection to be broken")
        over.set()

    until(lambda: gateway.open_streams() == 0, seconds=5, what="the stream to be gone")


def test_a_gateway_that_is_killed_within_a_backlog_leaves_nobody_a_gap(gateway, studio, followers, backlog):
    _, key = studio
    followers += [Follower(gateway, key, after="0") for _ in range(5)]
    for least in (10, 40):
        until(lambda least=least: all(len(one.ids) >= least for one in followers), seconds=60)
        gateway.end()
        gateway.start()

    until(lambda: all(len(one.ids) >= backlog for one in followers), seconds=60)

    assert [one.ids for one in followers] == [list(range(1, backlog + 1))] * 5


def heard_by_client(gateway, key) -> list[int]:
    """Follow by our own client from now on, in a thread; return the list that fills."""
    heard: list[int] = []

    def listen() -> None:
        # It goes on until the gateway is gone for good, at the end of the test.
        with suppress(NoAnswer), Darkroom(key, base_url=f"http://127.0.0.1:{gateway.port}") as darkroom:
            heard.extend(int(event.id) for event in darkroom.events.stream())

    threading.Thread(target=listen, daemon=True).start()
    return heard


def test_who_began_now_misses_nothing_when_the_gateway_is_killed_before_the_first_event(
    gateway, environment, notifications_db, studio, followers, tmp_path
):
    org_id, key = studio
    with process(environment, log=tmp_path / "notifications.log"):
        until(lambda: recorded(notifications_db, org_id) == 1, seconds=20)
        followers.append(Follower(gateway, key))
        heard = heard_by_client(gateway, key)
        until(lambda: gateway.open_streams() == 2 and followers[0].last == "1", seconds=20)

        gateway.end()
        publish(environment["AMQP_URL"], [started(org_id) for _ in range(3)])
        until(lambda: recorded(notifications_db, org_id) == 4, seconds=20)
        gateway.start()

        until(lambda: len(followers[0].ids) >= 3 and len(heard) >= 3, seconds=30)

    assert (followers[0].ids, heard) == ([2, 3, 4], [2, 3, 4])


def test_while_the_log_is_away_everybody_is_told_that_we_are_there(
    gateway, environment, notifications_db, studio, followers, tmp_path
):
    """Frozen, and so silent: each look into it waits as long as it may."""
    org_id, key = studio
    with process(environment, log=tmp_path / "notifications.log") as running:
        until(lambda: recorded(notifications_db, org_id) == 1, seconds=20)
        followers += [Follower(gateway, key) for _ in range(20)]
        until(lambda: all(one.last == "1" for one in followers), seconds=20)
        ended = [one.ended for one in followers]
        os.kill(running.pid, signal.SIGSTOP)
        try:
            frozen = time.monotonic()
            publish(environment["AMQP_URL"], [too_large_to_pass(org_id)])
            until(lambda: all(one.heard_at[-1] > frozen + 16 for one in followers), seconds=40)
        finally:
            os.kill(running.pid, signal.SIGCONT)
        publish(environment["AMQP_URL"], [started(org_id)])
        until(lambda: all(one.ids for one in followers), seconds=30)

    assert max(longest_silence(one.heard_at, since=frozen) for one in followers) < 15
    assert [one.ended for one in followers] == ended


def too_large_to_pass(org_id):
    """Return what lets every stream look into the log."""
    meta = events.correlated(new_id("req"))
    return EventRecorded(meta=meta, org_id=org_id, orgsequence=2, type="JobFinished", event=None)


def longest_silence(times, *, since):
    heard = [since, *(each for each in times if each > since)]
    return max(later - earlier for earlier, later in itertools.pairwise(heard))


@pytest.mark.usefixtures("notifications_db")
def test_one_key_that_opens_streams_without_end_leaves_the_others_theirs(
    gateway, environment, studio, followers, tmp_path
):
    _, key = studio
    url = f"http://127.0.0.1:{gateway.port}"
    made = requests.post(
        f"{url}/v1/api-keys", json={"name": "CI"}, headers={"Authorization": f"Bearer {key}"}, timeout=10
    ).json()
    with process(environment, log=tmp_path / "notifications.log"), ExitStack() as open_ones:
        followers.append(Follower(gateway, key, after="0"))
        until(lambda: followers[0].ids, seconds=20)
        opened = [open_ones.enter_context(client_that_does_not_read(gateway, key)) for _ in range(120)]
        statuses = Counter(int(sock.recv(12).split()[1]) for sock in opened)
        assert gateway.open_streams() <= PER_PRINCIPAL

        followers.append(Follower(gateway, made["secret"], after="0"))
        until(lambda: followers[1].ids, seconds=20)

    assert statuses[429] >= 120 - PER_PRINCIPAL
    until(lambda: gateway.open_streams() == 2, seconds=10, what="the streams of those who have left to end")


HOSTILE = [
    b"-1", b"+1", b"1e3", b"0x10", b"1.0", b"NaN", b"\xd9\xa3", b"\xb2", b"1 2", b"1,2", b"' OR 1=1 --", b"../1",
    b"9" * 19, b"9" * 5_000, b"%30", b"null", b"0" * 19, b"1\x0b",
]  # fmt: skip


@pytest.mark.parametrize("name", ["Last-Event-ID", "after"])
def test_a_place_that_is_none_is_refused_and_breaks_nothing(
    gateway, environment, notifications_db, studio, tmp_path, name
):
    org_id, key = studio
    with process(environment, log=tmp_path / "notifications.log"):
        until(lambda: recorded(notifications_db, org_id) == 1, seconds=20)
        statuses = {text[:20]: status_of(gateway, key, text, name=name) for text in HOSTILE}

        assert set(statuses.values()) <= {400, 414}, statuses
        assert status_of(gateway, key, b"9" * 18, name=name) == 200
        assert status_of(gateway, key, b"0" * 18, name=name) == 200
        until(lambda: gateway.open_streams() == 0, seconds=10)


def status_of(gateway, key, text, *, name):
    path, header = b"/v1/events/stream", b""
    if name == "after":
        path += b"?after=" + b"".join(b"%%%02x" % byte for byte in text)
    else:
        header = b"Last-Event-ID: " + text + b"\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
        sock.sendall(
            b"GET "
            + path
            + b" HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer "
            + key.encode()
            + b"\r\n"
            + header
            + b"\r\n"
        )
        return int(sock.recv(100).split()[1])
