"""API keys: how a secret is made, what of it is kept, and how it is recognised. Pure."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

LIVE: Final = "sk_live_"
TEST: Final = "sk_test_"
_SECRET_BYTES: Final = 32
_SHOWN_CHARACTERS: Final = 6
_PURPOSE: Final = b"first-api-key"


@dataclass(frozen=True)
class Secret:
    """A key's secret, as its owner gets it once. ``sha256`` and ``prefix`` are what is kept of it."""

    text: str

    def __repr__(self) -> str:
        return f"Secret({self.prefix}…)"

    @property
    def sha256(self) -> str:
        """The hash by which the key is found; a secret of 256 random bits needs no slow one."""
        return sha256(self.text)

    @property
    def prefix(self) -> str:
        """The part a person may see later, to tell one key from another."""
        return self.text[: len(LIVE) + _SHOWN_CHARACTERS]


def new(kind: str = LIVE) -> Secret:
    """Return a fresh secret of 256 random bits."""
    return Secret(kind + _text(secrets.token_bytes(_SECRET_BYTES)))


def derived(*, signing_secret: str, org_id: str, request_key: str) -> Secret:
    """Return the secret that one request for one organization always gets.

    A request that is sent again must be answered alike, and a key must not be kept to make that possible.
    """
    purpose_key = hmac.digest(signing_secret.encode(), _PURPOSE, hashlib.sha256)
    return Secret(LIVE + _text(hmac.digest(purpose_key, f"{org_id}\n{request_key}".encode(), hashlib.sha256)))


def looks_like_one(text: str) -> bool:
    """Tell whether ``text`` could be an API key at all."""
    return text.startswith((LIVE, TEST))


def sha256(text: str) -> str:
    """Return the hash of a secret, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _text(random_bytes: bytes) -> str:
    return base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()
