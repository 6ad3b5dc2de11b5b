"""nameko's side of HTTP: the entrypoint of a route, and the server extension that all routes of a process share."""

from functools import partial
from typing import Any

import structlog
from nameko.web.handlers import HttpRequestHandler
from nameko.web.server import WebServer

from shared import budget
from shared.config import Settings, parse_address
from shared.host import run_in_worker
from shared.http_application import Application
from shared.http_exchange import Outcome, Request
from shared.http_limits import Limits
from shared.http_listener import Listener
from shared.http_origins import Origins
from shared.http_problems import documented_at
from shared.http_routes import Endpoint, Route

log = structlog.get_logger(__name__)

# A worker that ends without a word (killed) must not leave its request waiting.
_GRACE_SECONDS = 1.0


class HttpServer(WebServer):
    """One server a process, on the address of ``WEB_SERVER_ADDRESS``; of nameko's own only the wiring is used."""

    def __init__(self) -> None:
        super().__init__()
        self._listener: Listener | None = None
        self.address: tuple[str, int] | None = None  # the one in use, once started

    def start(self) -> None:
        """Listen, with the routes that have registered."""
        if self._listener is None:
            settings = self.container.config.get("settings")
            if settings:
                documented_at(settings.public_url)
            host, port = parse_address(self.container.config["WEB_SERVER_ADDRESS"])
            endpoints = [Endpoint(item.route, partial(_run, item)) for item in self._providers]
            self._app = Application(endpoints, **_border(settings))
            self._listener = Listener(self._app, (host, port), per_address=_connections_per_address(settings))
            self._listener.start()
            self.address = self._listener.address
            log.info("http_listening", host=host, port=self.address[1], routes=len(endpoints))

    def stop(self) -> None:
        """Take no more requests and wait for those at work; the runner limits the wait."""
        if self._listener:
            self._app.close()
            self._listener.drain()

    def kill(self) -> None:
        """Drop every connection."""
        if self._listener:
            self._listener.kill()


class HttpEntrypoint(HttpRequestHandler):
    """Makes a service's method the handler of a route."""

    server = HttpServer()

    def __init__(self, route: Route) -> None:
        super().__init__(route.method, route.url)
        self.route = route

    def stop(self) -> None:
        """Stop the server with the first route, so that none is missing while it still answers."""
        self.server.stop()


def _border(settings: Settings | None) -> dict[str, Any]:
    """Return what the settings say of who may ask, how often, and from which web pages."""
    if settings is None:
        return {}
    limits = Limits(
        address=settings.rate_limit_address,
        credential=settings.rate_limit_credential,
        refused=settings.rate_limit_refused_credentials,
        storage_url=settings.rate_limit_url,
    )
    return {
        "limits": limits,
        "proxies": settings.trusted_proxies,
        "origins": Origins(settings.cors_origins),
        "encrypted": settings.public_url.startswith("https://"),
    }


def _connections_per_address(settings: Settings | None) -> int:
    """Return how many connections one address may have; behind a proxy of ours all have its address, so any number."""
    return settings.connections_per_address if settings and not settings.trusted_proxies else 0


def _run(entrypoint: Any, request: Request) -> Outcome:
    """Run the route in nameko's worker pool; waiting for a free worker counts as part of its time.

    Raises:
        TimeLimitExceeded: no worker was free, or the one at work has not answered, in time.
    """
    seconds = budget.remaining_seconds(entrypoint.route.time_limit_seconds) + _GRACE_SECONDS
    with budget.interrupted_after(seconds, f"{entrypoint.route.method} {entrypoint.route.url}"):
        outcome: Outcome = run_in_worker(entrypoint, request)
        return outcome
