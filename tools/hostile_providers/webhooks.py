"""Webhooks as the vendors send and sign them, and as forgers do.

Replicate: Standard Webhooks 1.0 (standardwebhooks.com). FAL: Ed25519 over the ids, the time and the body's SHA-256,
https://docs.fal.ai/model-endpoints/webhooks.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tools.hostile_providers.scripts import LOST_AND
from tools.hostile_providers.world import World

STALE_SECONDS = 600
LATE_SECONDS = 300.0
_TIMES = {"webhook_missing": 0, "webhook_duplicate": 5}


def webhook_of(script: str) -> str:
    """Return the script by which the webhook of an operation goes."""
    return LOST_AND.get(script, script)


class Webhooks:
    """Signs and sends; ``replicate_secret`` is ``whsec_…``. ``sent`` lists who answered what."""

    def __init__(self, world: World, *, replicate_secret: str | None = None) -> None:
        self.replicate_secret = replicate_secret or f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
        self.sent: list[tuple[str, int]] = []
        self._world = world
        self._fal_key = Ed25519PrivateKey.generate()

    def jwks(self) -> dict[str, Any]:
        """Return FAL's public keys as it publishes them."""
        public = base64.urlsafe_b64encode(self._fal_key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "1", "x": public}]}

    def replicate(self, url: str, prediction: Mapping[str, Any], *, script: str) -> None:
        """Send Replicate's webhook about a prediction, as the script has it."""
        body = json.dumps(prediction).encode()
        message_id, stamp = f"msg_{secrets.token_hex(8)}", str(self._stamp(script))
        secret = base64.b64decode(self.replicate_secret.removeprefix("whsec_"))
        key = secrets.token_bytes(24) if script == "webhook_forged" else secret
        signature = base64.b64encode(hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, "sha256")).decode()
        signed = {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}
        self._deliver(url, body, signed, script=script)

    def fal(self, url: str, request_id: str, payload: Mapping[str, Any], *, script: str) -> None:
        """Send FAL's webhook about a request, as the script has it."""
        body = json.dumps(payload).encode()
        stamp = str(self._stamp(script))
        key = Ed25519PrivateKey.generate() if script == "webhook_forged" else self._fal_key
        message = "\n".join((request_id, "user_1", stamp, hashlib.sha256(body).hexdigest()))
        signed = {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": "user_1",
            "X-Fal-Webhook-Timestamp": stamp,
            "X-Fal-Webhook-Signature": key.sign(message.encode()).hex(),
        }
        self._deliver(url, body, signed, script=script)

    def _deliver(self, url: str, body: bytes, signed: Mapping[str, str], *, script: str) -> None:
        headers = {} if script == "webhook_unsigned" else dict(signed)
        sent = body.replace(b'"status"', b'"Status"', 1) if script == "webhook_altered" else body
        arguments = (url, sent, {"Content-Type": "application/json", **headers}, script)
        if script == "webhook_early":
            self._post(*arguments)
        else:
            threading.Thread(target=self._post, args=arguments, daemon=True).start()

    def _post(self, url: str, body: bytes, headers: Mapping[str, str], script: str) -> None:
        if script == "webhook_late":
            self._world.wait(LATE_SECONDS)
        for _ in range(_TIMES.get(script, 1)):
            asked = Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310  the client's own address
            try:
                with urlopen(asked, timeout=10) as answer:  # noqa: S310  as above
                    self.sent.append((url, answer.status))
            except HTTPError as refused:
                self.sent.append((url, refused.code))
            except OSError:
                self.sent.append((url, 0))  # nobody was there

    def _stamp(self, script: str) -> int:
        return int(time.time()) - (STALE_SECONDS if script == "webhook_stale" else 0)
