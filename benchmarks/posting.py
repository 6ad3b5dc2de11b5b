"""A load generator that costs little: one thread, raw sockets kept alive, requests made beforehand, `select.epoll`.

It shares two cores with what it measures, so it reads of an answer only what it has to: status, length, body.
"""

import contextlib
import http.client
import json
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

ANSWER_SECONDS = 20.0
AGAIN_SECONDS = 0.02
NOT_NOW = (409, 503)  # a client sends the same request again then
_PIECE_BYTES = 65_536
_END_OF_HEADERS = b"\r\n\r\n"
_LENGTH = b"content-length:"


class NoAnswer(Exception):
    """A request was not answered, or not as HTTP."""


@dataclass(frozen=True)
class Posted:
    """What came back for one request in the end, after how long and how many tries."""

    status: int
    body: bytes
    seconds: float
    tries: int

    @property
    def job_id(self) -> str:
        """Return the id in the answer."""
        return str(json.loads(self.body)["id"])


@dataclass
class _Line:
    """A connection with at most one request on it; ``began`` is when that was sent for the first time."""

    sock: socket.socket
    request: bytes = b""
    began: float = 0.0
    tries: int = 0
    heard: bytearray = field(default_factory=bytearray)


def request_bytes(path: str, body: dict[str, Any], *, api_key: str, idempotency_key: str) -> bytes:
    """Return a whole POST as it goes over the wire."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {api_key}\r\n"
        f"Idempotency-Key: {idempotency_key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def post_all(port: int, requests: Sequence[bytes], *, connections: int, pause_seconds: float = 0.0) -> list[Posted]:
    """Send every request, each connection's next one when its last is answered; return the answers in any order.

    With a pause, for one connection, each request is sent so long after the answer before.

    Raises:
        NoAnswer: an answer did not come within 20 s, or a connection was closed.
    """
    waiting = deque(requests)
    answers: list[Posted] = []
    with _connected(port, min(connections, len(requests))) as (poll, lines):
        for line in lines.values():
            _send(line, waiting.popleft())
        while len(answers) < len(requests):
            ready = poll.poll(ANSWER_SECONDS)
            if not ready:
                raise NoAnswer(f"{len(requests) - len(answers)} requests were not answered")
            for number, _ in ready:
                answer = _heard(lines[number])
                if answer is None:
                    continue
                if answer.status in NOT_NOW:
                    _send_again(lines[number])
                    continue
                answers.append(answer)
                time.sleep(pause_seconds)
                if waiting:
                    _send(lines[number], waiting.popleft())
    return answers


@contextlib.contextmanager
def _connected(port: int, count: int) -> Iterator[tuple[select.epoll, dict[int, _Line]]]:
    """Open connections; yield what waits for any of them, and each by its number."""
    with contextlib.ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        lines = {}
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines[sock.fileno()] = _Line(sock)
            poll.register(sock.fileno(), select.EPOLLIN)
        yield poll, lines


def call(port: int, method: str, path: str, *, api_key: str, **sent: Any) -> Any:
    """Make one request for preparing a round, ``json`` or ``content`` with its ``kind``; return the JSON answered.

    Raises:
        NoAnswer: the answer is a refusal.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    content = json.dumps(sent["json"]) if "json" in sent else sent.get("content")
    kind = sent.get("kind", "application/json")
    connection.request(method, path, content, {"Authorization": f"Bearer {api_key}", "Content-Type": kind})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status >= 300:
        raise NoAnswer(f"{method} {path}: {response.status} {body.decode(errors='replace')}")
    return json.loads(body)


def _send(line: _Line, request: bytes) -> None:
    line.request, line.began, line.tries = request, time.monotonic(), 1
    line.heard.clear()
    line.sock.sendall(request)


def _send_again(line: _Line) -> None:
    time.sleep(AGAIN_SECONDS)
    line.tries += 1
    line.heard.clear()
    line.sock.sendall(line.request)


def _heard(line: _Line) -> Posted | None:
    """Read what has come; return the answer once it is whole."""
    piece = line.sock.recv(_PIECE_BYTES)
    if not piece:
        raise NoAnswer(f"a connection was closed after {bytes(line.heard[:200])!r}")
    line.heard += piece
    head, end, body = bytes(line.heard).partition(_END_OF_HEADERS)
    if not end:
        return None
    where = head.lower().find(_LENGTH)
    if where < 0:
        raise NoAnswer(f"an answer without a length: {head[:200]!r}")
    length = int(head[where + len(_LENGTH) :].split(b"\r\n", 1)[0])
    if len(body) < length:
        return None
    return Posted(int(head[9:12]), body, time.monotonic() - line.began, line.tries)
