"""The only doubles of the test suite: small servers that play the wire protocol of a third party."""

import base64
import dataclasses
import hashlib
import hmac
import io
import json
import os
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import PIL.Image
import psycopg2
from sqlalchemy.orm import Session
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from services.generation import retrying
from services.generation.operations import (
    Absent,
    Answered,
    Found,
    Lost,
    MadeImage,
    Outcome,
    Progress,
    Running,
    Submission,
    Submitted,
)
from services.generation.providers import Request
from services.generation.submissions import Submission as JobOrder
from shared.database import Database
from shared.events import EventRecorded
from shared.ids import new_id
from shared.problems import (
    BadRequest,
    Conflict,
    NotFound,
    PreconditionFailed,
    Problem,
    SkuTaken,
    Unavailable,
    UnsubscribeInvalid,
    from_dict,
)
from shared.rpc_batches import answers_to


class FakeS3:
    """The part of the S3 protocol that the object store uses, for one bucket, in memory.

    ``objects`` holds what was stored. ``answers`` are sent instead of the true ones, each once and in order: a
    status, or ``"cut"`` for a body that ends too early. ``lose_next_put`` stores the object and hangs up. Where it
    ``keeps_versions``, deleting a key only hides what it had, which is in ``hidden`` by key and version then.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answers: list[int | str] = []
        self.lose_next_put = False
        self.keeps_versions = False
        self.hidden: dict[tuple[str, str], bytes | None] = {}
        self.page_size = 1000

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free loopback port and give the endpoint's address."""
        fake = self

        class Handler(_S3Handler):
            s3 = fake

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _S3Handler(BaseHTTPRequestHandler):
    s3: FakeS3
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = self._begin()
        if key is None:
            return
        if self.headers.get("If-None-Match") == "*" and key in self.s3.objects:
            self._error(412, "PreconditionFailed")
            return
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if self.headers.get("x-amz-checksum-sha256") != digest:
            self._error(400, "BadDigest")
            return
        self.s3.objects[key] = body
        if self.s3.lose_next_put:
            self.s3.lose_next_put = False
            self.close_connection = True
            return
        self._send(200, b"")

    def do_POST(self) -> None:
        """Take a form with a signed policy, as S3 does: every field covered, the key exact, the size in its range."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._begin() is None:
            return
        kind, options = parse_options_header(self.headers["Content-Type"])
        _, form, files = FormDataParser(stream_factory=lambda *_, **__: io.BytesIO()).parse(
            io.BytesIO(body), kind, len(body), options
        )
        fields = {name.lower(): value for name, value in form.items()}
        data = files["file"].read()
        problem = _policy_problem(fields, size=len(data), bucket=urlsplit(self.path).path.strip("/"))
        if problem:
            self._error(403 if problem != "EntityTooLarge" else 400, problem)
            return
        self.s3.objects[fields["key"]] = data
        self._send(204, b"")

    def do_GET(self) -> None:
        key = self._begin()
        if key is None:
            return
        if not key and "versions" in parse_qs(urlsplit(self.path).query, keep_blank_values=True):
            self._list_versions()
        elif not key:
            self._list()
        elif key not in self.s3.objects:
            self._error(404, "NoSuchKey")
        else:
            self._range(self.s3.objects[key])

    def do_HEAD(self) -> None:
        key = self._begin()
        if key is None:
            return
        if key in self.s3.objects:
            self._send(200, self.s3.objects[key], Last_Modified=formatdate(1_700_000_000, usegmt=True))
        else:
            self._send(404, b"")

    def do_DELETE(self) -> None:
        key = self._begin()
        if key is None:
            return
        (version,) = parse_qs(urlsplit(self.path).query).get("versionId", [""])
        if version:
            self.s3.hidden.pop((key, version), None)
        elif self.s3.keeps_versions:
            if key in self.s3.objects:
                self.s3.hidden[key, f"v{len(self.s3.requests)}"] = self.s3.objects.pop(key)
            self.s3.hidden[key, f"m{len(self.s3.requests)}"] = None  # the marker that hides it
        else:
            self.s3.objects.pop(key, None)
        marked = {"x_amz_delete_marker": "true"} if self.s3.keeps_versions and not version else {}
        self._send(204, b"", **marked)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _begin(self) -> str | None:
        """Note the request and return its key, or None when a planned answer was sent instead."""
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        self.s3.requests.append((self.command, key, dict(self.headers)))
        if self.s3.answers and self.s3.answers[0] != "cut":
            self._error(int(self.s3.answers.pop(0)), "SlowDown")
            return None
        return key

    def _range(self, stored: bytes) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        if int(first) >= len(stored):
            self._error(416, "InvalidRange")
            return
        part = stored[int(first) : int(last) + 1 if last else None]
        if self.s3.answers and self.s3.answers.pop(0) == "cut":
            self._send(206, part, cut=len(part) // 2)
        else:
            self._send(206, part)

    def _list(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        after = query.get("continuation-token", [""])[0]
        prefix = query.get("prefix", [""])[0]
        keys = sorted(key for key in self.s3.objects if key.startswith(prefix) and key > after)
        page = keys[: self.s3.page_size]
        more = len(keys) > len(page)
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        entries = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in page)
        self._send(
            200,
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>".encode(),
        )

    def _list_versions(self) -> None:
        (prefix,) = parse_qs(urlsplit(self.path).query).get("prefix", [""])
        entries = "".join(
            f"<{kind}><Key>{key}</Key><VersionId>{version}</VersionId></{kind}>"
            for (key, version), data in self.s3.hidden.items()
            if key.startswith(prefix)
            for kind in ("DeleteMarker" if data is None else "Version",)
        )
        self._send(200, f"<ListVersionsResult><IsTruncated>false</IsTruncated>{entries}</ListVersionsResult>".encode())

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode())

    def _send(self, status: int, body: bytes, *, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _policy_problem(fields: dict[str, str], *, size: int, bucket: str) -> str | None:
    """Return why S3 would refuse the form, or None."""
    policy = json.loads(base64.b64decode(fields["policy"]))
    signing_key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in fields["x-amz-credential"].split("/")[1:]:
        signing_key = hmac.digest(signing_key, part.encode(), hashlib.sha256)
    signature = hmac.digest(signing_key, fields["policy"].encode(), hashlib.sha256).hex()
    if not hmac.compare_digest(signature, fields["x-amz-signature"]):
        return "SignatureDoesNotMatch"
    if datetime.fromisoformat(policy["expiration"]) <= datetime.now(UTC):
        return "AccessDenied"
    exact: dict[str, str] = {}
    least, most = 0, 5 << 30
    for condition in policy["conditions"]:
        if isinstance(condition, dict):
            exact |= {name.lower(): value for name, value in condition.items()}
        elif condition[0] == "content-length-range":
            least, most = condition[1:]
    sent = {name: value for name, value in fields.items() if name not in {"policy", "x-amz-signature"}}
    if {**sent, "bucket": bucket} != exact:
        return "AccessDenied"
    return None if least <= size <= most else "EntityTooLarge"


class FakeSite:
    """Somebody else's web server, down to the bytes: answers each connection by the path its request asks for.

    ``answers`` maps a path to what is sent: bytes, or pieces of them that may take their time (an iterator made by a
    function). ``asked`` has the head of every request, as it came.
    """

    def __init__(self, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, bytes | Callable[[], Iterator[bytes]]] = {}
        self.asked: list[str] = []
        self.hung_up = threading.Event()
        self._tls = tls
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self.place = f"{address}:{self.port}"
        self._serving = threading.Thread(target=self._serve, daemon=True)

    @contextmanager
    def running(self) -> Iterator["FakeSite"]:
        """Serve until the block ends."""
        self._serving.start()
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """Take no further connection."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._serving.is_alive():  # else it would wait for a number that is soon somebody else's
            self._serving.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, self._secured(plain) as opened:
            if isinstance(opened, ssl.SSLSocket):
                opened.do_handshake()
            head = b""
            while not _is_whole(head) and (piece := opened.recv(65536)):
                head += piece
            asked = head.decode("latin-1")
            if "\r\n\r\n" not in asked:
                return
            self.asked.append(asked)
            answer = self.answers[asked.split(" ")[1]]
            try:
                for piece in [answer] if isinstance(answer, bytes) else answer():
                    opened.sendall(piece)
            except OSError:
                self.hung_up.set()

    def _secured(self, plain: socket.socket) -> socket.socket:
        if self._tls is None:
            return plain
        return self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)


def _is_whole(request: bytes) -> bool:
    """Return whether a request has come with all the body it announces."""
    head, end, body = request.partition(b"\r\n\r\n")
    announced = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return bool(end) and len(body) >= int(announced[1] if announced else 0)


def an_answer(body: bytes = b"", *, status: str = "200 OK", **headers: str) -> bytes:
    """Return an HTTP answer as its bytes; underscores in the names of headers stand for dashes."""
    described = {"Content_Length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in described.items()]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode() + body


@dataclass
class Posted:
    """One request a `FakeReceiver` got: its path, its headers by lower-case name, and its body as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


class FakeReceiver:
    """A customer's server for webhooks: keeps what is posted, and answers as ``answer`` says for it.

    ``answer`` gets the request and returns status, headers and body, at once or after a while.
    """

    def __init__(self, answer: Callable[[Posted], tuple[int, dict[str, str], bytes]] | None = None) -> None:
        self.answer = answer or (lambda _posted: (204, {}, b""))
        self.posted: list[Posted] = []
        self.at_once = 0
        self.most_at_once = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.at_once += 1
                receiver.most_at_once = max(receiver.most_at_once, receiver.at_once)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posted = Posted(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.posted.append(posted)
                try:
                    status, headers, content = receiver.answer(posted)
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                finally:
                    receiver.at_once -= 1

            def log_message(self, *_arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_arguments: Any) -> None:
                """Somebody hung up."""

        self._handler, self._kind = Handler, Server
        self._server = Server(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.place}/hook"

    def posted_to(self, path: str) -> list[Posted]:
        """Return what came to one path: several may use one receiver."""
        return [posted for posted in self.posted if posted.path == path]

    def be_down(self) -> None:
        """Leave, until `running` is called again."""
        self._server.server_close()

    @contextmanager
    def running(self) -> Iterator["FakeReceiver"]:
        """Serve until the block ends."""
        if self._server.socket.fileno() < 0:
            self._server = self._kind(self._server.server_address, self._handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


class HoldingCredits:
    """Stands for the credits service: holds 10 for each line, or raises what the test put into ``refusal``.

    With a ``means`` it holds for so many lines in all and says ``shortfall`` of the others; a line once held stays so.
    ``quotes_taken`` are the calls that took a quote for a test key's job.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.quotes_taken: list[dict[str, Any]] = []
        self.refusal: Exception | None = None
        self.means: int | None = None
        self.shortfall: dict[str, Any] = {"code": "quota_exceeded", "detail": "The plan allows no more."}
        self.held: set[str] = set()
        self.refusals: dict[str, Problem] = {}  # by job
        self.asked_together: list[int] = []  # how many at a time

    def reserve_many(self, *, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self.asked_together.append(len(calls))
        if isinstance(self.refusal, Unavailable):
            raise self.refusal
        return answers_to(
            json.loads(json.dumps(calls)),
            read=lambda call: call.arguments,
            run=lambda several: [self.reserve(**request) for request in several],
        )

    def reserve(self, **request: Any) -> dict[str, Any]:
        self.calls.append(json.loads(json.dumps(request)))
        refusal = self.refusal or self.refusals.get(request["job_id"])
        if refusal:
            raise refusal
        lines = request["lines"]
        left = len(lines) if self.means is None else self.means - len(self.held)
        new = [line["line_id"] for line in lines if line["line_id"] not in self.held]
        short = new[max(0, left) :]
        if short and not (request["partial"] and len(short) < len(lines)):
            raise from_dict({**self.shortfall, "status": 402, "title": "Short", "retryable": False})
        held = [
            {"line_id": line["line_id"], "sku": line["sku"], "unit": "credits", "amount": 10}
            for line in lines
            if line["line_id"] not in short
        ]
        if not request.get("dry_run"):
            self.held |= {line["line_id"] for line in held}
        return {
            "reservation_id": "rsv",
            "lines": held,
            "shortfall": self.shortfall if short else None,
            "available": 0,
            "held": 10 * len(held),
            "version": 1,
        }

    def prices(self, *, skus: Mapping[str, int]) -> dict[str, Any]:
        line = {"unit": "credits", "unit_amount": 10, "price_version": 1}
        return {"lines": [{**line, "sku": sku, "count": count, "amount": 10 * count} for sku, count in skus.items()]}

    def take_test_quote(self, **request: Any) -> dict[str, Any]:
        self.quotes_taken.append(json.loads(json.dumps(request)))
        if self.refusal:
            raise self.refusal
        return self.prices(skus={"staging.variant": 7})


def a_model_of_local() -> dict[str, Any]:
    """Return a model as generation shows it."""
    return {
        "provider": "local",
        "id": "local-preview-1",
        "aliases": [],
        "operations": ["image.stage"],
        "in_use_for": ["image.stage"],
        "available": True,
        "valid_from": "2026-01-01",
        "sunset": None,
        "replacement": None,
        "health": {
            "status": "ok",
            "state": "closed",
            "failures_in_a_row": 0,
            "last_failure": None,
            "last_failure_at": None,
            "open_since": None,
            "paused_until": None,
            "p50_seconds": {"image.stage": 1.25},
        },
    }


class ScriptedProvider:
    """An AI provider that answers by script; with an empty script, by one small picture of the seed's colour."""

    name = "local"
    operations = frozenset({"image.stage", "image.empty_room", "image.product_scene", "image.headshot"})
    after_lost_answer = "resend"
    time_limit_seconds = 5.0
    concurrency = 4
    requests_per_minute = None
    calls_back = False

    def __init__(self) -> None:
        self.script: list[Submission | Callable[[Request], Submission]] = []
        self.requests: list[Request] = []

    def model_for(self, _operation: str) -> str:
        return "scripted-1"

    def expected_cost_microusd(self, _operation: str, _parameters: Mapping[str, Any]) -> int:
        return 5

    def submit(self, request: Request) -> Submission:
        self.requests.append(request)
        answer = self.script.pop(0) if self.script else picture_of
        return answer(request) if callable(answer) else answer


class SeeingProvider(ScriptedProvider):
    """One that looks at pictures: with an empty script it answers what they are of, the same for the same picture."""

    operations = frozenset({"vision.analyze", "vision.category", "image.edit"})

    def __init__(self) -> None:
        super().__init__()
        self.model = "seeing-1"

    def model_for(self, _operation: str) -> str:
        return self.model

    def submit(self, request: Request) -> Submission:
        self.requests.append(request)
        answer = self.script.pop(0) if self.script else seen_in
        return answer(request) if callable(answer) else answer


def seen_in(request: Request) -> Outcome:
    if request.name == "image.edit":
        return picture_of(request)
    seen = hashlib.sha256(b"".join(request.sources)).hexdigest()[:8]
    if request.name == "vision.category":
        result: dict[str, Any] = {"category": seen, "subcategory": "unknown", "confidence": 0.5}
    else:
        texts = dict.fromkeys(("summary", "category", "style", "lighting", "composition"), seen)
        result = {**texts, "colors": [], "materials": [], "details": [], "confidence": 0.5}
    return Answered(result=result, model=request.model, cost_microusd=7, prompt_tokens=100, completion_tokens=10)


class KnowingProvider(SeeingProvider):
    """One that knows all there is to know for a technical pack: see `found_on`."""

    operations = frozenset(
        {
            "vision.category",
            "vision.product",
            "vision.plan",
            "vision.measure",
            "vision.edit",
            "image.close_up",
            "image.sketch",
            "image.edit",
        }
    )


def found_on(name: str, parameters: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any] | None:
    """Return what is found by an operation of a technical pack: it follows from its parameters; None of an image."""
    if name == "vision.category":
        return {"category": "kitchen", "subcategory": "ware", "confidence": 0.8}
    if name == "vision.product":
        return an_analysis(category=parameters["category"] or "thing", seen=parameters["view_type"])
    if name == "vision.plan":
        words = dict.fromkeys(("view", "instruction", "reason"), f"as {seed} says")
        photos = len(parameters["views"])
        shots = [{"title": f"Detail {n}", "photo": 1 + n % photos, **words} for n in range(parameters["count"])]
        return {"shots": shots, "confidence": 0.5}
    if name == "vision.measure":
        ends = {"x1": 0, "y1": 1, "x2": 1, "y2": 1}
        length = {"code": "A", "name": "Width", "value": 8.5, "unit": "cm", "basis": "measured", **ends}
        place = {"number": 1, "label": "Rim", "note": "glazed", "x": 0.5, "y": 0}
        return {"callouts": [place], "measurements": [length], "confidence": 0.6}
    if name == "vision.edit":
        value = parameters["instruction"].removeprefix("Set it to ")
        return {"value": value, "explanation": "as asked", "confidence": 0.9}
    return None


def an_analysis(*, category: str, seen: str = "front", **sections: Any) -> dict[str, Any]:
    """Return the analysis of a product, complete and sure to 0.8."""
    return {
        "summary": f"A {category}.",
        "product_type": category,
        "category": category,
        "subcategory": "plain",
        "materials": [{"name": part, "location": seen, "finish": "glossy"} for part in ("body", "handle")],
        "dimensions": [{"name": "height", "value": 8.5, "unit": "cm", "basis": "measured"}],
        "colors": [{"hex": "#a82c10", "name": "red", "share": 1}],
        "construction": [{"name": "joint", "value": "glued"}],
        "design_elements": [{"name": "rim", "value": "rolled"}],
        "attributes": [{"name": "view", "value": seen}],
        "confidence": 0.8,
        **sections,
    }


class TakingProvider(ScriptedProvider):
    """An asynchronous one: it takes operations, and is at them until the test has it done.

    ``jobs`` are what it has at work, by its own ids; ``done`` what those come to, else they run. With ``drops`` it
    takes the next and answers with `Lost`; with ``ignores`` it does not even take it. ``cancelled`` are those it was
    asked to stop; ``searchable``: it can be looked through by now. ``billed`` counts pieces of work by operation.
    """

    operations = frozenset({"image.stage", "image.product_scene"})
    after_lost_answer = "lookup"

    def __init__(self, name: str = "replicate") -> None:
        super().__init__()
        self.name = name
        self.concurrency = 2000
        self.time_limit_seconds = 300.0
        self.jobs: dict[str, Request] = {}
        self.done: dict[str, Outcome] = {}
        self.polled: list[str] = []
        self.cancelled: list[str] = []
        self.drops = self.ignores = 0
        self.searchable = True
        self.wishes: float | None = None
        self.phase = "running"
        self.while_polled: Callable[[], object] = lambda: None

    @property
    def billed(self) -> Counter[str]:
        return Counter(request.operation_id for request in self.jobs.values())

    def submit(self, request: Request) -> Submission:
        self.requests.append(request)
        if self.script:
            answer = self.script.pop(0)
            return answer(request) if callable(answer) else answer
        if self.ignores:
            self.ignores -= 1
            return Lost(detail="the connection broke")
        external_id = f"there_{len(self.jobs)}"
        self.jobs[external_id] = request
        if self.drops:
            self.drops -= 1
            return Lost(detail="the answer broke off")
        return Submitted(external_id=external_id)

    def poll(self, external_id: str) -> Progress:
        self.polled.append(external_id)
        self.while_polled()
        if external_id in self.done:
            return self.done[external_id]
        return Running(phase=self.phase, poll_after_seconds=self.wishes)

    def find(self, operation_id: str, *, sent_at: datetime) -> Found:
        assert sent_at.tzinfo
        if not self.searchable:
            return Lost(detail="too early to tell")
        found = [key for key, request in self.jobs.items() if request.operation_id == operation_id]
        return Submitted(external_id=found[-1]) if found else Absent(detail="never came")  # newest first, as vendors do

    def known_as(self, work_id: object, *, model: str) -> Submitted | None:
        assert model == self.model_for("image.stage")
        return Submitted(external_id=str(work_id)) if str(work_id).startswith("there_") else None

    def cancel(self, external_id: str) -> bool:
        self.cancelled.append(external_id)
        return True

    def finish(self, external_id: str = "there_0", outcome: Outcome | None = None) -> None:
        """Have one of its pieces of work done: with a picture unless it comes to something else."""
        self.done[external_id] = outcome or picture_of(self.jobs[external_id])


class ForgetfulDatabase(Database):
    """A database that is cut off just after the ``nth`` commit, whose answer never comes; from 1, once."""

    def __init__(self, url: str, *, nth: int) -> None:
        super().__init__(url, pool_size=5)
        self.commits_left = nth

    @contextmanager
    def transaction(self, **scope: Any) -> Iterator[Session]:
        with super().transaction(**scope) as session:
            yield session
        self.commits_left -= 1
        if self.commits_left == 0:
            raise psycopg2.OperationalError("server closed the connection unexpectedly")


def picture_of(request: Request) -> Outcome:
    """Answer a request with a 64 x 48 JPEG whose colour is its seed's."""
    colour = (request.seed % 256, request.seed // 256 % 256, request.seed // 65536 % 256)
    return Answered(
        images=(MadeImage(data=small_picture(colour), content_type="image/jpeg"),),
        model=request.model,
        cost_microusd=5,
        provenance={"digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"},
    )


def small_picture(colour: tuple[int, int, int]) -> bytes:
    """Return a JPEG of 64 x 48 pixels."""
    image = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), colour).save(image, "JPEG")
    return image.getvalue()


class OneShotDarkroom:
    """The Python client as far as a contact sheet needs it: each job has one image, the next of ``pictures``."""

    def __init__(self, pictures: list[Path], *, status: str = "succeeded") -> None:
        self._pictures = pictures
        self._status = status
        self.ordered: list[tuple[str, dict[str, Any]]] = []
        self.id = "ast_1"
        self.uploads = self.jobs = self.images = self

    def create(self, first: Any, inputs: Any = None, **_: Any) -> Any:
        if inputs is not None:
            self.ordered.append((first, inputs))
        return self

    def wait(self, _job: Any, **_: Any) -> Any:
        images = [self._pictures.pop(0)]
        return type("Job", (), {"id": "job_1", "status": self._status, "images": images, "failures": []})()

    def download(self, image: Path, _to: str) -> Path:
        return image


class FakeGateway:
    """The routes of the gateway, and of downloads, that the demo and the command line call; it keeps its promises.

    A test changes ``job``, ``images`` or ``after`` to let it break one. ``refusals`` are answered first, each once.
    """

    def __init__(self) -> None:
        terms = {"plan": "pro", "quota": {"limit": None, "used": 0, "resets_at": None}, "counters": {}}
        self.before = {"available": 1000, "held": 0, "version": 1, **terms}
        self.after = {"available": 980, "held": 0, "version": 2, **terms}
        self.contents = [small_picture(colour) for colour in ((200, 0, 0), (0, 200, 0))]
        self.images = [
            {
                **_an_image({"org_id": "org_1", "id": "job_1", "livemode": True}, "gen_1"),
                "id": f"img_{number}",
                "thumbnail_url": None,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "seed": number,
            }
            for number, content in enumerate(self.contents)
        ]
        self.job: dict[str, Any] = {
            **_a_job("job_1", "org_1", "staging", livemode=True),
            "status": "succeeded",
            "charged": 20,
            "progress": 100,
            "finished_at": _TIME,
        }
        self.refusals: list[int] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.accepted = False

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free loopback port and give the address."""
        fake = self

        class Handler(_GatewayHandler):
            gateway = fake

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, path: str, *, address: str) -> tuple[int, Any]:
        """Return status and body for a request."""
        if self.refusals:
            status = self.refusals.pop(0)
            return status, {"code": "refused", "detail": "Not today.", "request_id": "req_1"}
        path = path.partition("?")[0]
        if path.startswith("/files/"):
            return 200, self.contents[int(path.rpartition("/")[2])]
        self.accepted = self.accepted or path == "/v1/stagings"
        answers: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", "/v1/credits"): (200, self.after if self.accepted else self.before),
            ("GET", "/v1/pricing"): (200, {"data": [_A_PRICE], "upcoming": []}),
            ("POST", "/v1/uploads"): (201, _AN_UPLOAD),
            ("POST", "/v1/stagings"): (202, {**self.job, **_JUST_ACCEPTED}),
            ("GET", "/v1/jobs/job_1"): (200, {**self.job, "generations": self._generations(address)}),
            ("POST", "/v1/admin/organizations"): (201, {"id": "org_1", "name": "Demo Studio", "api_key": "sk_live_1"}),
        }
        return answers[method, path]

    def _generations(self, address: str) -> list[dict[str, Any]]:
        failure = {"reason": "invalid_input", "message": "The room is too dark.", "retryable": False}
        failed = failure if self.job["status"] == "failed" else None
        return [
            {**_a_generation(), "failure": failed, "images": [{**image, "url": f"{address}/files/{number}"}]}
            for number, image in enumerate(self.images)
        ]


class _GatewayHandler(BaseHTTPRequestHandler):
    gateway: FakeGateway
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output quiet."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, body: bytes) -> None:
        self.gateway.requests.append((self.command, self.path, dict(self.headers), body))
        status, content = self.gateway.answer(self.command, self.path, address=f"http://{self.headers['Host']}")
        kind = "image/jpeg" if isinstance(content, bytes) else "application/json"
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scripted:
    """One answer of a `ScriptedServer`: a body of bytes goes out as it is, anything else as JSON.

    ``cut_after`` hangs up after so many bytes of it, ``silent_seconds`` is how long it is held back.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    cut_after: int | None = None
    silent_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came, and when (monotonic seconds)."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float


class ScriptedServer:
    """Any HTTP server: plays ``answers`` in their order, each once, and keeps what was ``asked``.

    None among the answers hangs up without one. ``otherwise`` answers when the script is over.
    """

    def __init__(self, *answers: Scripted | None) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self.otherwise: Callable[[Asked], Scripted] = lambda _: Scripted(
            status=500, body={"code": "script_is_over", "detail": "Nothing more was expected."}
        )
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["ScriptedServer"]:
        """Serve on a free loopback port; ``url`` is the address."""

        class Handler(_ScriptedHandler):
            script = self

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def next(self, asked: Asked) -> Scripted | None:
        """Return the answer to a request."""
        self.asked.append(asked)
        return self.answers.pop(0) if self.answers else self.otherwise(asked)


class _ScriptedHandler(BaseHTTPRequestHandler):
    script: ScriptedServer
    protocol_version = "HTTP/1.1"

    def _play(self) -> None:
        address = urlsplit(self.path)
        answer = self.script.next(
            Asked(
                method=self.command,
                path=address.path,
                query={name: values[0] for name, values in parse_qs(address.query).items()},
                headers=dict(self.headers),
                body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                at=time.monotonic(),
            )
        )
        if answer is None:
            self.close_connection = True
            return
        time.sleep(answer.silent_seconds)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        body = b"" if answer.body is None else body
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: answer.cut_after])
        self.close_connection = answer.cut_after is not None

    def do_GET(self) -> None:
        self._play()

    def do_POST(self) -> None:
        self._play()

    def do_PUT(self) -> None:
        self._play()

    def do_PATCH(self) -> None:
        self._play()

    def do_DELETE(self) -> None:
        self._play()

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output quiet."""


class FakeRpc:
    """Another service, as `RpcClient` gives it: plain functions answer, and every value goes through JSON.

    ``down`` makes it answer nothing; ``calls`` lists what was asked, ``(method, arguments)``.
    """

    def __init__(self, **methods: Callable[..., Any]) -> None:
        self.methods = methods
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.down = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.calls.append((name, arguments))
            if self.down:
                raise Unavailable("The service did not answer in time.", retry_after=1)
            return json.loads(json.dumps(self.methods[name](**json.loads(json.dumps(arguments)))))

        return call

    def asked(self, name: str) -> list[dict[str, Any]]:
        """Return the arguments of every call of the method ``name``."""
        return [arguments for method, arguments in self.calls if method == name]


class FakeServices:
    """Credits, catalog and generation as the gateway sees them: one memory for all organizations and modes, no rules.

    ``moved`` has the movements of credits that were asked for, each once, by the id of what they make.
    """

    def __init__(self) -> None:
        self.wallets: dict[str, int] = {}
        self.plans: dict[str, str] = {}
        self.quotes: dict[str, dict[str, Any]] = {}
        self.moved: dict[str, int] = {}
        self.assets: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, dict[str, Any]] = {}
        self.products: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.images: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.styles: dict[str, dict[str, Any]] = {}
        self.headshots: dict[str, dict[str, Any]] = {}
        self.deletions: dict[str, dict[str, Any]] = {}
        self.refusal: Exception | None = None
        self.lose_next_answer = False
        self.credits = FakeRpc(
            open_account=self._open_account,
            balance=self._balance,
            entries=lambda org_id, **_: _page([_an_entry(org_id)]),
            pricing=lambda: {"data": [_A_PRICE], "upcoming": []},
            plans=lambda: {"data": [{"name": "free", "monthly_generations": 100, "price_usd_cents": 0}]},
            usage=lambda org_id, **_: _a_usage(org_id),
            quote=self._quote,
            receipt=self._receipt,
            grant=lambda grant_id, org_id, amount, **_: self._move(grant_id, org_id, amount),
            adjust=lambda adjustment_id, org_id, amount, **_: self._move(adjustment_id, org_id, amount),
            refund=self._refund,
            change_plan=self._change_plan,
            invariants=lambda: {
                "checked_at": _TIME,
                "accounts": 2,
                "entries": 4,
                "violations": [],
                "chain": {"sealed": 3, "head": "0" * 64, "unsealed": 1},
            },
        )
        self.catalog = FakeRpc(
            announce_asset=lambda **_: True,
            register_asset=self._register,
            asset=self._asset,
            delete_asset=self._delete,
            deletion=self._deletion,
            resolve=self._resolve,
            create_product=self._create_product,
            put_product=self._put_product,
            change_product=self._change_product,
            delete_product=self._delete_product,
            product=lambda product_id, **owner: _of(self.products, product_id, **owner),
            products=self._products,
            product_count=lambda **owner: len(_all_of(self.products, **owner)),
            add_view=self._add_view,
            views=self._views,
            expect_upload=self._expect,
            expected_upload=lambda upload_id, **owner: _of(self.expected, upload_id, **owner),
        )
        self.generation = FakeRpc(
            submit=self._submit,
            quote=lambda workflow, inputs, **_: _a_plan(workflow, inputs),
            job=self._job,
            jobs=self._jobs,
            has_jobs=lambda **owner: bool(_all_of(self.jobs, **owner)),
            job_generations=lambda org_id, livemode, job_id, **_: _page(
                _of(self.jobs, job_id, org_id=org_id, livemode=livemode)["generations"]
            ),
            image=self._image,
            image_provenance=self._provenance,
            images=lambda org_id, livemode, **_: _page(_all_of(self.images, org_id=org_id, livemode=livemode)),
            mark_image=lambda image_id, **asked: self._mark(self.images, image_id, **asked),
            image_and_original=self._image_and_original,
            headshots=lambda org_id, livemode, **_: _page(_all_of(self.headshots, org_id=org_id, livemode=livemode)),
            headshot=lambda headshot_id, **owner: _of(self.headshots, headshot_id, **owner),
            headshot_stats=lambda **_: _STATS_OF_HEADSHOTS,
            mark_headshot=lambda headshot_id, **asked: self._mark(self.headshots, headshot_id, **asked),
            delete_headshot=self._delete_headshot,
            tech_pack=_a_pack,
            create_staging_session=self._create_session,
            staging_session=lambda session_id, **owner: _of(self.sessions, session_id, **owner),
            staging_sessions=lambda org_id, livemode, **_: _page(
                _all_of(self.sessions, org_id=org_id, livemode=livemode)
            ),
            change_staging_session=lambda session_id, given, only_versions, **owner: self._change(
                self.sessions, session_id, only_versions, given, owner
            ),
            select_empty_room=self._select_empty_room,
            lock_empty_room=lambda session_id, only_versions, **owner: self._change(
                self.sessions, session_id, only_versions, {"status": "locked", "locked_at": _TIME}, owner
            ),
            delete_staging_session=lambda session_id, only_versions, **owner: self._drop(
                self.sessions, session_id, only_versions, owner
            ),
            generate_empty_room=lambda session_id, retry_number, **order: self._step(
                "empty_room", session_id, {"retry_number": retry_number}, order
            ),
            stage_session=lambda session_id, inputs, **order: self._step("staging", session_id, inputs, order),
            save_style=self._save_style,
            style=lambda style_id, **owner: _of(self.styles, style_id, **owner),
            styles=lambda org_id, livemode, **_: _page(_all_of(self.styles, org_id=org_id, livemode=livemode)),
            change_style=lambda style_id, given, only_versions, **owner: self._change(
                self.styles, style_id, only_versions, given, owner
            ),
            delete_style=lambda style_id, only_versions, **owner: self._drop(
                self.styles, style_id, only_versions, owner
            ),
            workflows=lambda: {"data": [{"name": "staging", "title": "Virtual staging", "example": {}, "choices": {}}]},
            models=lambda: {"data": [a_model_of_local()]},
            cancel=self._cancel,
            sync=self._job,
            retry=self._retry,
            attempts=self._attempts,
            timeline=self._timeline,
            operation_log=lambda **_: _page([_an_operation_of_the_log()]),
            providers=lambda: {"data": [_a_provider()]},
            give_share=lambda **share: share,
        )

        self.endpoints: dict[str, dict[str, Any]] = {}
        self.logged: list[dict[str, Any]] = []
        self.choices: dict[str, dict[str, Any]] = {}
        self.notifications = FakeRpc(
            headshot_analytics=lambda **_: _AN_ANALYSIS_OF_HEADSHOTS,
            staging_analytics=lambda **_: _AN_ANALYSIS_OF_STAGING,
            events=self._events,
            activity=lambda **_: _page([_AN_ACTIVITY]),
            create_endpoint=self._create_endpoint,
            endpoints=lambda org_id, **_: _page([e for e in self.endpoints.values() if e["org_id"] == org_id]),
            endpoint=self._endpoint,
            change_endpoint=self._change_endpoint,
            delete_endpoint=lambda **asked: self.endpoints.pop(self._endpoint(**asked)["id"]),
            rotate_endpoint_secret=lambda org_id, endpoint_id, rotation_id, **_: {
                **self._endpoint(org_id=org_id, endpoint_id=endpoint_id),
                "secret": f"whsec_{rotation_id}",
            },
            test_endpoint=lambda **asked: self._endpoint(**asked) and _A_DELIVERY,
            replay=lambda org_id, endpoint_id, **_: {
                "endpoint_id": self._endpoint(org_id=org_id, endpoint_id=endpoint_id)["id"],
                "replayed": 1,
            },
            deliveries=lambda org_id, endpoint_id, **_: (
                self._endpoint(org_id=org_id, endpoint_id=endpoint_id) and _page([_A_DELIVERY])
            ),
            messages=lambda **_: {**_page([_A_MESSAGE]), "unread": 1},
            mark_read=lambda **_: {"read": 1, "unread": 0},
            preferences=lambda user_id, **_: self.choices.get(user_id, _PREFERENCES),
            change_preferences=self._choose,
            unsubscribe=self._unsubscribe,
            send_tips=lambda tip_id, **_: {"tip_id": tip_id, "mails": 3},
        )

    def log(self, org_id: str, *, livemode: bool = True, type: str = "JobFinished", **data: Any) -> EventRecorded:  # noqa: A002  as in the event
        """Append an event to an organization's log and return what tells the gateways of it."""
        number = 1 + sum(each["org_id"] == org_id for each in self.logged)
        event = {"id": f"evt_{number}", "type": type, "orgsequence": number, "data": {"livemode": livemode, **data}}
        job_id, session_id = data.get("job_id"), data.get("session_id")
        self.logged.append({"org_id": org_id, "livemode": livemode, "event": event})
        return EventRecorded(
            org_id=org_id, orgsequence=number, type=type, event=event, job_id=job_id, session_id=session_id
        )

    def _events(
        self,
        *,
        org_id: str,
        livemode: bool,
        after: str,
        limit: int,
        types: list[str] | None = None,
        session_id: str | None = None,
        job_id: str | None = None,
    ) -> dict[str, Any]:
        mine = [each for each in self.logged if each["org_id"] == org_id]
        wanted = {"job_id": job_id, "session_id": session_id}
        found = [
            each["event"]
            for each in mine
            if each["livemode"] == livemode
            and each["event"]["orgsequence"] > int(after)
            and (types is None or each["event"]["type"] in types)
            and all(value is None or each["event"]["data"].get(name) == value for name, value in wanted.items())
        ]
        more = len(found) > limit
        data = [
            {"id": str(event["orgsequence"]), "type": event["type"], "time": _TIME, "event": event}
            for event in found[:limit]
        ]
        return {
            "data": data,
            "has_more": more,
            "next_cursor": data[-1]["id"] if more else None,
            "oldest": "1",
            "last": str(len(mine)),
            "resync": int(after) > len(mine),
        }

    def _create_endpoint(self, *, org_id: str, endpoint_id: str, created_by: str, **wanted: Any) -> dict[str, Any]:
        del created_by
        made = {**_AN_ENDPOINT, "id": endpoint_id, "org_id": org_id, **wanted}
        return {**self.endpoints.setdefault(endpoint_id, made), "secret": "whsec_first"}

    def _endpoint(self, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
        found = self.endpoints.get(endpoint_id)
        if found is None or found["org_id"] != org_id:
            raise NotFound("There is no such webhook endpoint.")
        return found

    def _change_endpoint(
        self, *, org_id: str, endpoint_id: str, version: int | None = None, **changes: Any
    ) -> dict[str, Any]:
        found = self._endpoint(org_id=org_id, endpoint_id=endpoint_id)
        if version not in {None, found["version"]}:
            raise PreconditionFailed(current=found)
        found.update(changes, version=found["version"] + 1)
        return found

    def _choose(
        self, *, org_id: str, user_id: str, change: dict[str, Any], version: int | None = None
    ) -> dict[str, Any]:
        del org_id
        known = self.choices.get(user_id, _PREFERENCES)
        if version not in {None, known["version"]}:
            raise PreconditionFailed(current=known)
        self.choices[user_id] = {**known, **change, "version": known["version"] + 1}
        return self.choices[user_id]

    def _unsubscribe(self, *, token: str) -> dict[str, Any]:
        if token != "good":
            raise UnsubscribeInvalid("This link is not valid any more.")
        return {"kinds": ["tips_and_best_practices"]}

    def finish(self, job_id: str, status: str = "succeeded") -> None:
        """End a job; one that succeeds has an image."""
        job = self.jobs[job_id]
        job.update(status=status, progress=100, finished_at=_TIME)
        if status == "succeeded":
            generation = _a_generation()
            image = _an_image(job, generation["id"])
            self.images[image["id"]] = image
            job["generations"] = [{**generation, "images": [image]}]
            self.headshots[generation["id"]] = _a_headshot(job, generation, image)

    def _jobs(
        self, *, org_id: str, livemode: bool, active: bool = False, generations: int = 8, **_: Any
    ) -> dict[str, Any]:
        found = _all_of(self.jobs, org_id=org_id, livemode=livemode)
        shown = [{**job, "generations": job["generations"][:generations]} for job in found]
        return _page([job for job in shown if not (active and job["finished_at"])])

    def _open_account(self, *, org_id: str, plan: str, amount: int = 0) -> dict[str, Any]:
        assert plan in {"free", "pro", "team"}
        self.wallets.setdefault(org_id, amount)
        return {"available": self.wallets[org_id], "held": 0, "version": 1}

    def _balance(self, *, org_id: str) -> dict[str, Any]:
        if org_id not in self.wallets:
            raise NotFound("There is no such organization.")
        return {
            "available": self.wallets[org_id],
            "held": 0,
            "version": 1,
            "plan": self.plans.get(org_id, "pro"),
            "quota": {"limit": None, "used": 0, "resets_at": _TIME},
            "counters": {"generations": 7, "credits_spent": 70},
        }

    def _change_plan(self, *, org_id: str, plan: str, actor: str, only_from: str | None = None) -> dict[str, Any]:
        assert actor
        balance = self._balance(org_id=org_id)
        if only_from not in {None, balance["plan"]}:
            raise PreconditionFailed("The organization is on another plan by now.")
        if plan not in {"free", "pro", "team"}:
            raise BadRequest(f"There is no plan {plan!r}.")
        self.plans[org_id] = plan
        return self._balance(org_id=org_id)

    def _move(self, movement_id: str, org_id: str, amount: int) -> dict[str, Any]:
        self._balance(org_id=org_id)
        if movement_id not in self.moved:
            self.moved[movement_id] = amount
            self.wallets[org_id] += amount
        return {"available": self.wallets[org_id], "held": 0, "version": 1}

    def _refund(self, *, job_id: str, reason: str, actor: str, generation_id: str | None = None) -> dict[str, Any]:
        assert reason
        assert actor
        if job_id not in self.jobs:
            raise NotFound("There is no such job.")
        org_id = self.jobs[job_id]["org_id"]
        self._move(f"{job_id}/{generation_id}", org_id, 10)
        refunded = [{"generation_id": generation_id or new_id("gen"), "unit": "credits", "amount": 10}]
        return {"job_id": job_id, "org_id": org_id, "refunded": refunded, "amount": 10}

    def _quote(self, *, org_id: str, quote_id: str, workflow: str, skus: dict[str, int], **more: Any) -> dict[str, Any]:
        assert more["fingerprint"]
        if self.refusal:
            raise self.refusal
        self.wallets[org_id] += 0
        more = {**more, "id": quote_id, "created_at": _TIME, "expires_at": _TIME}
        return self.quotes.setdefault(quote_id, {**_an_estimate(workflow, skus), **more})

    def _receipt(self, *, org_id: str, job_id: str, limit: int, after: str | None) -> dict[str, Any]:
        job = _of(self.jobs, job_id, org_id=org_id, livemode=True)  # credits never hears of another
        assert limit
        return _a_receipt(job, after)

    def _expect(self, *, upload_id: str, **coming: Any) -> dict[str, Any]:
        fresh = {"sha256": None, **coming, "id": upload_id, "asset_id": None, "expires_at": "2099-01-01T00:00:00.000Z"}
        return self.expected.setdefault(upload_id, fresh)

    def _register(self, *, asset_id: str, **asset: Any) -> dict[str, Any]:
        if asset_id in self.expected:
            self.expected[asset_id]["asset_id"] = asset_id
        defaults = {"thumbnail_key": None, "created_at": _TIME, "delete_after": None, "consent": None, "warnings": []}
        self.assets[asset_id] = {**defaults, **asset, "id": asset_id}
        return self.assets[asset_id]

    def _asset(self, *, asset_id: str, **owner: Any) -> dict[str, Any]:
        return _of(self.assets, asset_id, **owner)

    def _delete(self, *, asset_id: str, **owner: Any) -> dict[str, Any]:
        asset = _of(self.assets, asset_id, **owner)
        self.deletions[asset_id] = _a_deletion(asset)
        return self.assets.pop(asset_id)

    def _deletion(self, *, asset_id: str, **owner: Any) -> dict[str, Any]:
        if asset_id in self.assets:
            _of(self.assets, asset_id, **owner)
            raise Conflict("This upload is not deleted yet.")
        return _of(self.deletions, asset_id, **owner)

    def _mark(
        self, things: dict[str, dict[str, Any]], thing_id: str, *, favorite: bool, user_id: str | None, **owner: Any
    ) -> dict[str, Any]:
        assert user_id is None or user_id.startswith("usr_")
        marked = {**_of(things, thing_id, **owner), "favorite": favorite}
        things[thing_id] = marked
        return marked

    def _delete_headshot(self, *, headshot_id: str, user_id: str | None, **owner: Any) -> None:
        assert user_id is None or user_id.startswith("usr_")
        _of(self.headshots, headshot_id, **owner)
        self.headshots.pop(headshot_id)

    def _image_and_original(self, *, image_id: str, **owner: Any) -> dict[str, Any]:
        image = _of(self.images, image_id, **owner)
        upload_id = next(iter(self.assets), "ast_gone")
        return {"image": image, "original": _an_original(upload_id, there=upload_id in self.assets)}

    def _resolve(
        self, *, asset_ids: list[str], product_ids: Sequence[str] = (), revision_ids: Sequence[str] = (), **owner: Any
    ) -> dict[str, Any]:
        views = {view["id"]: view for product in self.products.values() for view in product["views"]}
        named = dict.fromkeys(asset_ids, self.assets) | dict.fromkeys(product_ids, self.products)
        named |= dict.fromkeys(revision_ids, views)
        return {one: _of(things, one, **owner) for one, things in named.items()}

    def _create_product(self, *, product_id: str, picture: Any, user_id: str | None, **product: Any) -> dict[str, Any]:
        owner = {name: product[name] for name in ("org_id", "livemode")}
        assert user_id
        product = {"sku": None, "category": None, "room_types": [], "description": None, "metadata": {}, **product}
        for known in _all_of(self.products, **owner):
            if product["sku"] and known["sku"] == product["sku"] and known["id"] != product_id:
                raise SkuTaken(f"The product {known['id']} has the SKU.", product_id=known["id"])
        times = {"created_at": _TIME, "updated_at": _TIME}
        fresh = {**product, **times, "id": product_id, "version": 1, "views": [], "thumbnail_key": None}
        if product_id not in self.products:
            self.products[product_id] = fresh
            if picture:
                self._add_view(product_id=product_id, picture=picture, user_id=user_id, **owner)
        return self.products[product_id]

    def _products(self, *, org_id: str, livemode: bool, limit: int, after: str | None, **filters: Any) -> Any:
        assert limit
        assert after is None
        found = _chosen(_all_of(self.products, org_id=org_id, livemode=livemode), filters)
        return {**_page(found), "total": len(found), "page": 1}

    def _put_product(self, *, sku: str, **product: Any) -> dict[str, Any]:
        owner = {name: product[name] for name in ("org_id", "livemode")}
        known = next((one for one in _all_of(self.products, **owner) if one["sku"] == sku), None)
        if known is None:
            return {"product": self._create_product(sku=sku, **product), "created": True}
        known.update(name=product["name"], version=known["version"] + 1)
        return {"product": known, "created": False}

    def _change_product(
        self, *, product_id: str, changes: dict[str, Any], versions: list[int] | None, user_id: str | None, **owner: Any
    ) -> dict[str, Any]:
        known = _of(self.products, product_id, **owner)
        assert user_id
        if versions is not None and known["version"] not in versions:
            raise PreconditionFailed
        known.update(**changes, version=known["version"] + 1)
        return known

    def _delete_product(self, *, product_id: str, versions: list[int] | None, **owner: Any) -> None:
        del owner["user_id"]
        known = _of(self.products, product_id, **owner)
        if versions is not None and known["version"] not in versions:
            raise PreconditionFailed
        del self.products[product_id]

    def _add_view(self, *, product_id: str, picture: dict[str, Any], user_id: str | None, **owner: Any) -> Any:
        assert user_id
        product, asset = _of(self.products, product_id, **owner), _of(self.assets, picture["upload_id"], **owner)
        copied = {name: asset[name] for name in ("key", "content_type", "sha256", "bytes", "width", "height")}
        of_generation = dict.fromkeys(("image_id", "generation_id", "parent_id"))
        made = {"product_id": product_id, "version": 1, "is_current": True, "source": "upload", "created_at": _TIME}
        view = {
            "view_type": "front",
            **picture,
            **copied,
            **of_generation,
            **owner,
            **made,
            "id": picture["revision_id"],
        }
        product["views"].append(view)
        product["thumbnail_key"] = picture["thumbnail_key"]
        return view

    def _views(self, *, product_id: str, limit: int, after: str | None, view_type: str | None, **owner: Any) -> Any:
        assert limit
        assert after is None
        views = _of(self.products, product_id, **owner)["views"]
        return _page([view for view in views if view_type in {None, view["view_type"]}])

    def _submit(self, *, job_id: str, org_id: str, workflow: str, inputs: Any, livemode: bool, **terms: Any) -> Any:
        if self.refusal:
            raise self.refusal
        if terms["dry_run"]:
            balance = {"available": 80, "held": 20, "version": 1}
            estimate = _an_estimate(workflow, {"staging.variant": 2})
            return {**estimate, "dry_run": True, "balance": balance, "shortfall": None}
        reserved = 20 if livemode else 0
        job = _a_job(job_id, org_id, workflow, inputs=inputs, livemode=livemode, reserved=reserved)
        self.jobs.setdefault(job_id, job)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise Unavailable("The generation service did not answer in time.", retry_after=1)
        balance = {"available": 80, "held": 20, "version": 2} if livemode else None
        return {"job": self.jobs[job_id], "balance": balance}

    def _create_session(self, *, session_id: str, asset: Any, **given: Any) -> dict[str, Any]:
        session = {**_a_session(session_id, asset), **given}
        return self.sessions.setdefault(session_id, session)

    def _select_empty_room(self, *, session_id: str, image_id: str, only_versions: Any, **owner: Any) -> dict[str, Any]:
        if self.refusal:
            raise self.refusal
        _of(self.images, image_id, **owner)
        return self._change(self.sessions, session_id, only_versions, {"selected_image_id": image_id}, owner)

    def _step(self, workflow: str, session_id: str, inputs: Any, order: dict[str, Any]) -> Any:
        assert order.keys() <= JobOrder.__dataclass_fields__.keys()
        _of(self.sessions, session_id, org_id=order["org_id"], livemode=order["livemode"])
        return self._submit(workflow=workflow, inputs=inputs, **order)

    def _save_style(self, *, style_id: str, **given: Any) -> dict[str, Any]:
        style = {**given, "id": style_id, "version": 1, "created_at": _TIME, "updated_at": _TIME}
        return self.styles.setdefault(style_id, style)

    def _change(
        self, things: dict[str, dict[str, Any]], thing_id: str, only_versions: Any, given: Any, owner: dict[str, Any]
    ) -> dict[str, Any]:
        thing = _of(things, thing_id, **owner)
        if only_versions is not None and str(thing["version"]) not in only_versions:
            raise PreconditionFailed
        thing.update(given, version=thing["version"] + 1)
        return thing

    def _drop(
        self, things: dict[str, dict[str, Any]], thing_id: str, only_versions: Any, owner: dict[str, Any]
    ) -> None:
        self._change(things, thing_id, only_versions, {}, owner)
        things.pop(thing_id)

    def _job(self, *, job_id: str, **owner: Any) -> dict[str, Any]:
        return _of(self.jobs, job_id, **owner)

    def _cancel(self, *, job_id: str, **owner: Any) -> dict[str, Any]:
        job = _of(self.jobs, job_id, **owner)
        if not job["finished_at"]:
            job.update(status="cancelled", progress=100, finished_at=_TIME)
        return job

    def _retry(self, *, job_id: str, new_job_id: str, org_id: str, livemode: bool, **asked: Any) -> Any:
        ended = _of(self.jobs, job_id, org_id=org_id, livemode=livemode)
        assert {"generation_ids", "user_id", "cap_id", "daily_cap"} <= asked.keys()
        assert asked.keys() <= signature(retrying.retry).parameters.keys()
        if not ended["finished_at"]:
            raise Conflict("The job has not ended yet: wait for its end, or cancel it.")
        inputs = {**ended["inputs"], **(asked["settings"] or {})}
        again = {"job_id": new_job_id, "org_id": org_id, "workflow": ended["workflow"], "inputs": inputs}
        answer = self._submit(**again, livemode=livemode, dry_run=asked["dry_run"])
        if "job" in answer:
            answer["job"].update(retry_of=job_id, retry_count=1)
        return answer

    def _attempts(self, *, job_id: str, org_id: str, livemode: bool, live: bool, **_: Any) -> dict[str, Any]:
        _of(self.jobs, job_id, org_id=org_id, livemode=livemode)
        return _page([] if live else [_an_attempt()])

    def _timeline(self, *, job_id: str, **owner: Any) -> dict[str, Any]:
        job = _of(self.jobs, job_id, **owner)
        return {"data": [{"at": job["created_at"], "what": "job_accepted", "generation_id": None, "detail": None}]}

    def _image(self, *, image_id: str, **owner: Any) -> dict[str, Any]:
        return _of(self.images, image_id, **owner)

    def _provenance(self, *, image_id: str, **owner: Any) -> dict[str, Any]:
        image = _of(self.images, image_id, **owner)
        upload_id = new_id("ast")
        made = {"id": image_id, "kind": "image", "made_of": [upload_id], "created_at": image["created_at"]}
        return {"image_id": image_id, "line": [made, {"id": upload_id, "kind": "upload"}]}


_TIME = "2026-01-01T00:00:00Z"


_AN_ENDPOINT: dict[str, Any] = {
    "types": None,
    "description": None,
    "ordered": False,
    "status": "enabled",
    "disabled_reason": None,
    "failing_since": None,
    "old_secret_until": None,
    "version": 1,
    "created_at": "2031-05-01T12:00:00Z",
    "updated_at": "2031-05-01T12:00:00Z",
}
_A_DELIVERY: dict[str, Any] = {
    "id": "7",
    "event_id": "evt_1",
    "event": None,
    "type": "WebhookTest",
    "cause": "test",
    "status": "pending",
    "failure": None,
    "attempt": 0,
    "next_attempt_at": "2031-05-01T12:00:00Z",
    "created_at": "2031-05-01T12:00:00Z",
    "ended_at": None,
    "attempts": [],
}
_A_MESSAGE: dict[str, Any] = {
    "id": "ntf_1",
    "kind": "generation_completed",
    "text": "Your staging is complete!",
    "job_id": None,
    "session_id": None,
    "created_at": "2031-05-01T12:00:00Z",
    "read_at": None,
}
_AN_ACTIVITY: dict[str, Any] = {
    "id": "42",
    "time": "2031-05-01T12:00:00Z",
    "type": "JobFinished",
    "text": "A staging was completed at 12:00 PM",
    "count": 1,
    "actor_id": None,
    "job_id": None,
    "session_id": None,
}
_PREFERENCES: dict[str, Any] = {
    "email": {
        "generation_completed": True,
        "generation_failed": True,
        "weekly_usage_summary": False,
        "tips_and_best_practices": False,
    },
    "browser": {"generation_completed": True, "low_quota_warning": True},
    "frequency": "realtime",
    "timezone": "UTC",
    "quiet_hours": None,
    "version": 0,
}


def _of(things: dict[str, dict[str, Any]], thing_id: str, *, org_id: str, livemode: bool) -> dict[str, Any]:
    found = things.get(thing_id)
    if found is None or (found["org_id"], found["livemode"]) != (org_id, livemode):
        raise NotFound("There is no such thing.")
    return found


def _all_of(things: dict[str, dict[str, Any]], *, org_id: str, livemode: bool) -> list[dict[str, Any]]:
    return [one for one in things.values() if (one["org_id"], one["livemode"]) == (org_id, livemode)]


def _chosen(things: list[dict[str, Any]], filters: dict[str, Any]) -> list[dict[str, Any]]:
    room_type = filters.pop("room_type")
    wanted = {name: value for name, value in filters.items() if value is not None}
    return [one for one in things if wanted.items() <= one.items() and room_type in {None, *one["room_types"]}]


def _page(data: list[dict[str, Any]]) -> dict[str, Any]:
    return {"data": data, "has_more": False, "next_cursor": None}


def _a_job(job_id: str, org_id: str, workflow: str, **more: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "org_id": org_id,
        "workflow": workflow,
        "status": "queued",
        "phase": "Waiting",
        "progress": 0,
        "counts": {"total": 2, "queued": 2, "running": 0, "succeeded": 0, "failed": 0},
        "charged": 0,
        "refunded": 0,
        "reserved": 20,
        "generations": [],
        "created_at": _TIME,
        "finished_at": None,
        "deadline_at": _TIME,
        "warnings": [],
        **more,
    }


def _an_attempt() -> dict[str, Any]:
    return {
        "operation_id": new_id("op"),
        "generation_id": new_id("gen"),
        "operation": "image.stage",
        "attempt": 1,
        "status": "failed",
        "phase": None,
        "queue_position": None,
        "provider": "fal",
        "model_requested": "fal-ai/flux",
        "model_used": None,
        "seed": 7,
        "reason": "rate_limited",
        "sent_at": _TIME,
        "ended_at": _TIME,
        "duration_ms": 12,
        "cost_microusd": 3,
        "external_id": "there",
    }


def _an_operation_of_the_log() -> dict[str, Any]:
    attempt = _an_attempt()
    return {
        **{name: attempt[name] for name in ("operation_id", "generation_id", "attempt", "provider", "model_requested")},
        "operation_name": "image.stage",
        "model": "fal-ai/flux",
        "type": "image",
        "org_id": new_id("org"),
        "user_id": None,
        "job_id": new_id("job"),
        "livemode": True,
        "input": {"prompt": "Stage it.", "sources": ["assets/1.jpg"], "parameters": {"style": "modern"}},
        "prompt_version": "1",
        "output": None,
        "context": {"seed": 7, "worker": "w", "external_id": "there"},
        "prompt_tokens": None,
        "completion_tokens": None,
        "total_tokens": None,
        "cost_microusd": 40_000,
        "processing_time_ms": 1200,
        "status": "completed",
        "outcome": "succeeded",
        "error_code": None,
        "error_detail": None,
        "request_digest": "0" * 64,
        "response_digest": "0" * 64,
        "created_at": _TIME,
        "completed_at": _TIME,
    }


def _a_provider() -> dict[str, Any]:
    return {
        "name": "local",
        "operations": ["image.stage"],
        "concurrency": 4,
        "requests_per_minute": None,
        "requests_left": None,
        "time_limit_seconds": 60.0,
        "calls_back": False,
        "after_lost_answer": "resend",
        "at_work": 1,
        "waiting": 2,
        "longest_wait_seconds": 0.5,
        "models": [a_model_of_local()],
        "key": "not for anybody",
    }


def _a_generation() -> dict[str, Any]:
    return {"id": new_id("gen"), "number": 1, "status": "succeeded", "failure": None, "charged": 10, "images": []}


def _an_image(job: dict[str, Any], generation_id: str) -> dict[str, Any]:
    image_id = new_id("img")
    return {
        "id": image_id,
        "org_id": job["org_id"],
        "livemode": job["livemode"],
        "key": f"images/{job['org_id']}/{image_id}/1.jpg",
        "thumbnail_key": f"images/{job['org_id']}/{image_id}/1.thumbnail.jpg",
        "width": 64,
        "height": 48,
        "bytes": 1000,
        "sha256": "0" * 64,
        "content_type": "image/jpeg",
        "job_id": job["id"],
        "generation_id": generation_id,
        "created_at": _TIME,
        "provenance": {"provider": "local", "model": "preview", "internal_cost": 3},
    }


def _a_pack(*, product_id: str, views: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
    """Return the pack of a product of which nothing was analysed."""
    unknown = dict.fromkeys(("analysis", "confidence", "generation_id", "provenance"))
    nothing: dict[str, list[Any]] = {name: [] for name in ("close_ups", "sketches", "edits", "at_work", "next_actions")}
    return {
        "product_id": product_id,
        "status": "not_analyzed" if views else "no_views",
        "category": None,
        "base_views": [{"revision": view, "version": 0, **unknown} for view in views],
        "charged": 0,
        **nothing,
    }


def _a_session(session_id: str, asset: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/staging-sessions/{session_id}/empty-rooms"
    empty = {"action": "generate_empty_room", "method": "POST", "path": path, "body": {"retry_number": 0}}
    return {
        "id": session_id,
        "status": "draft",
        "upload_id": asset["id"],
        "original_key": asset["key"],
        "original": _an_original(asset["id"]),
        "selected_image_id": None,
        "locked_at": None,
        "next_retry_number": 0,
        "free_retries_left": 2,
        "counts": {"empty_rooms": 0, "stagings": 0},
        "empty_rooms": [],
        "stagings": [],
        "next_actions": [{**empty, "free": False}],
        "version": 1,
        "created_at": _TIME,
        "updated_at": _TIME,
    }


_A_PRICE = {
    "sku": "staging.variant",
    "unit": "credits",
    "amount": 10,
    "product": "staging",
    "price_version": 1,
    "valid_from": _TIME,
    "valid_to": None,
}


_AN_UPLOAD = {
    "id": "ast_1",
    "purpose": "room",
    "content_type": "image/jpeg",
    "width": 800,
    "height": 600,
    "bytes": 1000,
    "sha256": "0" * 64,
    "created_at": _TIME,
    "delete_after": None,
    "livemode": True,
    "warnings": [],
}
_JUST_ACCEPTED = {
    "status": "queued",
    "progress": 0,
    "finished_at": None,
    "balance": {"available": 980, "held": 20, "version": 2},
}


def _a_plan(workflow: str, inputs: Any) -> dict[str, Any]:
    """What generation makes of an order before it has a price."""
    fingerprint = hashlib.sha256(json.dumps([workflow, inputs], sort_keys=True).encode()).hexdigest()
    return {
        "workflow": workflow,
        "fingerprint": fingerprint,
        "skus": {"staging.variant": 2},
        "images": 2,
        "estimated_seconds": 60,
    }


def _an_estimate(workflow: str, skus: dict[str, int]) -> dict[str, Any]:
    lines = [
        {
            "sku": sku,
            "unit": "credits",
            "count": count,
            "unit_amount": 10,
            "amount": 10 * count,
            "price_version": 1,
            "internal_cost": 3,
        }
        for sku, count in skus.items()
    ]
    amount = 10 * sum(skus.values())
    totals = {"credits": amount}
    return {
        "workflow": workflow,
        "amount": amount,
        "totals": totals,
        "lines": lines,
        "images": 2,
        "estimated_seconds": 60,
    }


def _a_usage(org_id: str) -> dict[str, Any]:
    spent = {"generations": 3, "failed": 1, "credits": 20, "plan_generations": 0}
    return {"data": [{"day": "2026-01-01", "workflow": "staging", **spent, "org_id": org_id}], "totals": spent}


def _a_receipt(job: dict[str, Any], after: str | None) -> dict[str, Any]:
    sums = {"held": 20, "charged": 10, "refunded": 10, "returned": 0, "open": 0}
    line = {
        "generation_id": new_id("gen"),
        "sku": "staging.variant",
        "unit": "credits",
        "price_version": 1,
        **sums,
        "reason": None,
        "return_reason": None,
        "status": "captured",
        "held_at": _TIME,
        "settled_at": _TIME,
        "grants": [{"grant_id": "g", "kind": "purchased", "amount": 10}],
        "cost_microusd": 40,
    }
    return {
        "job_id": job["id"],
        "reservation_id": "rsv_1",
        "workflow": job["workflow"],
        "quote_id": None,
        "priced_at": _TIME,
        "held_at": _TIME,
        "closed": True,
        "totals": {"credits": sums},
        "discounts": [],
        "refunds": [{"reason": "provider_error", "unit": "credits", "amount": 10, "lines": 1}],
        "returns": [],
        "lines": _page([] if after else [line]),
    }


def _an_entry(org_id: str) -> dict[str, Any]:
    return {
        "id": "1",
        "org_id": org_id,
        "kind": "grant",
        "unit": "credits",
        "amount": 100,
        "held": 0,
        "available_before": 0,
        "available_after": 100,
        "version": 1,
        "created_at": _TIME,
    }


_STATS_OF_HEADSHOTS = {
    "generated": 2,
    "failed": 1,
    "open": 0,
    "credits_spent": 4,
    "favorites": 1,
    "by_style": [{"style": "corporate", "generated": 2, "failed": 1}],
    "mine": {"generated": 2, "credits_spent": 4},
    "milestone": {"reached": 1, "next": 10},
    "text": "You've generated 2 headshots",
}


_OF_A_STYLE = {
    "style": "corporate",
    "started": 2,
    "total_generations": 2,
    "succeeded": 2,
    "failed": 0,
    "cancelled": 0,
    "credits": 4,
    "success_rate": 100.0,
    "avg_processing_time_ms": 900,
    "favorites": 1,
    "selected": 3,
    "downloaded": 1,
    "shared": 0,
}
_AN_ANALYSIS_OF_HEADSHOTS = {
    "first": "2026-01-01",
    "last": "2026-01-31",
    "days": [{**_OF_A_STYLE, "date": "2026-01-15", "users": 1}],
    "styles": [_OF_A_STYLE],
    "peak_hours": [{"hour": 9, "started": 2}],
    "users": {
        "active": 1,
        "repeat": 1,
        "repeat_rate": 100.0,
        "headshots_per_user": 2.0,
        "history_viewers": 0,
        "history_view_rate": 0.0,
    },
    "failures": [{"reason": "provider_error", "count": 1}],
    "favorite_rate": 50.0,
}
_AN_ANALYSIS_OF_STAGING = {
    "first": "2026-01-01",
    "last": "2026-01-31",
    "sessions": {
        "begun": 4,
        "completed": 3,
        "completion_rate": 75.0,
        "avg_seconds_to_complete": 300,
        "retries_per_session": 1.5,
        "taken_up_again": 1,
        "left_behind": 1,
        "recovery_rate": 50.0,
    },
    "stagings": {"in_sessions": 5, "without_session": 5, "session_rate": 50.0},
}


def _an_original(upload_id: str, *, there: bool = True) -> dict[str, Any]:
    times = {"delete_after": _TIME, "deleted_at": None if there else _TIME}
    return {"upload_id": upload_id, "available": there, **times, "reason": None if there else "retention"}


def _a_deletion(asset: dict[str, Any]) -> dict[str, Any]:
    """What the catalog knows of an upload whose bytes are gone."""
    same = {name: asset[name] for name in ("org_id", "livemode", "purpose", "sha256", "consent", "delete_after")}
    times = {"uploaded_at": _TIME, "deleted_at": _TIME}
    return {**same, **times, "upload_id": asset["id"], "reason": "requested"}


def _a_headshot(job: dict[str, Any], generation: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """A headshot as generation shows it."""
    metadata = {
        "cost": 2,
        "processing_time_ms": 900,
        "provider": "local",
        "model": "local-preview-1",
        "prompt_version": "headshot-1",
        "quality": "high",
        "attempts": 1,
    }
    return {
        "id": generation["id"],
        "org_id": job["org_id"],
        "job_id": job["id"],
        "user_id": None,
        "status": "succeeded",
        "progress": 100,
        "style": "corporate",
        "aspect_ratio": "1:1",
        "quality": "high",
        "favorite": False,
        "failure": None,
        "images": [image],
        "original": _an_original("ast_1"),
        "metadata": metadata,
        "retry_of": None,
        "retry_count": 0,
        "charged": 2,
        "entries_url": f"/v1/credits/entries?generation={generation['id']}",
        "created_at": _TIME,
        "finished_at": _TIME,
        "livemode": job["livemode"],
    }
