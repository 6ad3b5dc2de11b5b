"""A gateway as a process, and those who follow the log by it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import eventlet
import psutil
import requests

from deploy.local import ports
from tests.polling import until

ROOT = Path(__file__).parents[3]


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
        self.last: str | None = None
        self.heard_at: list[float] = []
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
        if self.last is not None:
            headers["Last-Event-ID"] = self.last
        url = f"http://127.0.0.1:{self._gateway.port}/v1/events/stream"
        with requests.get(url, params=self._query, headers=headers, stream=True, timeout=20) as answer:
            answer.raise_for_status()
            number, has_data = self.last, False
            for line in answer.iter_lines(chunk_size=None):
                self.heard_at.append(time.monotonic())
                if line.startswith(b"id: "):
                    number = line[4:].decode()
                elif line.startswith(b"data: "):
                    has_data = True
                elif not line:
                    self.last = number
                    if has_data:
                        self.ids.append(int(number))
                    has_data = False


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
