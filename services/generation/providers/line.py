"""A connection to a vendor that can tell whether anything of a request has gone out, and that ends on time.

The libraries above it tell one broken connection from another only by the kind of their exceptions, which is a guess.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from shared.outside_addresses import parsed
from shared.outside_names import NameUnknown, NoTurn, SystemResolver

CONNECT_SECONDS: Final = 5.0
_resolve = SystemResolver()


class Exchange:
    """One request and its answer, to be over within ``seconds``; ``sent`` is true once a byte may have gone out.

    At its end the line is shut, whatever is waited for: the timeout of a socket begins anew with every byte. On
    ``own_line`` nothing else was ever sent.
    """

    def __init__(self, *, seconds: float, own_line: bool) -> None:
        self.own_line = own_line
        self.sent = False
        self._ends = time.monotonic() + seconds
        self._line: socket.socket | None = None
        self._owns_line = False

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the exchange of every connection that this thread uses meanwhile."""
        token = _current.set(self)
        timer = threading.Timer(self.left(), self._shut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if self._line is not None and self._owns_line:
                self._line.close()
            self._line = None
            _current.reset(token)

    def left(self) -> float:
        """Return how many seconds are left, never less than a millisecond."""
        return max(self._ends - time.monotonic(), 0.001)

    def over(self) -> bool:
        """Return whether its time has passed."""
        return time.monotonic() >= self._ends

    def goes_out_on(self, line: socket.socket | None) -> None:
        """Note that bytes of the request are about to be written to this line."""
        self.sent = True
        self._line = line

    def takes_over(self, line: socket.socket) -> bool:
        """Return whether this exchange still goes on on a line whose connection is done with it; it closes it then.

        An answer that says no length is read after its connection has let go of it.
        """
        self._owns_line = self._owns_line or self._line is line
        return self._line is line

    def _shut(self) -> None:
        line = self._line
        if line is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


_current: ContextVar[Exchange] = ContextVar("exchange")


class _Watched(HTTPConnection):
    """Tells the exchange of the moment what happens on the line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line: socket.socket | None = None
        self._was_used = False

    def _new_conn(self) -> socket.socket:
        """Connect to the first address of the host that answers; names are asked for beside the green threads."""
        exchange = _current.get()
        failure: OSError = OSError("the host has no address")
        for address in _addresses(self.host, seconds=min(CONNECT_SECONDS, exchange.left())):
            try:
                opened = socket.create_connection((address, self.port), timeout=min(CONNECT_SECONDS, exchange.left()))
            except OSError as error:
                failure = error
                continue
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._line, self._was_used = opened.dup(), False
            return opened
        raise failure

    def request(self, *args: Any, **options: Any) -> None:
        if self._was_used and _current.get().own_line:
            self.close()
        super().request(*args, **options)

    def send(self, data: Any) -> None:
        exchange = _current.get()
        if self.sock is None:
            self.connect()
        self._was_used = True
        exchange.goes_out_on(self._line)
        self.sock.settimeout(exchange.left())
        super().send(data)

    def close(self) -> None:
        super().close()
        line, self._line = self._line, None
        if line is not None:
            exchange = _current.get(None)
            if exchange is None or not exchange.takes_over(line):
                line.close()


class _WatchedTls(_Watched, HTTPSConnection):
    """The same over TLS; the handshake is no part of the request."""


class Line(HTTPConnectionPool):
    """Connections to a vendor's host."""

    ConnectionCls = _Watched


class TlsLine(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _WatchedTls


def _addresses(host: str, *, seconds: float) -> list[str]:
    bare = host.strip("[]")
    if parsed(bare):
        return [bare]
    try:
        return _resolve(bare, seconds)
    except NameUnknown as error:
        raise OSError("the host's name has no address") from error
    except NoTurn as error:
        raise OSError("too many names are being looked up") from error
