"""Who asks: from the Authorization header to a principal, for API keys, sessions, and the administrator's root key."""

import hmac
import time
from collections import OrderedDict
from typing import Any

from services.gateway import admin_keys, keys, permissions, queries, sessions
from shared.database import Database
from shared.http import Auth, Principal, Request
from shared.problems import Forbidden, Unauthenticated

CACHED_SECONDS = 5.0
CACHED_KEYS = 10_000
_CREDENTIAL_CHARACTERS = 512


class KnownKeys:
    """The keys seen in the last 5 s: a revoked key is refused everywhere by then."""

    def __init__(self, *, seconds: float = CACHED_SECONDS, most: int = CACHED_KEYS) -> None:
        self._seconds = seconds
        self._most = most
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def get(self, secret_sha256: str) -> Principal | None:
        """Return whose key this is, if that was found out just now."""
        until, principal = self._known.get(secret_sha256, (0.0, None))
        return principal if time.monotonic() < until else None

    def put(self, secret_sha256: str, principal: Principal) -> None:
        """Remember whose key this is, and forget the oldest where there are too many."""
        self._known.pop(secret_sha256, None)
        self._known[secret_sha256] = (time.monotonic() + self._seconds, principal)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Forget all, so that what was changed here counts here at once."""
        self._known.clear()


def credential(request: Request) -> str:
    """Return what stands behind ``Authorization: Bearer``.

    Raises:
        Unauthenticated: nothing does.
    """
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text or len(text) > _CREDENTIAL_CHARACTERS:
        raise Unauthenticated("Send an API key or a session's token as: Authorization: Bearer sk_live_…")
    return text


def principal_of_key(db: Database, known: KnownKeys, secret: str) -> Principal:
    """Return whose API key ``secret`` is.

    Raises:
        Unauthenticated: nobody's, or it was revoked or has expired.
    """
    secret_sha256 = keys.sha256(secret)
    principal = known.get(secret_sha256)
    if principal is None:
        with db.transaction() as session:
            row = queries.key_by_hash(session, secret_sha256=secret_sha256)
            if row:
                queries.note_key_used(session, key_id=row["id"])
        if row is None or not hmac.compare_digest(row.pop("secret_sha256"), secret_sha256):
            raise Unauthenticated("This API key is unknown, expired or revoked.")
        scopes, workflows = row.pop("scopes"), row.pop("workflows")
        principal = Principal(
            kind="key",
            scopes=frozenset(scopes),
            workflows=None if workflows is None else frozenset(workflows),
            **row,
        )
        known.put(secret_sha256, principal)
    return principal


def _check_key(service: Any, request: Request) -> Principal:
    secret = credential(request)
    if keys.looks_like_one(secret):
        return principal_of_key(service.db, service.known_keys, secret)
    if sessions.looks_like_one(secret):
        return sessions.principal_of(service.db, secret)
    if _is_root(service, secret) or (
        secret.startswith(keys.ADMIN) and admin_keys.principal_of(service.db, secret) is not None
    ):
        raise Forbidden("The administrator's key belongs to no organization; use an API key of one.")
    raise Unauthenticated("This is neither an API key (sk_live_… or sk_test_…) nor a session's token (ust_…).")


def _check_admin(service: Any, request: Request) -> Principal:
    secret = credential(request)
    if _is_root(service, secret):
        return Principal(kind="admin", id=admin_keys.ROOT, name=admin_keys.ROOT)
    named = admin_keys.principal_of(service.db, secret) if secret.startswith(keys.ADMIN) else None
    if named:
        return named
    if keys.looks_like_one(secret):
        principal_of_key(service.db, service.known_keys, secret)
    elif sessions.looks_like_one(secret):
        sessions.principal_of(service.db, secret)
    else:
        raise Unauthenticated("This administrator's key is not known.")
    raise Forbidden("This needs an administrator's key; yours is an organization's.")


def _is_root(service: Any, secret: str) -> bool:
    return hmac.compare_digest(secret.encode(), service.settings.admin_api_key.encode())


api_key = Auth(
    scheme="apiKey",
    description="An API key of an organization, or the token of a session: `Bearer sk_live_…`, `Bearer ust_…`",
    check=_check_key,
    permit=permissions.permit,
    described=permissions.described,
)
admin_key = Auth(scheme="adminKey", description="An administrator's key: `Bearer adm_…`", check=_check_admin)
