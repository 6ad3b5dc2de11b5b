"""The webhooks of the hostile vendors: right ones verify as the vendors document it, wrong ones do not."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.generation.providers import Provider
from tests.contracts.providers import a_request, hostile_vendors
from tests.polling import until
from tools.hostile_providers.server import HostileProviders

TOLERANCE_SECONDS = 300
Delivery = tuple[dict[str, str], bytes]
ASYNCHRONOUS = ("fal", "replicate")


@contextmanager
def receiver() -> Iterator[tuple[str, list[Delivery]]]:
    """Give the address of a receiver and what it has received, headers in lower case."""
    received: list[Delivery] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook?op=op_1&sig=s", received
    server.shutdown()
    thread.join()
    server.server_close()


def replicate_verifies(server: HostileProviders, headers: dict[str, str], body: bytes) -> bool:
    """As https://replicate.com/docs/topics/webhooks/verify-webhook."""
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    key = base64.b64decode(server.webhooks.replicate_secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    fresh = abs(time.time() - int(headers.get("webhook-timestamp", "0"))) <= TOLERANCE_SECONDS
    return fresh and f"v1,{wanted}" in headers.get("webhook-signature", "").split(" ")


def fal_verifies(server: HostileProviders, headers: dict[str, str], body: bytes) -> bool:
    """As https://docs.fal.ai/model-endpoints/webhooks."""
    stamp = headers.get("x-fal-webhook-timestamp", "0")
    names = ("x-fal-webhook-request-id", "x-fal-webhook-user-id")
    message = "\n".join((*(headers.get(name, "") for name in names), stamp, hashlib.sha256(body).hexdigest()))
    (key,) = server.webhooks.jwks()["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    try:
        public.verify(bytes.fromhex(headers.get("x-fal-webhook-signature", "")), message.encode())
    except InvalidSignature:
        return False
    return abs(time.time() - int(stamp)) <= TOLERANCE_SECONDS


VERIFY: dict[str, Callable[[HostileProviders, dict[str, str], bytes], bool]] = {
    "fal": fal_verifies,
    "replicate": replicate_verifies,
}


@pytest.fixture
def vendors() -> Iterator[tuple[HostileProviders, dict[str, Provider]]]:
    with hostile_vendors() as running:
        yield running


def delivered(
    vendors: tuple[HostileProviders, dict[str, Provider]], name: str, script: str, *, times: int
) -> list[Delivery]:
    server, providers = vendors
    server.world.play(script, vendor=name)
    with receiver() as (url, received):
        providers[name].submit(a_request(providers[name], "image.stage", callback_url=url))
        until(lambda: len(received) >= times)
        return list(received)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
@pytest.mark.parametrize("script", ["ok", "webhook_late"])
def test_a_right_webhook_verifies_and_names_what_it_is_about(vendors, name: str, script: str) -> None:
    ((headers, body),) = delivered(vendors, name, script, times=1)

    assert VERIFY[name](vendors[0], headers, body)
    assert json.loads(body)["status"] in {"succeeded", "OK"}


@pytest.mark.parametrize("name", ASYNCHRONOUS)
@pytest.mark.parametrize("script", ["webhook_forged", "webhook_unsigned", "webhook_stale", "webhook_altered"])
def test_a_wrong_webhook_does_not_verify(vendors, name: str, script: str) -> None:
    ((headers, body),) = delivered(vendors, name, script, times=1)

    assert not VERIFY[name](vendors[0], headers, body)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_duplicate_webhook_comes_five_times_with_the_same_id(vendors, name: str) -> None:
    found = delivered(vendors, name, "webhook_duplicate", times=5)

    identity = "webhook-id" if name == "replicate" else "x-fal-webhook-request-id"
    assert len(found) == 5
    assert len({headers[identity] for headers, _ in found}) == 1


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_an_early_webhook_is_there_before_the_answer_to_the_request(vendors, name: str) -> None:
    server, providers = vendors
    server.world.play("webhook_early", vendor=name)

    with receiver() as (url, received):
        providers[name].submit(a_request(providers[name], "image.stage", callback_url=url))
        there_already = len(received)

    assert there_already == 1


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_missing_webhook_is_never_sent(vendors, name: str) -> None:
    server, providers = vendors
    server.world.play("webhook_missing", "ok", vendor=name)

    with receiver() as (url, received):
        first, second = (a_request(providers[name], "image.stage", callback_url=url, seed=seed) for seed in (1, 2))
        providers[name].submit(first)
        providers[name].submit(second)
        until(lambda: received)
        seeds = [
            json.loads(body).get("input", {}).get("seed") or json.loads(body)["payload"]["seed"] for _, body in received
        ]

    assert seeds == [2]
