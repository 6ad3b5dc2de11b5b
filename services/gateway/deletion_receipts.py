"""Deletion receipts: what the catalog says of a deleted upload, signed so that anybody can check it. Pure.

An Ed25519 key of its own purpose, derived from the signing secret, signs a JWT (RFC 8037); the public half is listed.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PURPOSE: Final = b"deletion receipts"
_TYPE: Final = "deletion-receipt+jwt"
ALGORITHM: Final = "EdDSA"
ISSUER: Final = "darkroom"


def receipt(deletion: Mapping[str, Any], *, secret: str) -> dict[str, Any]:
    """Return what a client is shown of a deletion, and ``receipt``: all of it, with the organization, signed.

    The same deletion gives the same receipt.
    """
    shown = {name: value for name, value in deletion.items() if name != "org_id"}
    claims = {
        "iss": ISSUER,
        "sub": deletion["upload_id"],
        "iat": int(datetime.fromisoformat(deletion["deleted_at"]).timestamp()),
        "deletion": dict(deletion),
    }
    key = _private_key(secret)
    signed = jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": _public(key)["kid"], "typ": _TYPE})
    return {**shown, "receipt": signed}


def public_keys(*, secret: str) -> dict[str, Any]:
    """Return the keys that receipts are checked with, as a JSON web key set."""
    return {"keys": [_public(_private_key(secret))]}


def _private_key(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256))


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    raw = key.public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    kid = hashlib.sha256(raw).hexdigest()[:16]
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": ALGORITHM, "use": "sig"}
