"""Administrators' own keys, made with the root key: each has a name, under which what is done with it is recorded."""

from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from services.gateway import keys
from services.gateway.models import AdminKey
from shared.database import Database
from shared.http import Principal
from shared.http_fields import rfc3339
from shared.problems import Conflict, Forbidden, NotFound

log = structlog.get_logger(__name__)

ROOT = "root"
_USED = sa.text(
    "UPDATE admin_keys SET last_used_at = now()"
    " WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')"
)


class NameTaken(Conflict):
    """Another administrator's key has that name."""

    code = "name_taken"
    title = "There is a key of that name"
    remedy = "Choose another name, or revoke the key that has it."


def create(db: Database, *, key_id: str, name: str, secret: keys.Secret) -> dict[str, Any]:
    """Make a key for the administrator ``name``; the same id again changes nothing.

    Raises:
        NameTaken: one that is in use has that name.
    """
    if name == ROOT:
        raise NameTaken("root is the name of the root key; choose another.")
    try:
        with db.transaction() as session:
            found = session.get(AdminKey, key_id)
            if found is None:
                found = AdminKey(id=key_id, name=name, prefix=secret.prefix, secret_sha256=secret.sha256)
                session.add(found)
                session.flush()
                session.refresh(found)
                log.info("admin_key_created", key_id=key_id, name=name)
            return as_dict(found)
    except IntegrityError:
        raise NameTaken(f"A key in use is called {name}; choose another name, or revoke that one.") from None


def page(db: Database, *, limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of administrators' keys, newest first."""
    statement = sa.select(AdminKey).order_by(AdminKey.id.desc())
    if after:
        statement = statement.where(AdminKey.id < after)
    with db.transaction() as session:
        rows = list(session.scalars(statement.limit(limit + 1)))
    shown, more = rows[:limit], len(rows) > limit
    return {
        "data": [as_dict(row) for row in shown],
        "has_more": more,
        "next_cursor": shown[-1].id if more else None,
    }


def revoke(db: Database, *, key_id: str) -> None:
    """Revoke a key; doing so again changes nothing.

    Raises:
        NotFound: there is none.
    """
    with db.transaction() as session:
        found = session.get(AdminKey, key_id, with_for_update=True)
        if found is None:
            raise NotFound("There is no such key.")
        if found.revoked_at is None:
            found.revoked_at = sa.func.now()
            log.info("admin_key_revoked", key_id=key_id, name=found.name)


def principal_of(db: Database, secret: str) -> Principal | None:
    """Return the administrator whose key ``secret`` is, or None; its use is noted at most once a minute."""
    with db.transaction() as session:
        row = session.execute(
            sa.select(AdminKey.id, AdminKey.name).where(
                AdminKey.secret_sha256 == keys.sha256(secret), AdminKey.revoked_at.is_(None)
            )
        ).one_or_none()
        if row is None:
            return None
        session.execute(_USED, {"id": row.id})
    return Principal(kind="admin", id=row.id, name=row.name)


def require_root(asker: Principal) -> None:
    """Let only the root key go on.

    Raises:
        Forbidden: it is an administrator's own.
    """
    if asker.id != ROOT:
        raise Forbidden("Only the root key makes, lists and revokes administrators' keys.")


def as_dict(key: AdminKey) -> dict[str, Any]:
    """Return a key without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": rfc3339(key.created_at),
        "last_used_at": rfc3339(key.last_used_at) if key.last_used_at else None,
        "revoked_at": rfc3339(key.revoked_at) if key.revoked_at else None,
    }
