"""Signed links to stored objects: whoever holds one may do exactly what it says until it expires.

Pure: neither a clock nor a server is known here; times are Unix seconds.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

PURPOSE: Final = b"files-link"
LIFETIME_SECONDS: Final = 3600
ROUNDING_SECONDS: Final = 600
_FIELDS: Final = ("expires", "disposition", "max_bytes", "content_type")


class LinkForged(Exception):
    """The signature does not fit method, key and fields: the link was altered, or never ours."""


class LinkExpired(Exception):
    """The link was good once; a fresh one is in the answer that gave it."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a valid link allows, beyond its method and key."""

    expires_at: int
    disposition: str | None = None
    max_bytes: int | None = None
    content_type: str | None = None


def link_expiry(now: float) -> int:
    """Return when a link made at ``now`` ends: an hour later, up to the next 10 minutes.

    Links made within the same 10 minutes are therefore alike, and what a poll answers stays cacheable.
    """
    end = int(now) + LIFETIME_SECONDS
    return -(-end // ROUNDING_SECONDS) * ROUNDING_SECONDS


def sign_link(
    *,
    secret: str,
    method: str,
    key: str,
    expires_at: int,
    disposition: str | None = None,
    max_bytes: int | None = None,
    content_type: str | None = None,
) -> str:
    """Return the query string that lets its bearer ``method`` the object ``key`` until ``expires_at``.

    ``disposition`` is the Content-Disposition of the answer. A PUT names the largest size and the type it may
    send. A link for GET also serves HEAD.

    Raises:
        ValueError: a PUT without size and type, or a field with control characters.
    """
    if method == "PUT" and not (max_bytes and content_type):
        raise ValueError("a link for PUT needs max_bytes and content_type")
    fields = {
        name: str(value)
        for name, value in zip(_FIELDS, (expires_at, disposition, max_bytes, content_type), strict=True)
        if value is not None
    }
    if not "".join([key, *fields.values()]).isprintable():
        raise ValueError("a link's key and fields are sent as headers and cannot hold control characters")
    return urlencode({**fields, "signature": _signature(secret=secret, method=method, key=key, fields=fields)})


def verify_link(*, secret: str, method: str, key: str, query: str, now: float) -> Grant:
    """Return what the link's ``query`` string allows for ``method`` on ``key``.

    Raises:
        LinkForged: the signature does not fit, or a field is unknown, missing or given twice.
        LinkExpired: the signature fits, but ``now`` is past its end.
    """
    fields = _fields(query)
    given = fields.pop("signature")
    if not key.isprintable():
        raise LinkForged("the link's key is not one of ours")
    expected = _signature(secret=secret, method=method, key=key, fields=fields)
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise LinkForged("the link's signature does not fit")
    grant = Grant(
        expires_at=int(fields["expires"]),
        disposition=fields.get("disposition"),
        max_bytes=int(fields["max_bytes"]) if "max_bytes" in fields else None,
        content_type=fields.get("content_type"),
    )
    if now >= grant.expires_at:
        raise LinkExpired(f"the link ended at {grant.expires_at}")
    return grant


def _fields(query: str) -> dict[str, str]:
    """Return the fields of a link, each given once and none that is not ours."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=len(_FIELDS) + 1)
    except ValueError:
        pairs = []
    fields = dict(pairs)
    known = fields.keys() <= {*_FIELDS, "signature"}
    if not known or len(pairs) != len(fields) or not {"expires", "signature"} <= fields.keys():
        raise LinkForged("the link's fields are not those of a link of ours")
    return fields


def _signature(*, secret: str, method: str, key: str, fields: Mapping[str, str]) -> str:
    """Return HMAC-SHA256 in hex over method, key and fields, one a line, under a key for this alone."""
    purpose_key = hmac.digest(secret.encode(), PURPOSE, hashlib.sha256)
    lines = [_method(method), key, *(f"{name}={fields[name]}" for name in _FIELDS if name in fields)]
    return hmac.digest(purpose_key, "\n".join(lines).encode(), hashlib.sha256).hex()


def _method(method: str) -> str:
    return "GET" if method == "HEAD" else method
