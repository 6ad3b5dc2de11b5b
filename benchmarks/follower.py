"""One client that follows a stream of events: what came, and when; made events of after the clock.

It shares two cores with what it measures: while events come, it only keeps the bytes and the time they came at. When
its stream ends it comes back with the id of the last event it has whole, as a browser does; when it is told to come
again later it does that too, and is counted.
"""

import math
import socket
import time
from dataclasses import dataclass, field

import msgspec

from benchmarks.audit import AuditFailed

OPEN_SECONDS = 60.0
_PIECE_BYTES = 65_536
_MARK = b"\ndata: "
_NOT_NOW = b"HTTP/1.1 503 "


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
        while (place := self._rest.find(b"\r\n")) >= 0:
            size = int(self._rest[:place], 16)
            if len(self._rest) < place + size + 4:
                return
            self._text += self._rest[place + 2 : place + 2 + size]
            self._rest = self._rest[place + 4 + size :]

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
