"""Clients that follow streams of events: one thread, raw sockets, `select.epoll`; what came is read after the clock.

They share two cores with what they measure: while events come, a client only keeps the bytes and the time they came at.
A client whose stream ends comes back with the id of the last event it has whole, as a browser does; one that is told to
come again later does that too, and is counted.
"""

import contextlib
import math
import random
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from benchmarks.audit import AuditFailed

OPEN_SECONDS = 60.0
_PIECE_BYTES = 65_536
_MARK = b"\ndata: "
_NOT_NOW = b"HTTP/1.1 503 "
_FILES = 4_096
_AT_ONCE = 50
_RETRY_SECONDS = 5.0
_LONGEST_SECONDS = 20.0


class _Data(msgspec.Struct):
    reservation_id: str


class _Envelope(msgspec.Struct):
    id: str
    orgid: str
    data: _Data


@dataclass(frozen=True)
class Arrival:
    """An event as a client got it: its number in the log, its id, and how long it took."""

    sequence: int
    event_id: str
    org_id: str
    milliseconds: float


@dataclass
class Follower:
    """One client of one organization; ``last`` is the id of the last event it has whole.

    ``heard`` is about how many events have come: they are counted by a mark that may fall between two pieces.
    """

    org_id: str
    api_key: str
    last: int = 0
    reconnects: int = 0
    refused: int = 0
    refused_in_a_row: int = 0
    heard: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    sock: socket.socket | None = None
    again_at: float = math.inf  # it was never opened yet
    _pieces: list[tuple[int, bytes]] = field(default_factory=list)
    _rest: bytes = b""
    _text: bytes = b""
    _begun: bool = False

    def open(self, port: int) -> None:
        """Ask for the stream, from what comes after the last event on."""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=OPEN_SECONDS)
        self.sock.sendall(
            f"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.api_key}\r\n"
            f"Last-Event-ID: {self.last}\r\n\r\n".encode()
        )
        self.sock.settimeout(0)
        self._rest = self._text = b""
        self._begun = False
        self._pieces.clear()

    def number(self) -> int:
        """Return the number of its socket."""
        return self.sock.fileno() if self.sock else -1

    def take(self) -> bool:
        """Keep what has come; return False when the stream has ended."""
        try:
            piece = self.sock.recv(_PIECE_BYTES) if self.sock else b""
        except OSError:
            piece = b""
        if not self.has_begun() and piece.startswith(_NOT_NOW):
            self.refused += 1
            self.refused_in_a_row += 1
            return False
        if piece:
            self._pieces.append((time.monotonic_ns(), piece))
            self.heard += piece.count(_MARK)
        return bool(piece)

    def leave(self) -> None:
        """Close the connection."""
        if self.sock:
            self.sock.close()
        self.sock = None

    def has_begun(self) -> bool:
        """Tell whether anything has come since it was opened."""
        return self.sock is not None and (self._begun or bool(self._pieces))

    def read(self) -> int:
        """Make events of what was kept; return how many there are now.

        Raises:
            AuditFailed: the stream was refused.
        """
        for at, piece in self._pieces:
            self._rest += piece
            self._unpack()
            *whole, self._text = self._text.split(b"\n\n")
            self.arrivals += [arrival for each in whole if (arrival := self._event(each, at))]
        self._pieces.clear()
        return len(self.arrivals)

    def _unpack(self) -> None:
        """Take the head off, and the frames of HTTP's chunks."""
        if not self._begun:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 200 " not in head[:20]:
                raise AuditFailed(f"a stream was refused: {self._rest[:300]!r}")
            self._begun, self._rest = True, rest
        while (end := self._rest.find(b"\r\n")) >= 0:
            size = int(self._rest[:end], 16)
            if len(self._rest) < end + size + 4:
                return
            self._text += self._rest[end + 2 : end + 2 + size]
            self._rest = self._rest[end + 4 + size :]

    def _event(self, text: bytes, at: int) -> Arrival | None:
        fields = dict(line.split(b": ", 1) for line in text.split(b"\n") if b": " in line)
        if b"data" not in fields:
            return None
        if fields[b"event"] == b"resync":
            raise AuditFailed("a client was told to look at everything anew")
        found = msgspec.json.decode(fields[b"data"], type=_Envelope)
        self.last = int(fields[b"id"])
        took = (at - int(found.data.reservation_id)) / 1e6
        return Arrival(self.last, found.id, found.orgid, took)


class Crowd:
    """All clients, and how long each is to wait before it comes back."""

    def __init__(self, port: int, followers: Sequence[Follower]) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most) if most > 0 else _FILES, most))
        self.followers = followers
        self._port = port
        self._poll = select.epoll()
        self._by_number: dict[int, Follower] = {}
        self._randomness = random.Random(7)

    def open(self) -> None:
        """Open every stream, some at a time, and wait until each has begun."""
        for first in range(0, len(self.followers), _AT_ONCE):
            some = self.followers[first : first + _AT_ONCE]
            for follower in some:
                self._open(follower)
            self.listen(partial(_have_begun, some), seconds=OPEN_SECONDS, what=f"streams {first} and after it to begin")
        for follower in self.followers:
            follower.read()

    def listen(self, done: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Keep what comes until ``done()``, which is asked every 50 ms.

        Raises:
            AuditFailed: it is not done after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        asked = 0.0
        while True:
            for number, _ in self._poll.poll(0.05):
                follower = self._by_number[number]
                if not follower.take():
                    self._left(follower, number)
            now = time.monotonic()
            if now - asked >= 0.05:
                asked = now
                self._come_back(now)
                if done():
                    return
            if now > deadline:
                raise AuditFailed(f"not within {seconds:.0f} s: {what}")

    def heard(self) -> int:
        """Return about how many events have come to all of them."""
        return sum(follower.heard for follower in self.followers)

    def close(self) -> None:
        """Leave."""
        for follower in self.followers:
            follower.leave()
        self._poll.close()

    def _open(self, follower: Follower) -> None:
        follower.open(self._port)
        number = follower.number()
        self._by_number[number] = follower
        self._poll.register(number, select.EPOLLIN)

    def _left(self, follower: Follower, number: int) -> None:
        self._poll.unregister(number)
        del self._by_number[number]
        begun = follower.has_begun()
        follower.leave()
        if begun:
            follower.read()
            follower.reconnects += 1
            follower.refused_in_a_row = 0
        self._wait(follower)

    def _come_back(self, now: float) -> None:
        for follower in self.followers:
            if follower.sock is None and follower.again_at <= now:
                try:
                    self._open(follower)
                except OSError:
                    follower.leave()
                    self._wait(follower)

    def _wait(self, follower: Follower) -> None:
        """Let a client wait as the stream's `retry` says, and the longer the more often it was refused."""
        longest = min(_RETRY_SECONDS * 2**follower.refused_in_a_row, _LONGEST_SECONDS)
        follower.again_at = time.monotonic() + self._randomness.uniform(1, longest)


def _have_begun(some: Sequence[Follower]) -> bool:
    return all(follower.has_begun() for follower in some)


@contextlib.contextmanager
def crowd(port: int, followers: Sequence[Follower]) -> Iterator[Crowd]:
    """Open streams, and leave after the block."""
    made = Crowd(port, followers)
    with contextlib.closing(made):
        made.open()
        yield made
