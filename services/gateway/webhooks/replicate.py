"""Replicate's webhooks: Standard Webhooks 1.0, HMAC-SHA256 over id, time and body.

https://replicate.com/docs/topics/webhooks/verify-webhook, https://www.standardwebhooks.com. By hand, and not with the
library of that name: it takes the body for text, and breaks on signatures that are none.
"""

import base64
import hmac
from typing import Final

from werkzeug.datastructures import Headers

from services.gateway.webhooks.deliveries import NotGenuine, header, named, stamped_now
from shared.config import Secret

_SIGNATURES_CHARACTERS: Final = 2000
_SIGNATURES_MOST: Final = 10


class ReplicateWebhooks:
    """Knows deliveries by the account's secret, ``whsec_…``; while it is replaced, by several with commas."""

    def __init__(self, secrets: Secret) -> None:
        self._keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets.split(",") if secret]

    def verify(self, headers: Headers, body: bytes, *, now: float) -> str:
        """Return a delivery's id; see `Vendor`."""
        delivery_id = header(headers, "webhook-id")
        stamp = stamped_now(headers, "webhook-timestamp", now=now)
        signed = f"{delivery_id}.{stamp}.".encode() + body
        expected = [
            f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}".encode() for key in self._keys
        ]
        if not any(hmac.compare_digest(one, each) for one in _signatures(headers) for each in expected):
            raise NotGenuine("its signature does not fit")
        return delivery_id

    def work_of(self, body: bytes) -> str | None:
        """Return the id of the prediction."""
        return named(body, "id")


def _signatures(headers: Headers) -> list[bytes]:
    """Return the signatures a delivery has: several, while the sender replaces its secret."""
    given = headers.get("webhook-signature") or ""
    return [one.encode("utf-8", "replace") for one in given[:_SIGNATURES_CHARACTERS].split(" ")[:_SIGNATURES_MOST]]
