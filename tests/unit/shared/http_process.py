"""A real process with a real HTTP server for the tests beside it: prints its port, ends on SIGTERM.

Settings come as environment variables, since limits on files and the patch must come before everything else.
"""

# ruff: noqa: E402
import warnings

warnings.simplefilter("ignore")

import eventlet

eventlet.monkey_patch()

import os
import resource
import signal
import sys
import time

if files := os.environ.get("FILES"):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))

import logging

import structlog
from marshmallow import fields
from nameko.containers import ServiceContainer

from shared import http_listener, http_protocol, http_server
from shared.http import Answer, Request, Schema, Stream, route
from shared.http_server import HttpServer

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
logging.getLogger("nameko").setLevel(logging.CRITICAL)

http_protocol.Protocol.header_seconds = float(os.environ.get("HEADER_SECONDS", "10"))
http_protocol.Protocol.write_seconds = float(os.environ.get("WRITE_SECONDS", "30"))
http_protocol.SLOWEST_READER_BYTES_PER_SECOND = int(os.environ.get("SLOWEST_READER", "10000"))
http_server._connections_per_address = lambda _settings: int(os.environ.get("PER_ADDRESS", "0"))  # noqa: SLF001  no settings here
http_listener.CONNECTIONS_MAX = int(os.environ.get("CONNECTIONS_MAX", "4000"))
http_listener.FILES_KEPT_FREE = int(os.environ.get("FILES_KEPT_FREE", "24"))


class TextRequest(Schema):
    text = fields.String(required=True)


class CountsSchema(Schema):
    made = fields.Integer()
    closed = fields.Integer()


COUNTS = {"made": 0, "closed": 0}
STREAM = {"Content-Type": "text/plain"}


class StallSchema(Schema):
    seconds = fields.Float()


LONGEST = {"seconds": 0.0}


def tick() -> None:
    while True:
        started = time.monotonic()
        eventlet.sleep(0.005)
        LONGEST["seconds"] = max(LONGEST["seconds"], time.monotonic() - started)


class Sample:
    """Routes that are slow, large or broken in every way a test needs."""

    name = "sample"

    @route("GET", "/ping", auth=None, answers={200: TextRequest}, summary="Answers")
    def ping(self, _request: Request) -> Answer:
        return Answer(200, {"text": "pong"})

    @route("POST", "/echo", auth=None, body=TextRequest, answers={200: TextRequest}, summary="Answers the text")
    def echo(self, request: Request) -> Answer:
        return Answer(200, request.body)

    @route(
        "POST",
        "/take",
        auth=None,
        reads=("text/plain",),
        max_body_bytes=1 << 20,
        answers={204: None},
        summary="Takes a body",
    )
    def take(self, _request: Request) -> Answer:
        return Answer(204)

    @route("GET", "/kept/<path:key>", auth=None, answers={200: TextRequest}, summary="Answers the key of a file")
    def kept(self, _request: Request, key: str) -> Answer:
        return Answer(200, {"text": key})

    @route("GET", "/stalled", auth=None, answers={200: StallSchema}, summary="How long nobody had a turn, since last")
    def stalled(self, _request: Request) -> Answer:
        longest = dict(LONGEST)
        LONGEST["seconds"] = 0.0
        return Answer(200, longest)

    @route("GET", "/slow/<float:seconds>", auth=None, answers={200: TextRequest}, summary="Takes its time")
    def slow(self, _request: Request, seconds: float) -> Answer:
        eventlet.sleep(seconds)
        return Answer(200, {"text": "late"})

    @route("GET", "/pieces/<int:count>", auth=None, answers={200: "text/plain"}, summary="Streams")
    def pieces(self, _request: Request, count: int) -> Answer:
        return Answer(
            200,
            (b"x" * 65536 for _ in range(count)),
            {"Content-Type": "text/plain", "Content-Length": str(65536 * count)},
        )

    @route("GET", "/broken", auth=None, answers={200: "text/plain"}, summary="Breaks within its body")
    def broken(self, _request: Request) -> Answer:
        def body():
            yield b"x" * 10_000
            raise RuntimeError("the disk is gone")

        return Answer(200, body(), {"Content-Type": "text/plain", "Content-Length": "20000"})

    @route("GET", "/counts", auth=None, answers={200: CountsSchema}, summary="What the streams did")
    def counts(self, _request: Request) -> Answer:
        return Answer(200, COUNTS)

    @route("GET", "/stream/<int:count>", auth=None, answers={200: "text/plain"}, summary="Streams, of any length")
    def stream(self, _request: Request, count: int) -> Answer:
        def pieces():
            try:
                for _ in range(count):
                    COUNTS["made"] += 1
                    yield b"x" * 65536
            finally:
                COUNTS["closed"] += 1

        return Answer(200, Stream(pieces=pieces()), STREAM)

    @route("GET", "/stream/broken/<int:after>", auth=None, answers={200: "text/plain"}, summary="Streams a part")
    def broken_stream(self, _request: Request, after: int) -> Answer:
        def pieces():
            for _ in range(after):
                yield b"a line\n"
            raise RuntimeError("the disk is gone")

        return Answer(200, Stream(pieces=pieces()), STREAM)

    @route("GET", "/stream/stuck", auth=None, answers={200: "text/plain"}, summary="Streams, and then waits for ever")
    def stuck_stream(self, _request: Request) -> Answer:
        def pieces():
            yield b"a line\n"
            eventlet.sleep(60)
            yield b"never"

        return Answer(200, Stream(pieces=pieces(), piece_seconds=0.3), STREAM)


def main() -> None:
    container = ServiceContainer(
        Sample,
        config={"WEB_SERVER_ADDRESS": "127.0.0.1:0", "max_workers": int(os.environ.get("WORKERS", "20"))},
    )
    stopping = eventlet.event.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.send(None))
    container.start()
    eventlet.spawn(tick)
    server = next(item for item in container.subextensions if isinstance(item, HttpServer))
    sys.stdout.write(f"{server.address[1]}\n")
    sys.stdout.flush()
    stopping.wait()
    with eventlet.Timeout(float(os.environ.get("DRAIN_SECONDS", "5")), False):  # noqa: FBT003  eventlet's signature: end quietly
        container.stop()
    container.wait()  # raises what the container died of, if it did
    os._exit(0)


main()
