"""FAL's webhooks: Ed25519 over the ids, the time and the body's SHA-256, with a key of the set that FAL lists.

https://docs.fal.ai/model-endpoints/webhooks. A delivery does not name its key: any of the set may have signed it.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from werkzeug.datastructures import Headers

from services.gateway.issuer_keys import IssuerKeys, Key
from services.gateway.webhooks.deliveries import NotGenuine, header, named, stamped_now

_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}", re.ASCII | re.IGNORECASE)


class FalWebhooks:
    """Knows deliveries by FAL's keys; where none fits they are asked for anew, in case there is a new one."""

    def __init__(self, keys: IssuerKeys) -> None:
        self._keys = keys

    def verify(self, headers: Headers, body: bytes, *, now: float) -> str:
        """Return a delivery's id; see `Vendor`."""
        delivery_id = header(headers, "x-fal-webhook-request-id")
        user_id = header(headers, "x-fal-webhook-user-id")
        stamp = stamped_now(headers, "x-fal-webhook-timestamp", now=now)
        given = header(headers, "x-fal-webhook-signature")
        if not _SIGNATURE.fullmatch(given):
            raise NotGenuine("its signature is none")
        signature = bytes.fromhex(given)
        signed = "\n".join((delivery_id, user_id, stamp, hashlib.sha256(body).hexdigest())).encode()
        if not any(_fits(signature, signed, self._keys.every(anew=anew)) for anew in (False, True)):
            raise NotGenuine("its signature does not fit")
        return delivery_id

    def work_of(self, body: bytes) -> str | None:
        """Return the id by which the queue is asked; a request that FAL has repeated has others besides."""
        return named(body, "request_id")


def _fits(signature: bytes, signed: bytes, keys: Sequence[Key]) -> bool:
    return any(_verifies(key.public, signature, signed) for key in keys if isinstance(key.public, Ed25519PublicKey))


def _verifies(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
