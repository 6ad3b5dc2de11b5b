"""Server-sent events over real sockets: gateway and notifications as processes, which end at any moment."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import eventlet
import psutil
import pytest
import requests
import sqlalchemy as sa

from deploy.local import ports
from services.gateway import keys, organizations
from services.gateway.models import ApiKey
from services.gateway.organizations import NewOrganization
from shared.ids import new_id
from tests.polling import until
from tests.service.notifications.test_event_log_on_the_broker import ROOT, logs, process, publish
from tests.service.notifications.told import failed, started

pytestmark = pytest.mark.broker


class Gateway:
    """The gateway as a process that can be ended and started again on its port."""

    def __init__(self, environment, *, log):
        self.port, self.ops_port = ports.pick(), ports.pick()
        self._environment = {
            **os.environ,
            **environment,
            "GATEWAY_ADDRESS": f"127.0.0.1:{self.port}",
            "GATEWAY_OPS_ADDRESS": f"127.0.0.1:{self.ops_port}",
        }
        self._log = log

    def start(self):
        with self._log.open("ab") as output:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "shared.runner", "gateway"],
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until(self.is_ready, seconds=30, what="the gateway")

    def is_ready(self):
        try:
            return requests.get(f"http://127.0.0.1:{self.ops_port}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def end(self, number=signal.SIGKILL):
        """Send a signal; return the exit status."""
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(number)
        return until(lambda: (self._running.poll(),) if self._running.poll() is not None else None, seconds=15)[0]

    def open_streams(self):
        return self.metric("darkroom_sse_clients")

    def metric(self, name):
        text = requests.get(f"http://127.0.0.1:{self.ops_port}/metrics", timeout=5).text
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    def memory_bytes(self):
        return psutil.Process(self._running.pid).memory_info().rss


class Follower:
    """A client as a browser is one: it comes back, with the last id it has seen, until it is told to stop."""

    def __init__(self, gateway, key, **query):
        self.ids: list[int] = []
        self.ended = 0
        self._stopping = False
        self._gateway = gateway
        self._key = key
        self._query = query
        self._thread = eventlet.spawn(self._follow)

    def stop(self):
        self._stopping = True
        self._thread.kill()

    def _follow(self):
        while not self._stopping:
            with contextlib.suppress(requests.RequestException):
                self._once()
            self.ended += 1
            time.sleep(0.1)

    def _once(self):
        headers = {"Authorization": f"Bearer {self._key}"}
        if self.ids:
            headers["Last-Event-ID"] = str(self.ids[-1])
        url = f"http://127.0.0.1:{self._gateway.port}/v1/events/stream"
        with requests.get(url, params=self._query, headers=headers, stream=True, timeout=20) as answer:
            number = None
            for line in answer.iter_lines(chunk_size=None):
                if line.startswith(b"id: "):
                    number = int(line[4:])
                elif line.startswith(b"data: "):
                    self.ids.append(number)


@pytest.fixture
def gateway(gateway_db, environment, tmp_path) -> Iterator[Gateway]:
    url = gateway_db.url.render_as_string(hide_password=False)
    made = Gateway({**environment, "GATEWAY_DATABASE_URL": url}, log=tmp_path / "gateway.log")
    made.start()
    yield made
    made.end()


@pytest.fixture
def studio(gateway_db):
    """An organization, whose first event tells that it was made, and the secret of its first key."""
    org_id = new_id("org")
    secret = keys.of_request(signing_secret=os.environ["SIGNING_SECRET"], made_id=org_id, request_key=None)
    wanted = NewOrganization(id=org_id, name="A studio", created_by="root", plan="pro", owner_email=None)
    organizations.create(gateway_db, wanted, secret=secret)
    return org_id, secret.text


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    made: list[Follower] = []
    yield made
    for one in made:
        one.stop()


def test_nothing_is_missed_and_nothing_comes_twice_while_the_gateway_is_killed(
    gateway, environment, notifications_db, studio, followers, tmp_path
):
    org_id, key = studio
    items = [started(org_id) for _ in range(399)]
    with process(environment, log=tmp_path / "notifications.log"):
        publish(environment["AMQP_URL"], items[:99])
        until(lambda: len(logs(notifications_db).get(org_id, ())) == 100, seconds=20)
        followers += [Follower(gateway, key, after="0") for _ in range(5)]
        until(lambda: all(one.ids for one in followers), seconds=20)

        for begin in range(99, 399, 20):
            publish(environment["AMQP_URL"], items[begin : begin + 20])
            if begin in {159, 279}:
                gateway.end()
                gateway.start()
            time.sleep(0.05)

        until(lambda: all(len(one.ids) >= 400 for one in followers), seconds=30, what="the last event")

    assert [one.ids for one in followers] == [list(range(1, 401))] * 5
    assert all(one.ended >= 2 for one in followers)


def test_a_stream_goes_on_when_the_broker_has_cut_every_connection(
    gateway, environment, rabbitmq, studio, followers, tmp_path
):
    org_id, key = studio
    vhost = environment["AMQP_URL"].rpartition("/")[2]
    with process(environment, log=tmp_path / "notifications.log"):
        followers.append(Follower(gateway, key, after="0"))
        publish(environment["AMQP_URL"], [started(org_id) for _ in range(5)])
        until(lambda: len(followers[0].ids) == 6, seconds=20)

        rabbitmq.ctl("close_all_connections", "--vhost", vhost, "test")
        publish(environment["AMQP_URL"], [started(org_id) for _ in range(5)])

        until(lambda: len(followers[0].ids) == 11, seconds=20)

    assert (followers[0].ids, followers[0].ended) == (list(range(1, 12)), 0)


@pytest.mark.usefixtures("notifications_db")
def test_a_revoked_key_follows_nothing_after_5_seconds(gateway, gateway_db, environment, studio, followers, tmp_path):
    _, key = studio
    with process(environment, log=tmp_path / "notifications.log"):
        followers.append(Follower(gateway, key, after="0"))
        until(lambda: gateway.open_streams() == 1, seconds=20)
        with gateway_db.transaction() as session:
            session.execute(sa.update(ApiKey).values(revoked_at=sa.func.now()))
        began = time.monotonic()

        until(lambda: followers[0].ended, seconds=5)

    assert time.monotonic() - began < 5
    assert gateway.open_streams() == 0


@contextlib.contextmanager
def client_that_does_not_read(gateway, key) -> Iterator[socket.socket]:
    """Ask for a stream and read nothing of it, with as little room as the system gives."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", gateway.port))
        sock.sendall(
            f"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        yield sock


def rest_of(sock) -> int:
    """Read what there is, until the stream ends or is broken off; return how much that was."""
    sock.settimeout(20)
    taken, end = 0, b""
    with contextlib.suppress(ConnectionError):
        while not end.endswith(b"\r\n0\r\n\r\n") and (piece := sock.recv(1 << 16)):
            taken += len(piece)
            end = (end + piece)[-7:]
    return taken


# Sent away for what waits for it, or because it took nothing for 30 s while the log is read for it.
def until_sent_away(gateway, amqp_url, org_id) -> int:
    """Let events flow until somebody was sent away; return how many that took."""
    sent = 0
    deadline = time.monotonic() + 60
    while gateway.open_streams() > 1:
        assert time.monotonic() < deadline, "both streams are open still"
        publish(amqp_url, [failed(org_id, message="m" * 1_000) for _ in range(50)])
        sent += 50
        time.sleep(0.5)
    return sent


def test_who_does_not_read_is_sent_away_and_holds_up_nobody(
    gateway, environment, notifications_db, studio, followers, tmp_path
):
    org_id, key = studio
    size, count = 16_000, 400
    items = [failed(org_id, message="m" * size) for _ in range(count)]
    with process(environment, log=tmp_path / "notifications.log"):
        until(lambda: logs(notifications_db).get(org_id), seconds=20)
        followers.append(Follower(gateway, key, after="0"))
        with client_that_does_not_read(gateway, key) as stuck:
            until(lambda: gateway.open_streams() == 2, seconds=20)
            before = gateway.memory_bytes()

            for first in range(0, count, 50):
                publish(environment["AMQP_URL"], items[first : first + 50])
            until(lambda: len(followers[0].ids) == count + 1, seconds=60, what="all events at who reads")
            more = until_sent_away(gateway, environment["AMQP_URL"], org_id)
            grown = gateway.memory_bytes() - before
            held = rest_of(stuck)
        publish(environment["AMQP_URL"], [started(org_id)])
        until(lambda: len(followers[0].ids) == count + more + 2, seconds=10)

    assert followers[0].ended == 0
    assert followers[0].ids == list(range(1, count + more + 3))
    assert held < size * count / 2
    assert grown < 60 << 20


@pytest.mark.usefixtures("notifications_db")
def test_a_gateway_that_is_told_to_end_lets_go_of_its_streams(gateway, environment, studio, followers, tmp_path):
    _, key = studio
    with process(environment, log=tmp_path / "notifications.log"):
        followers += [Follower(gateway, key, after="0") for _ in range(3)]
        until(lambda: gateway.open_streams() == 3, seconds=20)
        began = time.monotonic()

        status = gateway.end(signal.SIGTERM)

    assert (status, time.monotonic() - began < 6) == (0, True)
    assert all(one.ended for one in followers)
