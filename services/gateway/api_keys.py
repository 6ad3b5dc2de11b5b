"""The API keys of an organization: making them, showing them without their secret, replacing and revoking them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway import keys, members, pages
from services.gateway.models import ApiKey
from shared.database import Database
from shared.http import Principal
from shared.http_fields import rfc3339
from shared.http_schemas import error_at, refusal
from shared.problems import Conflict, Forbidden, LimitExceeded, NotFound

log = structlog.get_logger(__name__)

MOST_KEYS = 100


class KeyNotUsable(Conflict):
    """The key was revoked or has expired: there is nothing to replace."""

    code = "key_not_usable"
    title = "The key is not in use any more"
    remedy = "Make a new key with `POST /v1/api-keys`."


class KeyReplaced(Conflict):
    """The key was rotated before; ``key_id`` is the one that takes its place."""

    code = "key_replaced"
    title = "The key was replaced already"
    remedy = "Rotate the key `key_id`, or make a new one with `POST /v1/api-keys`."


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """What a key is to be called, and to be allowed; ``workflows`` is None for all of them.

    ``daily_cap`` is how many credits it may use in a day, None for any number; ``cap_id`` is of keys that share a cap.
    """

    id: str
    name: str
    livemode: bool
    scopes: Sequence[str]
    workflows: Sequence[str] | None = None
    expires_at: datetime | None = None
    daily_cap: int | None = None
    cap_id: str | None = None


def create(db: Database, wanted: NewKey, asker: Principal, *, secret: keys.Secret) -> dict[str, Any]:
    """Make a key that stands for the asker, and return it as `as_dict` does; the same id again changes nothing.

    What a key may hand on is for `permissions` to say: one that is limited makes none.

    Raises:
        Forbidden: the asker is a key that ends, and the new one would outlive it.
        BadRequest: it would have expired already.
        LimitExceeded: the organization has as many as it may.
    """
    _require_future(wanted.expires_at)
    org_id = str(asker.org_id)
    with db.transaction(org_id=org_id) as session:
        members.lock_organization(session, org_id=org_id)
        found = session.get(ApiKey, wanted.id)
        if found is None:
            _require_no_longer(asker, expires_at=wanted.expires_at)
            _require_room(session, org_id=org_id, most=MOST_KEYS)
            wanted = replace(wanted, cap_id=wanted.id if wanted.daily_cap else None)
            found = _add(session, wanted, org_id=org_id, user_id=str(asker.user_id), secret=secret)
            log.info("api_key_created", org_id=org_id, key_id=wanted.id, created_by=asker.id)
        return as_dict(found)


def page(db: Database, *, org_id: str, limit: int, after: str | None, prefix: str | None) -> dict[str, Any]:
    """Return a page of an organization's keys, newest first; of those that begin with ``prefix``, if it is given."""
    statement = sa.select(ApiKey).where(ApiKey.org_id == org_id)
    if prefix:
        statement = statement.where(ApiKey.prefix.startswith(prefix, autoescape=True))
    with db.transaction(org_id=org_id) as session:
        return pages.cut(session, statement, by=ApiKey.id, limit=limit, after=after, show=as_dict)


def revoke(db: Database, *, org_id: str, key_id: str) -> None:
    """Revoke a key; one that was revoked before stays so.

    Raises:
        NotFound: the organization has no such key.
        LastOwner: it is the only way in that any owner has.
    """
    with db.transaction(org_id=org_id) as session:
        members.lock_organization(session, org_id=org_id)
        found = _locked(session, org_id=org_id, key_id=key_id)
        if found.revoked_at is None:
            found.revoked_at = sa.func.now()
            session.flush()
            members.require_an_owner(session, org_id=org_id)
            log.info("api_key_revoked", org_id=org_id, key_id=key_id)


def rotate(
    db: Database,
    asker: Principal,
    *,
    key_id: str,
    new_id: str,
    overlap: timedelta,
    secret_of: Callable[[str], keys.Secret],
) -> tuple[dict[str, Any], keys.Secret]:
    """Make a key in place of one of the asker's own, which ends after ``overlap``.

    The new one is allowed what the old one was, counts against the same daily cap, and expires when that would have;
    the same new id again changes nothing. ``secret_of`` makes its secret, of a kind (live or test). Both are returned.

    Raises:
        NotFound: the organization has no such key.
        Forbidden: the key is somebody else's; or the asker is a key that ends, and the new one would outlive it.
        KeyNotUsable: it was revoked, or has expired.
        KeyReplaced: it has been rotated before.
        LimitExceeded: the organization has as many as it may.
    """
    org_id = str(asker.org_id)
    with db.transaction(org_id=org_id) as session:
        members.lock_organization(session, org_id=org_id)
        old = _locked(session, org_id=org_id, key_id=key_id)
        secret = secret_of(keys.LIVE if old.livemode else keys.TEST)
        done = session.get(ApiKey, new_id)
        if done is not None:
            return as_dict(done), secret
        now = session.execute(sa.select(sa.func.now())).scalar_one()
        _require_rotatable(session, old, asker, now=now)
        _require_no_longer(asker, expires_at=old.expires_at)
        _require_room(session, org_id=org_id, most=2 * MOST_KEYS)  # each may have the one that it replaces beside it
        wanted = NewKey(
            id=new_id,
            name=old.name,
            livemode=old.livemode,
            scopes=old.scopes,
            workflows=old.workflows,
            expires_at=old.expires_at,
            daily_cap=old.daily_cap,
            cap_id=old.cap_id,  # and with it what was used of it today
        )
        made = _add(session, wanted, org_id=org_id, user_id=old.user_id, secret=secret, rotated_from=old.id)
        old.expires_at = min(old.expires_at or datetime.max.replace(tzinfo=UTC), now + overlap)
        log.info("api_key_rotated", org_id=org_id, key_id=old.id, new_key_id=new_id)
        return as_dict(made), secret


def as_dict(key: ApiKey) -> dict[str, Any]:
    """Return a key as its organization may see it."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "user_id": key.user_id,
        "livemode": key.livemode,
        "scopes": list(key.scopes),
        "workflows": None if key.workflows is None else list(key.workflows),
        "daily_cap": key.daily_cap,
        "status": _status(key),
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at) if key.expires_at else None,
        "last_used_at": rfc3339(key.last_used_at) if key.last_used_at else None,
        "rotated_from": key.rotated_from,
    }


def _add(
    session: Session, wanted: NewKey, *, org_id: str, user_id: str, secret: keys.Secret, rotated_from: str | None = None
) -> ApiKey:
    made = ApiKey(
        id=wanted.id,
        org_id=org_id,
        user_id=user_id,
        name=wanted.name,
        prefix=secret.prefix,
        secret_sha256=secret.sha256,
        livemode=wanted.livemode,
        scopes=list(wanted.scopes),
        workflows=None if wanted.workflows is None else list(wanted.workflows),
        expires_at=wanted.expires_at,
        daily_cap=wanted.daily_cap,
        cap_id=wanted.cap_id,
        rotated_from=rotated_from,
    )
    session.add(made)
    session.flush()
    return made


def _require_rotatable(session: Session, old: ApiKey, asker: Principal, *, now: datetime) -> None:
    if old.user_id != asker.user_id:
        raise Forbidden(
            "This key stands for somebody else, and a new one would too: revoke it, and make one of your own."
        )
    if old.revoked_at:
        raise KeyNotUsable("This key was revoked; make a new one.")
    successor = session.scalar(
        sa.select(ApiKey.id).where(ApiKey.org_id == old.org_id, ApiKey.rotated_from == old.id).limit(1)
    )
    if successor:
        raise KeyReplaced(f"This key was replaced by {successor} already; rotate that one.", key_id=successor)
    if old.expires_at and old.expires_at <= now:
        raise KeyNotUsable("This key has expired; make a new one.")


def _require_no_longer(asker: Principal, *, expires_at: datetime | None) -> None:
    """Let a key that ends, as one that was replaced does, make none that goes on after it."""
    if asker.expires_at and (expires_at is None or expires_at > asker.expires_at):
        raise Forbidden(
            f"This key ends at {rfc3339(asker.expires_at)}, and can make none that goes on after it;"
            " use the one it was replaced by."
        )


def _require_room(session: Session, *, org_id: str, most: int) -> None:
    usable = sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > sa.func.now())
    active = session.execute(
        sa.select(sa.func.count()).where(ApiKey.org_id == org_id, ApiKey.revoked_at.is_(None), usable)
    ).scalar_one()
    if active >= most:
        raise LimitExceeded(
            f"An organization has at most {most} keys in use: revoke some that are not needed.",
            limit=most,
            excess=active + 1 - most,
        )


def _require_future(expires_at: datetime | None) -> None:
    if expires_at and expires_at <= datetime.now(UTC):
        raise refusal([error_at("/expires_at", "invalid", "give a time that is still to come")])


def _locked(session: Session, *, org_id: str, key_id: str) -> ApiKey:
    found = session.scalar(sa.select(ApiKey).where(ApiKey.org_id == org_id, ApiKey.id == key_id).with_for_update())
    if found is None:
        raise NotFound("There is no such key.")
    return found


def _status(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= datetime.now(UTC) else "active"
