"""The listening socket: accepts connections, bounds them, survives every error, and drains."""

import contextlib
import resource
import socket as sockets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import eventlet
import structlog
from eventlet import wsgi

from shared.http_limits import counted_as
from shared.http_protocol import KEEP_ALIVE_SECONDS, SOCKET_SECONDS, Connection, Protocol, overloaded

log = structlog.get_logger(__name__)

CONNECTIONS_MAX = 4000
FILES_KEPT_FREE = 24
BACKLOG = 1024
SPARED_SECONDS = 1.0
_RETRY_SECONDS = 0.05
_EVICTED_AT_ONCE = 8
_LOG_EVERY_SECONDS = 1.0
_DRAIN_POLL_SECONDS = 0.02


class Listener:
    """Serves a WSGI application on one address, a green thread a connection.

    None of these threads is nameko's: a client that resets its connection, or a file table that is full, ends a
    connection and never the process. ``per_address`` bounds how many connections one address has; 0 does not.
    """

    def __init__(
        self,
        app: Any,
        address: tuple[str, int],
        *,
        connections_max: int | None = None,
        per_address: int = 0,
    ) -> None:
        self._app = app
        self._wanted_address = address
        self._connections_max = connections_max or _affordable()
        self._per_address = per_address
        self._open: Counter[str] = Counter()
        self._connections: dict[int, Connection] = {}
        self._accepting = False
        self._logged_at = 0.0

    @property
    def address(self) -> tuple[str, int]:
        """The address in use; its port is the one the system chose where 0 was wanted."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def draining(self) -> bool:
        """Whether each connection ends after its current request."""
        return not self._accepting

    def start(self) -> None:
        """Bind and begin to accept.

        Raises:
            OSError: the address is taken, or not of this machine.
        """
        family = sockets.AF_INET6 if ":" in self._wanted_address[0] else sockets.AF_INET
        # SO_REUSEPORT, eventlet's default, would let two processes share the port without a word.
        self._socket = eventlet.listen(self._wanted_address, family=family, backlog=BACKLOG, reuse_port=False)
        self._server = _Server(self, self._app)
        self._accepting = True
        self._thread = eventlet.spawn(self._accept_forever)

    def drain(self) -> None:
        """Accept no more, close what is idle, and return when every request at work has been answered."""
        self._stop_accepting()
        while any(connection.busy for connection in self._connections.values()):
            self._hang_up_idle()
            eventlet.sleep(_DRAIN_POLL_SECONDS)
        self._hang_up_idle()

    def kill(self) -> None:
        """Close everything at once."""
        self._stop_accepting()
        for connection in list(self._connections.values()):
            connection.hang_up()

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            self._thread.kill()
            self._socket.close()

    def _hang_up_idle(self) -> None:
        for connection in list(self._connections.values()):
            if not connection.busy:
                connection.hang_up()

    def _accept_forever(self) -> None:
        while self._accepting:
            try:
                self._accept()
            except Exception as error:  # noqa: BLE001  whatever it is, the next connection deserves its try
                self._report("accept_failed", error=str(error))
                for _ in range(_EVICTED_AT_ONCE):
                    self._make_room()
                eventlet.sleep(_RETRY_SECONDS)

    def _accept(self) -> None:
        sock, address = self._socket.accept()
        whose = counted_as(address[0])
        if len(self._connections) >= self._connections_max and not self._make_room():
            self._turn_away(sock)
            return
        if self._per_address and self._open[whose] >= self._per_address and not self._make_room(whose):
            self._turn_away(sock)
            return
        sock.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        sock.settimeout(SOCKET_SECONDS)
        connection = Connection(address, sock, whose=whose)
        self._connections[id(connection)] = connection
        self._open[whose] += 1
        eventlet.spawn_n(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        try:
            self._server.process_request(connection)
        except Exception as error:  # noqa: BLE001  a connection's end is no failure of the server
            log.debug("connection_ended", error_type=type(error).__name__)
        finally:
            del self._connections[id(connection)]
            self._open[connection.whose] -= 1
            if not self._open[connection.whose]:
                del self._open[connection.whose]
            with contextlib.suppress(OSError):
                connection.socket.close()

    def _make_room(self, whose: str | None = None) -> bool:
        """Close the connection that has sent no whole request for the longest; tell whether there was one.

        One that has only just connected is spared: its request is on the way. ``whose``: of this address only.
        """
        before = time.monotonic() - SPARED_SECONDS
        idle = [
            one
            for one in self._connections.values()
            if not one.busy and not one.leaving and one.since < before and whose in {None, one.whose}
        ]
        if not idle:
            return False
        min(idle, key=lambda connection: connection.since).hang_up()
        return True

    def _turn_away(self, sock: Any) -> None:
        self._report("connection_turned_away", connections=len(self._connections))
        with contextlib.suppress(OSError):
            sock.settimeout(0.1)
            sock.sendall(overloaded())
        with contextlib.suppress(OSError):
            sock.close()

    def _report(self, event: str, **fields: Any) -> None:
        """Log, but not a line for each of a thousand."""
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            log.warning(event, **fields)


class _Server(wsgi.Server):
    """What eventlet's protocol asks of its server; its own accept loop and its log are not used."""

    def __init__(self, listener: Listener, app: Callable[..., Any]) -> None:
        super().__init__(
            listener._socket,  # noqa: SLF001  the two are one thing
            listener.address,
            app,
            protocol=Protocol,
            keepalive=KEEP_ALIVE_SECONDS,
            socket_timeout=SOCKET_SECONDS,
            log_output=False,
            debug=False,
        )
        self.capitalize_response_headers = False  # ETag and RateLimit are written as their standards do
        self._listener = listener

    @property
    def draining(self) -> bool:
        """Whether each connection ends after its current request."""
        return self._listener.draining


def _affordable() -> int:
    """Return how many connections the file limit has room for beside what else the process opens."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(CONNECTIONS_MAX, soft - FILES_KEPT_FREE))
