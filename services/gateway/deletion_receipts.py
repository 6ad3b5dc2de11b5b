"""Deletion receipts: what the catalog says of a deleted upload, signed so that anybody can check it.

An Ed25519 key of its own purpose, derived from the signing secret, signs a JWT (RFC 8037). The public half is listed
for good once it has signed: receipts are shown years later, and by then the secret may be another.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import jwt
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.gateway.models import ReceiptKey
from shared.database import Database

_PURPOSE: Final = b"deletion receipts"
_TYPE: Final = "deletion-receipt+jwt"
ALGORITHM: Final = "EdDSA"
ISSUER: Final = "darkroom"


def issue(db: Database, deletion: Mapping[str, Any], *, secret: str) -> dict[str, Any]:
    """Return what `signed` does, the key of which is listed from then on."""
    with db.transaction() as session:
        session.execute(insert(ReceiptKey).values(x=_of_today(secret)["x"]).on_conflict_do_nothing())
    return signed(deletion, secret=secret)


def listed(session: Session, *, secret: str) -> dict[str, Any]:
    """Return the keys that receipts are checked with, as a JSON web key set: today's, then those of before."""
    today = _of_today(secret)
    before = session.scalars(
        sa.select(ReceiptKey.x).where(ReceiptKey.x != today["x"]).order_by(ReceiptKey.since.desc())
    )
    return {"keys": [today, *(_public(x) for x in before)]}


def signed(deletion: Mapping[str, Any], *, secret: str) -> dict[str, Any]:
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
    headers = {"kid": _of_today(secret)["kid"], "typ": _TYPE}
    return {**shown, "receipt": jwt.encode(claims, _private_key(secret), algorithm=ALGORITHM, headers=headers)}


def _private_key(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256))


def _of_today(secret: str) -> dict[str, str]:
    raw = _private_key(secret).public_key().public_bytes_raw()
    return _public(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def _public(x: str) -> dict[str, str]:
    kid = hashlib.sha256(base64.urlsafe_b64decode(x + "=")).hexdigest()[:16]
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": ALGORITHM, "use": "sig"}
