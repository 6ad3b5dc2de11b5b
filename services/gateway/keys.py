"""API keys: how a secret is made, what of it is kept, and how it is recognised. Pure."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

LIVE: Final = "sk_live_"
TEST: Final = "sk_test_"
ADMIN: Final = "adm_"
_SECRET_BYTES: Final = 32
_SHOWN_CHARACTERS: Final = 6
PREFIX_CHARACTERS: Final = len(LIVE) + _SHOWN_CHARACTERS
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
        return self.text[:PREFIX_CHARACTERS]


def new(kind: str = LIVE) -> Secret:
    """Return a fresh secret of 256 random bits."""
    return Secret(kind + _text(secrets.token_bytes(_SECRET_BYTES)))


def of_request(*, signing_secret: str, made_id: str, request_key: str | None, kind: str = LIVE) -> Secret:
    """Return the secret for what a request makes: the same whenever it is sent, if it has an Idempotency-Key."""
    if request_key is None:
        return new(kind)
    return derived(signing_secret=signing_secret, made_id=made_id, request_key=request_key, kind=kind)


def derived(*, signing_secret: str, made_id: str, request_key: str, kind: str = LIVE) -> Secret:
    """Return the secret that one request for one new organization, or key, always gets.

    A request that is sent again must be answered alike, and a key must not be kept to make that possible.
    """
    purpose_key = hmac.digest(signing_secret.encode(), _PURPOSE, hashlib.sha256)
    return Secret(kind + _text(hmac.digest(purpose_key, f"{made_id}\n{request_key}".encode(), hashlib.sha256)))


def looks_like_one(text: str) -> bool:
    """Tell whether ``text`` could be an API key at all."""
    return text.startswith((LIVE, TEST))


def sha256(text: str) -> str:
    """Return the hash of a secret, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _text(random_bytes: bytes) -> str:
    return base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()
