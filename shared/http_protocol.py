"""One connection of the HTTP server: eventlet's protocol, with limits on time and size, and our way to refuse."""

import contextlib
import os
import re
import socket as sockets
import struct
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import eventlet
import msgspec
import structlog
from eventlet import wsgi

from shared import metrics
from shared.http_origins import security_headers
from shared.http_problems import (
    AddressTooLong,
    HeadersTooLarge,
    MalformedRequest,
    ReducedCapacity,
    RequestTimeout,
    problem_body,
    problem_headers,
    request_id,
)
from shared.problems import Problem

log = structlog.get_logger(__name__)

HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 30.0
SOCKET_SECONDS = 30.0
ADDRESS_BYTES = 8192
LINGER_SECONDS = 2.0
LINGER_BYTES = 64 << 20
SLOWEST_READER_BYTES_PER_SECOND = 10_000
_LINE_BYTES = 4096
# What lies in a buffer already is read without waiting, and so without anybody else's turn, unless it is given.
_LINES_A_TURN = 32
_LINES_FREE = 4096
_BYTES_A_LINE = 256
_PIECE_BYTES = 256 << 10
_NOT_SENT_BYTES = 64 << 10
# RFC 9112, 3: one space between the parts. Methods know small letters from large ones, and all there are have large.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Z-]+ ([!-~]+) HTTP/1\.[0-9]\r\n")
_HOST = re.compile(r"[\w.~%!$&'()*+,;=-]*(?::[0-9]*)?|\[[0-9a-zA-Z:.%]+\](?::[0-9]*)?", re.ASCII)
# Only CRLF ends a line, and nothing within is a control character: readers differ in what they take those for.
_FIELD = re.compile(rb"(?:[\w!#$%&'*+.^`|~-]+:[\t -~\x80-\xff]*)?\r\n", re.ASCII)
# int() would take "0x2", "+2" and "0_2" for sizes too.
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")
_CHUNK_END = re.compile(rb"\r\n")


class Connection(list[Any]):
    """What eventlet keeps of a connection, ``[address, socket, state]``, and whether a request is at work on it."""

    def __init__(self, address: Any, sock: Any, *, whose: str = "") -> None:
        super().__init__([address, sock, wsgi.STATE_IDLE])
        self.socket = sock
        self.whose = whose
        self.since = time.monotonic()
        self.busy = False
        self.leaving = False

    def hang_up(self) -> None:
        """End the connection from another green thread; its own sees the end of the stream."""
        self.leaving = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(2)


class _HeadersTooSlow(Exception):
    """The headers did not arrive in time."""


class _ReaderTooSlow(Exception):
    """The client does not take its answer."""


class _HeaderLines:
    """A connection's stream that notes header lines which two readers could take for different headers.

    The standard library ends a line at a lone CR or LF; a proxy in front of us may not, nor join a folded line as we
    do, nor take what Python calls white space for any.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.ambiguous = False

    def readline(self, size: int = -1) -> Any:
        """Return the next line as it is."""
        line = self._stream.readline(size)
        if not _FIELD.fullmatch(line):
            self.ambiguous = True
        return line


class _PacedWriter:
    """A connection's stream to its client, for one that takes what it asked for; who does not, is not waited for.

    The socket's own time limit is not enough: it begins anew with every byte that is taken.
    """

    def __init__(self, stream: Any, *, seconds: float, give_up: Callable[[], None]) -> None:
        self._stream = stream
        self._seconds = seconds
        self._give_up = give_up

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def writelines(self, lines: Sequence[bytes]) -> None:
        """Write ``lines``, in the time that a slow but willing client needs."""
        seconds = self._seconds + sum(map(len, lines)) / SLOWEST_READER_BYTES_PER_SECOND
        with eventlet.Timeout(seconds, _ReaderTooSlow()):
            self._try(self._stream.writelines, lines)

    def flush(self) -> None:
        """Send what is still held back."""
        with eventlet.Timeout(self._seconds, _ReaderTooSlow()):
            self._try(self._stream.flush)

    def _try(self, send: Callable[..., None], *args: Any) -> None:
        try:
            send(*args)
        except _ReaderTooSlow:
            self._give_up()
            raise


class _BoundedLines:
    """A connection's stream whose lines end, are what a chunked body has, and are few: they come from outside."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lines = 0
        self._bytes = 0
        self._due = _CHUNK_SIZE

    def read(self, size: int = -1) -> Any:
        """Return content."""
        piece = self._stream.read(size)
        self._bytes += len(piece)
        return piece

    def readline(self, size: int = -1) -> Any:
        """Return the next line.

        Raises:
            ValueError: it does not end, or is not what a chunked body has there.
            MalformedRequest: there are too many for so few bytes; each costs as much work as a thousand bytes.
        """
        self._lines += 1
        if self._lines % _LINES_A_TURN == 0:
            eventlet.sleep(0)
        if self._lines > _LINES_FREE + self._bytes // _BYTES_A_LINE:
            raise MalformedRequest("The body comes in too many small chunks; send larger ones.")
        limit = _LINE_BYTES if size < 0 else size
        line = self._stream.readline(limit)
        if size < 0 and len(line) >= limit:
            raise ValueError("a line within a chunked body does not end")
        if size < 0 and line:
            self._check(line)
        return line

    def _check(self, line: bytes) -> None:
        """Compare with what is due: a size, then the end of its chunk, and after the size 0 only trailers."""
        match = self._due.fullmatch(line)
        if not match:
            raise ValueError("a line within a chunked body is not what is due there")
        if self._due is _CHUNK_SIZE:
            self._due = _CHUNK_END if int(match[1], 16) else _FIELD
        elif self._due is _CHUNK_END:
            self._due = _CHUNK_SIZE


class Protocol(wsgi.HttpProtocol):
    """Reads requests off one connection. Headers have one time limit in all, not one a read."""

    header_seconds: ClassVar[float] = HEADER_SECONDS
    write_seconds: ClassVar[float] = SOCKET_SECONDS
    rfile: Any
    wfile: Any
    _header_timer: Any = None
    _linger = False
    _broken_off = False

    def setup(self) -> None:
        """Open the connection's two streams."""
        super().setup()
        self.wfile = _PacedWriter(self.wfile, seconds=self.write_seconds, give_up=self._break_off)

    def handle_one_request(self) -> None:
        """Serve one request, or refuse it where it is not readable as HTTP."""
        eventlet.sleep(0)  # many requests sent at once are all there to be read: the others have their turn in between
        self.conn_state.busy = False
        self.conn_state.since = time.monotonic()
        try:
            super().handle_one_request()
        except _HeadersTooSlow:
            self._refuse(RequestTimeout("The request's headers did not arrive in time."))
        finally:
            self._stop_header_timer()

    def _read_request_line(self) -> Any:
        """Wait for the next request, then give its line; from its first byte on the headers' time runs."""
        self.connection.settimeout(self.server.keepalive)
        if not self.rfile.peek(1):
            return b""
        self.connection.settimeout(self.server.socket_timeout)
        self._header_timer = eventlet.Timeout(self.header_seconds, _HeadersTooSlow())
        line = self.rfile.readline(ADDRESS_BYTES)
        if len(line) >= ADDRESS_BYTES:
            self._refuse(AddressTooLong(f"An address may have {ADDRESS_BYTES} characters at most."))
            return b""
        return line

    def parse_request(self) -> bool:
        """Read the headers; refuse what two readers could take for two different requests."""
        request_line = _REQUEST_LINE.fullmatch(self.raw_requestline)
        if not request_line:
            self._stop_header_timer()
            self._refuse(
                MalformedRequest("The first line must be METHOD, address and HTTP/1.1, one space between them.")
            )
            return False
        lines = self.rfile = _HeaderLines(self.rfile)
        try:
            readable: bool = super().parse_request()
        except (wsgi.HeaderLineTooLong, wsgi.HeadersTooLarge):
            self._refuse(HeadersTooLarge("The request's headers are larger than 64 KiB, or one than 8 KiB."))
            return False
        finally:
            self._stop_header_timer()
        problem = (
            (_ambiguity(self.headers, lines, version=self.request_version) or _host_problem(self)) if readable else None
        )
        if problem:
            self._refuse(problem)
            return False
        self.path = request_line[1].decode("ascii")  # the standard library has joined slashes at its start
        self.conn_state.busy = readable
        return readable

    def get_environ(self) -> dict[str, Any]:
        """Return the WSGI environment.

        ``darkroom.close`` ends the connection after this answer, ``darkroom.break_off`` within it;
        ``darkroom.wire`` is the connection for other green threads.
        """
        environ: dict[str, Any] = super().get_environ()
        environ["darkroom.close"] = self._close_after_answer
        environ["darkroom.break_off"] = self._break_off
        environ["darkroom.wire"] = self
        environ["CONTENT_TYPE"] = self.headers.get("Content-Type", "")  # eventlet says text/plain where none came
        if environ["wsgi.input"].chunked_input:
            environ["wsgi.input"].rfile = _BoundedLines(self.rfile)
        if self.server.draining:
            self.close_connection = 1
        return environ

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the standard library's parser could not read; its texts quote the client, so they stay here."""
        del message, explain
        large = code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(
            HeadersTooLarge("The request has too many headers.") if large else MalformedRequest("This is not HTTP/1.1.")
        )

    def finish(self) -> None:
        """Close; where the client is still sending, take in some of it first, lest it never sees the answer."""
        if self._broken_off:
            self._reset()
            return
        if self._linger:
            with contextlib.suppress(OSError, ValueError):
                self.wfile.flush()
                self.connection.shutdown(1)
                self._take_in_the_rest()
        super().finish()

    def _take_in_the_rest(self) -> None:
        left = LINGER_BYTES
        with eventlet.Timeout(LINGER_SECONDS, False):  # noqa: FBT003  eventlet's signature: end quietly
            while left > 0 and (piece := self.connection.recv(_PIECE_BYTES)):
                left -= len(piece)
                eventlet.sleep(0)

    def _close_after_answer(self) -> None:
        self.close_connection = 1
        self._linger = True

    def _break_off(self) -> None:
        self.close_connection = 1
        self._broken_off = True

    def cut(self) -> None:
        """Break the connection at once, though its own green thread waits for the client to take something."""
        self._break_off()
        self.conn_state.hang_up()

    def hold_little(self) -> None:
        """Let the system keep little that is not sent yet (https://lwn.net/Articles/560082/), where it can do so."""
        if hasattr(sockets, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):
                self.connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, _NOT_SENT_BYTES)

    def is_gone(self) -> bool:
        """Tell whether the client has hung up; what it has sent meanwhile stays where it is."""
        try:
            return not self.connection.fd.recv(1, sockets.MSG_PEEK | sockets.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _reset(self) -> None:
        """Close by a reset: to a client that reads until the end, an orderly one would say that it has everything."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def _stop_header_timer(self) -> None:
        if self._header_timer:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, problem: Problem) -> None:
        """Answer without a request: nothing past this point is read as HTTP."""
        self._close_after_answer()
        metrics.http_requests.labels("unreadable", "other", str(problem.status)).inc()
        log.info("http_request_unreadable", code=problem.code, status=problem.status)
        self.wfile.write(refusal_bytes(problem))
        self.wfile.flush()


def refusal_bytes(problem: Problem) -> bytes:
    """Return a whole HTTP response that tells ``problem`` and closes."""
    own_id = request_id(None)
    body = msgspec.json.encode(problem_body(problem, instance="", request_id=own_id))
    headers = {
        **security_headers(),
        **problem_headers(problem),
        "X-Request-Id": own_id,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def overloaded() -> bytes:
    """Return the response for a connection there is no room for."""
    return refusal_bytes(ReducedCapacity("Too many connections are open; try again in a moment.", retry_after=1))


def _ambiguity(headers: Any, lines: _HeaderLines, *, version: str) -> Problem | None:
    """Tell what keeps headers and the body's length from being certain (RFC 9112, 2.2, 5, 6.3): a smuggler's tools."""
    if lines.ambiguous:
        return MalformedRequest(
            "A header must be one line that CRLF ends, its name followed by a colon without a space before it, "
            "without control characters."
        )
    lengths = headers.get_all("Content-Length", [])
    codings = headers.get_all("Transfer-Encoding", [])
    if codings and (lengths or [coding.strip(" \t").lower() for coding in codings] != ["chunked"]):
        return MalformedRequest("Send either Content-Length or Transfer-Encoding: chunked, once.")
    if codings and version == "HTTP/1.0":
        return MalformedRequest("HTTP/1.0 has no Transfer-Encoding; send Content-Length.")
    if len(lengths) > 1 or any(not (length.isascii() and length.isdigit()) for length in lengths):
        return MalformedRequest("Content-Length must be one decimal number.")
    if any(len(length) > 18 for length in lengths):  # noqa: PLR2004  more digits than any body has bytes
        return MalformedRequest("Content-Length is larger than any body.")
    return None


def _host_problem(request: Protocol) -> Problem | None:
    """Tell what is wrong with the header Host, which HTTP/1.1 wants once (RFC 9112, 3.2); older clients have none."""
    hosts = request.headers.get_all("Host", [])
    if len(hosts) > 1 or (not hosts and request.request_version != "HTTP/1.0"):
        return MalformedRequest("Send the header Host, once.")
    if any(not _HOST.fullmatch(host.strip(" \t")) for host in hosts):
        return MalformedRequest("Host must be a name or an address, and a port where there is one.")
    return None
