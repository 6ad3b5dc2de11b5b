"""Who asks: from the Authorization header to a principal, for keys, sessions, and tokens of an identity provider."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from services.gateway import (
    admin_keys,
    flags,
    identities,
    identity_provider,
    keys,
    permissions,
    queries,
    sessions,
)
from services.gateway.identity_provider import Claimed
from shared.database import Database
from shared.http import Auth, Principal, Request
from shared.problems import Forbidden, Unauthenticated

CACHED_SECONDS = 5.0
CACHED_KEYS = 10_000
# What goes on after it was let in is looked at each 2 s; with these it ends within 5 s as well.
FRESH_SECONDS = 2.0
_CREDENTIAL_CHARACTERS = 8000  # a token of an identity provider may have as many as a header line


class KnownKeys:
    """The keys and sessions seen in the last 5 s: one that was revoked is refused here at once, everywhere by then."""

    def __init__(self, *, seconds: float = CACHED_SECONDS, most: int = CACHED_KEYS) -> None:
        self._seconds = seconds
        self._most = most
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()
        self._forgotten = 0

    def whose(self, secret: str, find: Callable[[], Principal], *, seconds: float = CACHED_SECONDS) -> Principal:
        """Return whose credential this is, as ``find`` returned it in the last ``seconds`` or returns it now.

        What ``find`` raises passes.
        """
        secret_sha256 = keys.sha256(secret)
        since, principal = self._known.get(secret_sha256, (0.0, None))
        if principal is not None and time.monotonic() < since + min(seconds, self._seconds):
            return principal
        forgotten = self._forgotten
        found = find()
        if forgotten == self._forgotten:  # else it may have been found before what was changed meanwhile
            self._remember(secret_sha256, found)
        return found

    def forget(self, org_id: str | None = None) -> None:
        """Forget an organization's credentials, or all, so that what was changed here counts here at once."""
        gone = [key for key, (_, principal) in self._known.items() if org_id in {None, principal.org_id}]
        for key in gone:
            del self._known[key]
        self._forgotten += 1

    def _remember(self, secret_sha256: str, principal: Principal) -> None:
        self._known.pop(secret_sha256, None)
        self._known[secret_sha256] = (time.monotonic(), principal)
        while len(self._known) > self._most:
            self._known.popitem(last=False)


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


def principal_of_key(db: Database, secret: str) -> Principal:
    """Return whose API key ``secret`` is.

    Raises:
        Unauthenticated: nobody's, or it was revoked or has expired.
    """
    with db.transaction() as session:
        row = queries.key_by_hash(session, secret_sha256=keys.sha256(secret))
        if row:
            queries.note_key_used(session, key_id=row["id"])
    if row is None:
        raise Unauthenticated("This API key is unknown, expired or revoked.")
    scopes, workflows, switched = row.pop("scopes"), row.pop("workflows"), row.pop("switched")
    return Principal(
        kind="key",
        scopes=frozenset(scopes),
        workflows=None if workflows is None else frozenset(workflows),
        features=flags.features(switched),
        **row,
    )


def claimed_by(service: Any, request: Request) -> Claimed | None:
    """Return what the token of an identity provider says that a request came with; None where it came with none.

    Raises:
        Unauthenticated, Unavailable: as `IdentityProvider.claimed`.
    """
    if request.asker.kind != "oidc":
        return None
    claimed: Claimed = service.identity_provider.claimed(credential(request))
    return claimed


def _check_key(service: Any, request: Request, *, seconds: float = CACHED_SECONDS) -> Principal:
    secret = credential(request)
    principal = _of_organization(service, secret, seconds=seconds)
    if principal:
        return principal
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
    if _of_organization(service, secret) is None:
        raise Unauthenticated("This administrator's key is not known.")
    raise Forbidden("This needs an administrator's key; yours is an organization's.")


def _of_organization(service: Any, secret: str, *, seconds: float = CACHED_SECONDS) -> Principal | None:
    """Return whose credential ``secret`` is; None where it is of no kind that belongs to an organization."""
    known: KnownKeys = service.known_keys
    if keys.looks_like_one(secret):
        return known.whose(secret, partial(principal_of_key, service.db, secret), seconds=seconds)
    if sessions.looks_like_one(secret):
        return known.whose(secret, partial(sessions.principal_of, service.db, secret), seconds=seconds)
    if service.identity_provider and identity_provider.looks_like_one(secret):
        return identities.principal_of(service.db, service.identity_provider.claimed(secret))
    return None


def _is_root(service: Any, secret: str) -> bool:
    return hmac.compare_digest(secret.encode(), service.settings.admin_api_key.encode())


api_key = Auth(
    scheme="apiKey",
    description="An API key of an organization, the token of a session, or a token of the identity provider that is "
    "set up: `Bearer sk_live_…`, `Bearer ust_…`, `Bearer eyJ…`",
    problems=(Unauthenticated, Forbidden, identities.NotInvited, identities.LinkedToAnother),
    check=_check_key,
    permit=permissions.permit,
    described=permissions.described,
)
fresh_key = replace(api_key, check=partial(_check_key, seconds=FRESH_SECONDS))
admin_key = Auth(scheme="adminKey", description="An administrator's key: `Bearer adm_…`", check=_check_admin)
