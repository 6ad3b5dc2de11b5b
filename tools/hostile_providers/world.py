"""What all vendors of the hostile server share: scripts waiting for requests, bills, work in progress, pictures."""

import hashlib
import io
import itertools
import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from tools.hostile_providers.scripts import LOST_AND, SCRIPTS

HANG_SECONDS = 90.0
SLOW_SECONDS = 5.0
WORK_SECONDS = 1.0
CROWD_SECONDS = 60.0
_DIRECTIVE = re.compile(r"\[\[script:([a-z_0-9]+)\]\]")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came; names of headers in lower case. ``line`` is the client's port: one a connection."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    address: str
    line: int = 0

    def json(self) -> dict[str, Any]:
        """Return the body as JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def form(self) -> tuple[dict[str, str], list[tuple[str, bytes, str]]]:
        """Return the body as a form: fields by name, and files as ``(field, content, media type)``."""
        kind, options = parse_options_header(self.headers.get("content-type", ""))
        parser = FormDataParser(stream_factory=lambda *_, **__: io.BytesIO())
        _, fields, files = parser.parse(io.BytesIO(self.body), kind, len(self.body), options)
        found = [(name, file.read(), file.mimetype) for name, file in files.items(multi=True)]
        return fields.to_dict(), found

    @property
    def operation_id(self) -> str:
        """What the client calls the operation: the header it marks its billable requests with."""
        return self.headers.get("x-client-request-id", "")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent back; with ``cut``, half of it and then the end of the connection."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


class HangUp(Exception):
    """Close the connection without a word."""


@dataclass(frozen=True, kw_only=True)
class Bill:
    """One piece of work the vendor wants money for."""

    vendor: str
    operation_id: str
    model: str
    images: int


class World:
    """The vendors' side of things. ``time_scale`` shortens every wait: 0.01 makes 90 s a second.

    With a ``crowd``, what is slow is not answered until so many requests have been under way at once.
    """

    def __init__(self, *, time_scale: float = 1.0) -> None:
        self.time_scale = time_scale
        self.default = "ok"
        self.bills: list[Bill] = []
        self.requests: list[Asked] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.in_flight = self.most_in_flight = 0
        self.crowd = 0
        self._crowded = threading.Event()
        self._scripts: dict[str, deque[str]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def play(self, *scripts: str, vendor: str = "") -> None:
        """Let the next operations (of one vendor, or of any) go by these scripts, one each.

        Raises:
            KeyError: there is no such script.
        """
        for script in scripts:
            self._known(script)
        with self._lock:
            self._scripts[vendor].extend(scripts)

    def always(self, script: str) -> None:
        """Let every operation go by this script from now on, unless another waits for it."""
        self.default = self._known(script)

    def script_for(self, vendor: str, prompt: str) -> str:
        """Return the script of an operation: named in its prompt as ``[[script:name]]``, waiting, or the default."""
        named = _DIRECTIVE.search(prompt)
        if named and named[1] in SCRIPTS:
            return named[1]
        with self._lock:
            for waiting in (self._scripts[vendor], self._scripts[""]):
                if waiting:
                    return waiting.popleft()
        return self.default

    def wait_for_crowd(self) -> None:
        """Wait until the crowd has come, at most a minute."""
        if self.crowd:
            self._crowded.wait(CROWD_SECONDS)

    def let_go(self) -> None:
        """Answer what waits for a crowd that will not come."""
        self.crowd = 0
        self._crowded.set()

    def bill(self, vendor: str, asked: Asked, *, model: str, images: int) -> None:
        """Note that work was done which the vendor charges for."""
        with self._lock:
            self.bills.append(Bill(vendor=vendor, operation_id=asked.operation_id, model=model, images=images))

    def billed(self, operation_id: str) -> int:
        """Return how often an operation was billed."""
        return sum(bill.operation_id == operation_id for bill in self.bills)

    def new_id(self, prefix: str) -> str:
        """Return an id nobody has had."""
        return f"{prefix}{next(self._numbers):08d}"

    def done_at(self, script: str) -> float:
        """Return the (monotonic) time at which work begun now is done, where the client need not wait for it."""
        seconds = {"hang": HANG_SECONDS, "slow": SLOW_SECONDS}.get(script, WORK_SECONDS)
        return time.monotonic() + seconds * self.time_scale

    def wait(self, seconds: float) -> None:
        """Let time pass, scaled."""
        time.sleep(seconds * self.time_scale)

    def come(self, delta: int) -> None:
        """Count a request that came (1) or went (-1)."""
        with self._lock:
            self.in_flight += delta
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            if self.crowd and self.most_in_flight >= self.crowd:
                self._crowded.set()

    def picture(self, seed: object, *, script: str) -> bytes:
        """Return the JPEG of a piece of work, 96 x 64: coloured by its seed, or damaged as the script says."""
        digest = hashlib.sha256(repr(seed).encode()).digest()
        image = Image.new("RGB", (96, 64), (digest[0], digest[1], digest[2]))
        image.paste((digest[3], digest[4], digest[5]), (16, 16, 80, 48))
        output = io.BytesIO()
        image.save(output, "JPEG", quality=90)
        whole = output.getvalue()
        if script == "truncated_image":
            return whole[: len(whole) // 2]
        return b"<html><body>Sorry.</body></html>" if script == "result_html" else whole

    @staticmethod
    def _known(script: str) -> str:
        SCRIPTS[script]
        return script


def as_json(content: Any, *, status: int = 200, **headers: str) -> Answer:
    """Return an answer in JSON; underscores in the names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=json.dumps(content).encode(), headers=named)


def html(status: int) -> Answer:
    """Return a page as the edge of a vendor shows it."""
    page = b"<!DOCTYPE html><html><head><title>Just a moment</title></head><body>cloud</body></html>"
    return Answer(status=status, body=page, content_type="text/html")


def spoiled(world: World, answer: Answer, *, script: str, waits: bool = True) -> Answer:
    """Return the answer to work that was done, as the script spoils it on its way; ``waits``: only when it is done.

    Raises:
        HangUp: it does not arrive at all.
    """
    if script == "accept_then_drop" or script in LOST_AND:
        raise HangUp
    if script == "slow":
        world.wait_for_crowd()
    if script in {"hang", "slow"} and waits:
        world.wait(HANG_SECONDS if script == "hang" else SLOW_SECONDS)
    if script == "html_200":
        return html(200)
    if script == "html_502":
        return html(502)
    if script == "garbage_json":
        return Answer(body=answer.body[: len(answer.body) // 2])
    if script == "answer_cut":
        return Answer(status=answer.status, body=answer.body, cut=True)
    return answer
