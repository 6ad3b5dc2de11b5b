"""Addresses at which a provider tells that it is done with an operation, signed by us.

Whoever can name an operation's signature was given its address, so that a webhook finds its operation before anybody
knows what the provider calls it, and nothing in its body has to be believed. Pure.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from shared.config import Secret

PATH: Final = "/v1/webhooks-in"
PURPOSE: Final = b"provider-callback"


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Makes and knows such addresses, below ``public_url`` and under a key made of ``secret``."""

    public_url: str
    secret: Secret

    def address(self, provider: str, *, operation_id: str) -> str:
        """Return where ``provider`` may tell about an operation."""
        query = urlencode({"op": operation_id, "sig": self.signature(provider, operation_id=operation_id)})
        return f"{self.public_url}{PATH}/{provider}?{query}"

    def signature(self, provider: str, *, operation_id: str) -> str:
        """Return HMAC-SHA256 in hex over provider and operation, one a line, under a key for this alone."""
        purpose_key = hmac.digest(self.secret.encode(), PURPOSE, hashlib.sha256)
        return hmac.digest(purpose_key, f"{provider}\n{operation_id}".encode(), hashlib.sha256).hex()

    def fits(self, signature: str, *, provider: str, operation_id: str) -> bool:
        """Tell whether ``signature`` is the one of this operation at this provider."""
        expected = self.signature(provider, operation_id=operation_id)
        return hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode())
