"""A connection to an address that was checked, in the name of its host, and the moment at which it ends."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

import structlog
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from shared.outside_addresses import Address
from shared.outside_urls import Target
from shared.problems import Problem

log = structlog.get_logger(__name__)

CONNECT_SECONDS: Final = 5.0
_BROKEN: Final = (OSError, http.client.HTTPException, HTTPError)


class UrlUnreachable(Problem):
    """The address is fine, but what answers there did not give what was wanted in time."""

    status = 422
    code = "url_unreachable"
    title = "The address did not give what was asked for"
    remedy = (
        "Open the address yourself: it has to answer with the file within a few seconds. Then send the request again."
    )
    retryable = True


class Deadline:
    """The moment at which an exchange ends, whatever it waits for: at that moment its sockets are shut.

    A timeout of the socket does not do: it begins anew with every byte, and a server can send one a second for ever.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._shut()
        for one in self._sockets:
            one.close()

    def left(self) -> float:
        """Return the seconds left; UrlUnreachable when there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise UrlUnreachable("The address did not answer in time.")
        return seconds

    def watch(self, opened: socket.socket) -> None:
        """Shut this connection at the end, however it is wrapped by then."""
        self._sockets.append(opened.dup())
        self.left()

    def _shut(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Pinned(HTTPConnection):
    """A connection to one of the addresses that were checked, in the name of its host."""

    def __init__(self, target: Target, addresses: Sequence[Address], deadline: Deadline, **options: Any) -> None:
        super().__init__(target.host, port=target.port, timeout=deadline.left(), **options)
        self._addresses = addresses
        self._deadline = deadline

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; the library calls this for every connection it makes."""
        failure: OSError = OSError("no address")
        for address in self._addresses:
            try:
                seconds = min(CONNECT_SECONDS, self._deadline.left())
                opened = socket.create_connection((str(address), self.port), timeout=seconds)
            except OSError as error:
                failure = error
                continue
            try:
                self._deadline.watch(opened)
            except UrlUnreachable:
                opened.close()
                raise
            return opened
        raise failure


class Tls(ssl.SSLContext):
    """What a client asks of a certificate: signed by one of ``authorities`` (a PEM file), and the host's own."""

    def __new__(cls, _authorities: str) -> Self:
        """Make a context for clients, which checks certificates and names."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, authorities: str) -> None:
        super().__init__()
        self.load_verify_locations(authorities)

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Shake hands; where that fails, leave no socket behind, as eventlet's own does."""
        opened = super().wrap_socket(sock, *args, **{**options, "do_handshake_on_connect": False})
        try:
            opened.do_handshake()
        except BaseException:
            opened.close()
            raise
        return opened


class PinnedTls(Pinned, HTTPSConnection):
    """The same over TLS, for which the certificate has to be the host's."""


@contextmanager
def told(deadline: Deadline) -> Iterator[None]:
    """Tell the caller that the other side failed, in our words; what it wrote itself is in no message."""
    try:
        yield
    except _BROKEN as error:
        deadline.left()
        log.info("outside_failed", error_type=type(error).__name__)
        raise UrlUnreachable("The address could not be reached, or its answer broke off.") from error
    deadline.left()  # a socket that was shut looks like the end of the body
