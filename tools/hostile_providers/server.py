"""The hostile vendors behind one HTTP server, each below a path of its own, and a few routes to direct them."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tools.hostile_providers import fal, gemini, getimg, openai, replicate
from tools.hostile_providers.scripts import SCRIPTS
from tools.hostile_providers.webhooks import Webhooks
from tools.hostile_providers.world import Answer, Asked, HangUp, World, as_json

# What a provider's PROVIDER_<NAME>_BASE_URL is set to, below the server's address.
BASE_PATHS = {
    "replicate": "/replicate",
    "fal": "/fal",
    "openai": "/openai/v1",
    "gemini": "/gemini",
    "getimg": "/getimg/v1",
}
# What may be asked for below /control.
COMMANDS = {
    "GET /control": "this",
    "POST /control/always": 'let every request go by a script: {"script": "nsfw"}',
    "POST /control/play": 'let the next go by these, one each: {"scripts": ["nsfw", "ok"], "vendor": "replicate"}',
    "GET /control/bills": "what was billed, and for which operation",
    "GET /control/webhooks": "which webhooks were sent, and what they were answered with (0: nobody was there)",
}
_VENDORS = {"replicate": replicate, "fal": fal, "openai": openai, "gemini": gemini, "getimg": getimg}


class HostileProviders:
    """All vendors, their `World`, and the webhooks they send. Serves on a loopback port while `running`."""

    def __init__(self, *, time_scale: float = 1.0, webhook_secret: str | None = None) -> None:
        self.world = World(time_scale=time_scale)
        self.webhooks = Webhooks(self.world, replicate_secret=webhook_secret)
        self.address = ""

    @contextmanager
    def running(self, *, port: int = 0) -> Iterator["HostileProviders"]:
        """Serve on ``port`` (0: a free one) until the block ends."""
        vendors = self

        class Handler(_Handler):
            owner = vendors

        server = _Server(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def base_url(self, vendor: str) -> str:
        """Return what the vendor's base URL is here."""
        return f"{self.address}{BASE_PATHS[vendor]}"

    def answer(self, asked: Asked) -> Answer:
        """Return what the vendor below whose path the request came says.

        Raises:
            HangUp: nothing.
        """
        vendor, _, rest = asked.path.lstrip("/").partition("/")
        self.world.requests.append(asked)
        try:
            if vendor == "control":
                return self._directed(asked, rest)
            if vendor == ".well-known":
                return as_json(self.webhooks.jwks())
            if vendor not in _VENDORS:
                return as_json({"detail": "no such vendor", "vendors": BASE_PATHS}, status=404)
            answer: Answer = _VENDORS[vendor].answer(self.world, self.webhooks, asked, f"/{rest}")
        except (LookupError, TypeError, ValueError) as error:
            detail = f"the request was not understood: {type(error).__name__}: {error}"
            return as_json({"detail": detail, "commands": COMMANDS, "scripts": _described()}, status=400)
        return answer

    def _directed(self, asked: Asked, what: str) -> Answer:
        """Answer who directs by hand, as `COMMANDS` has it."""
        if what == "play" and asked.method == "POST":
            wanted = asked.json()
            self.world.play(*wanted["scripts"], vendor=wanted.get("vendor", ""))
        elif what == "always" and asked.method == "POST":
            self.world.always(asked.json()["script"])
        elif what == "bills":
            return as_json([vars(bill) for bill in self.world.bills])
        elif what == "webhooks":
            return as_json([{"url": url, "answered": status} for url, status in self.webhooks.sent])
        elif what:
            return as_json({"detail": "no such command", "commands": COMMANDS}, status=404)
        return as_json({"always": self.world.default, "commands": COMMANDS, "scripts": _described()})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # hundreds connect at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of our own mistakes; a client that dies is what half of the tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: HostileProviders
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def do_DELETE(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def _respond(self) -> None:
        address = urlsplit(self.path)
        asked = Asked(
            method=self.command,
            path=address.path,
            query=dict(parse_qsl(address.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            address=self.owner.address,
            line=self.client_address[1],
        )
        self.owner.world.come(1)
        try:
            self._send(self.owner.answer(asked))
        except HangUp:
            self.close_connection = True
        except OSError:
            self.close_connection = True  # who asked has gone
        finally:
            self.owner.world.come(-1)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
        self.close_connection = self.close_connection or answer.cut


def _described() -> dict[str, str]:
    return {name: what for name, (what, _) in SCRIPTS.items()}
