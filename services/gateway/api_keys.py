"""The API keys of an organization: making them, showing them without their secret, replacing and revoking them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway import keys, members
from services.gateway.models import ApiKey
from shared.database import Database
from shared.http import Principal
from shared.http_fields import rfc3339
from shared.http_schemas import error_at, refusal
from shared.problems import Conflict, Forbidden, NotFound

log = structlog.get_logger(__name__)


class KeyNotUsable(Conflict):
    """The key was revoked or has expired: there is nothing to replace."""

    code = "key_not_usable"
    title = "The key is not in use any more"
    remedy = "Make a new key with `POST /v1/api-keys`."


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """What a key is to be called, and to be allowed; ``workflows`` is None for all of them."""

    id: str
    name: str
    livemode: bool
    scopes: Sequence[str]
    workflows: Sequence[str] | None = None
    expires_at: datetime | None = None


def create(db: Database, wanted: NewKey, asker: Principal, *, secret: keys.Secret) -> dict[str, Any]:
    """Make a key that stands for the asker, and return it as `as_dict` does; the same id again changes nothing.

    Raises:
        Forbidden: the asker is a key, and the new one might more than it may itself.
        BadRequest: it would have expired already.
    """
    _require_no_more(asker, scopes=wanted.scopes, workflows=wanted.workflows, livemode=wanted.livemode)
    _require_future(wanted.expires_at)
    with db.transaction(org_id=asker.org_id) as session:
        found = session.get(ApiKey, wanted.id)
        if found is None:
            found = _add(session, wanted, org_id=str(asker.org_id), user_id=str(asker.user_id), secret=secret)
            log.info("api_key_created", org_id=asker.org_id, key_id=wanted.id, created_by=asker.id)
        return as_dict(found)


def page(db: Database, *, org_id: str, limit: int, after: str | None, prefix: str | None) -> dict[str, Any]:
    """Return a page of an organization's keys, newest first; of those that begin with ``prefix``, if it is given."""
    statement = sa.select(ApiKey).where(ApiKey.org_id == org_id).order_by(ApiKey.id.desc())
    if after:
        statement = statement.where(ApiKey.id < after)
    if prefix:
        statement = statement.where(ApiKey.prefix.startswith(prefix, autoescape=True))
    with db.transaction(org_id=org_id) as session:
        rows = list(session.scalars(statement.limit(limit + 1)))
    shown, more = rows[:limit], len(rows) > limit
    return {
        "data": [as_dict(row) for row in shown],
        "has_more": more,
        "next_cursor": shown[-1].id if more else None,
    }


def revoke(db: Database, *, org_id: str, key_id: str) -> None:
    """Revoke a key; one that was revoked before stays so.

    Raises:
        NotFound: the organization has no such key.
        LastOwner: it is the only way in that any owner has.
    """
    with db.transaction(org_id=org_id) as session:
        found = _locked(session, org_id=org_id, key_id=key_id)
        if found.revoked_at is None:
            found.revoked_at = sa.func.now()
            session.flush()
            members.require_an_owner(session, org_id=org_id)
            log.info("api_key_revoked", org_id=org_id, key_id=key_id)


def rotate(
    db: Database, asker: Principal, *, key_id: str, new_id: str, overlap: timedelta, secret: keys.Secret
) -> dict[str, Any]:
    """Make a key in place of another, which ends after ``overlap``; the same new id again changes nothing.

    The new one is allowed what the old one was, and expires when that would have.

    Raises:
        NotFound: the organization has no such key.
        KeyNotUsable: it was revoked, or has expired.
        Forbidden: the asker is a key that may less.
    """
    with db.transaction(org_id=asker.org_id) as session:
        done = session.get(ApiKey, new_id)
        if done is not None:
            return as_dict(done)
        old = _locked(session, org_id=str(asker.org_id), key_id=key_id)
        now = session.execute(sa.select(sa.func.now())).scalar_one()
        if old.revoked_at or (old.expires_at and old.expires_at <= now):
            raise KeyNotUsable("This key was revoked or has expired; make a new one.")
        _require_no_more(asker, scopes=old.scopes, workflows=old.workflows, livemode=old.livemode)
        wanted = NewKey(
            id=new_id,
            name=old.name,
            livemode=old.livemode,
            scopes=old.scopes,
            workflows=old.workflows,
            expires_at=old.expires_at,
        )
        made = _add(session, wanted, org_id=old.org_id, user_id=old.user_id, secret=secret, rotated_from=old.id)
        old.expires_at = min(old.expires_at or datetime.max.replace(tzinfo=UTC), now + overlap)
        log.info("api_key_rotated", org_id=old.org_id, key_id=old.id, new_key_id=new_id)
        return as_dict(made)


def kind_of(db: Database, *, org_id: str, key_id: str) -> str:
    """Return how the secret of a key begins: live or test.

    Raises:
        NotFound: the organization has no such key.
    """
    with db.transaction(org_id=org_id) as session:
        livemode = session.scalar(sa.select(ApiKey.livemode).where(ApiKey.org_id == org_id, ApiKey.id == key_id))
    if livemode is None:
        raise NotFound("There is no such key.")
    return keys.LIVE if livemode else keys.TEST


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
        rotated_from=rotated_from,
    )
    session.add(made)
    session.flush()
    session.refresh(made)
    return made


def _require_no_more(
    asker: Principal, *, scopes: Sequence[str], workflows: Sequence[str] | None, livemode: bool
) -> None:
    """Let a key hand out nothing that it has not got itself; a person has all that the role allows."""
    if asker.kind != "key":
        return
    lacking = sorted(set(scopes) - asker.scopes)
    if lacking:
        raise Forbidden(f"A key cannot give what it has not got: the scope {', '.join(lacking)}.")
    if asker.workflows is not None and (workflows is None or set(workflows) - asker.workflows):
        raise Forbidden("A key that is limited to some workflows can give no others.")
    if livemode and not asker.livemode:
        raise Forbidden("A test key makes no live keys.")


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
