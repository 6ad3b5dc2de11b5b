"""Tokens in links that reach a person by mail: ``id.exp.HMAC``, good for one purpose and until one second.

Whoever has the signing secret can make one from an id and its end alone, so that no event and no table ever holds
one. That it is good only once is for the row with that id to say. Pure; times are Unix seconds.
"""

import base64
import hashlib
import hmac
import re
from typing import Final

from shared.ids import is_id

INVITATION: Final = "invitation-link"
PASSWORD_RESET: Final = "password-reset-link"  # noqa: S105  the name of a purpose
UNSUBSCRIBE: Final = "unsubscribe-link"
_PREFIXES: Final = {INVITATION: "inv", PASSWORD_RESET: "pwr", UNSUBSCRIBE: "eml"}
_SECONDS = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)


class TokenForged(Exception):
    """The token was altered, made for another purpose, or never ours."""


class TokenExpired(Exception):
    """The token was good once; its time is over."""


def mint(*, secret: str, purpose: str, subject: str, expires_at: int) -> str:
    """Return the token for the thing ``subject`` (an id), good until just before ``expires_at``."""
    return f"{subject}.{expires_at}.{_mac(secret, purpose, subject, expires_at)}"


def read(token: str, *, secret: str, purpose: str, now: float) -> str:
    """Return the id a token is for.

    Raises:
        TokenForged: it is not one of ours, for this purpose.
        TokenExpired: it is, and ``now`` is past its end.
    """
    subject, _, rest = token.partition(".")
    end, _, given = rest.partition(".")
    if not is_id(subject, prefix=_PREFIXES[purpose]) or not _SECONDS.fullmatch(end):
        raise TokenForged("this is no token of ours")
    expected = _mac(secret, purpose, subject, int(end))
    if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        raise TokenForged("the token's signature does not fit")
    if now >= int(end):
        raise TokenExpired(f"the token ended at {end}")
    return subject


def _mac(secret: str, purpose: str, subject: str, expires_at: int) -> str:
    """Return HMAC-SHA256 in base64url, under a key for this purpose alone."""
    purpose_key = hmac.digest(secret.encode(), purpose.encode(), hashlib.sha256)
    mac = hmac.digest(purpose_key, f"{subject}\n{expires_at}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
