"""Being logged in: an opaque token for 7 days, of which only the hash is kept, so that a session can be ended."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.gateway import flags, keys, pages
from services.gateway.models import AuthSession, Member
from shared.database import Database
from shared.http import Principal, Request
from shared.http_fields import rfc3339
from shared.ids import new_id
from shared.problems import NotFound, Unauthenticated

LIFETIME_DAYS = 7
KEPT_DAYS = 30
TOKEN_PREFIX = "ust_"  # noqa: S105  how a token begins, so that logs can mask it
_TOKEN_BYTES = 32
_USER_AGENT_CHARACTERS = 200
_END: Any = sa.literal_column(f"now() + interval '{LIFETIME_DAYS} days'")
_USABLE = sa.and_(AuthSession.revoked_at.is_(None), AuthSession.expires_at > sa.func.now())
_UNSEEN: Any = sa.literal_column("auth_sessions.last_seen_at < now() - interval '1 minute'")
_SEEN = sa.text(
    "UPDATE auth_sessions SET last_seen_at = now() WHERE id = :id AND last_seen_at < now() - interval '1 minute'"
)
_PRUNE = sa.text(f"DELETE FROM auth_sessions WHERE expires_at < now() - interval '{KEPT_DAYS} days'")


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where somebody logs in from, as they may recognise it later."""

    address: str
    user_agent: str | None

    @classmethod
    def of(cls, request: Request) -> "Device":
        """Return the device a request came from."""
        text = request.headers.get("User-Agent", "")
        shown = "".join(character for character in text if character.isprintable())
        return cls(address=request.address, user_agent=shown[:_USER_AGENT_CHARACTERS] or None)


@dataclass(frozen=True)
class Opened:
    """A session that has just begun, and its token, which nobody sees again."""

    id: str
    expires_at: datetime
    token: str

    def __repr__(self) -> str:
        return f"Opened({self.id})"


def looks_like_one(text: str) -> bool:
    """Tell whether ``text`` could be a session's token at all."""
    return text.startswith(TOKEN_PREFIX)


def begin(session: Session, *, org_id: str, user_id: str, device: Device) -> Opened:
    """Log a member in."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    session_id = new_id("lgn")
    expires_at = session.execute(
        sa.insert(AuthSession)
        .values(
            id=session_id,
            org_id=org_id,
            user_id=user_id,
            token_sha256=keys.sha256(token),
            expires_at=_END,
            address=device.address or None,
            user_agent=device.user_agent,
        )
        .returning(AuthSession.expires_at)
    ).scalar_one()
    return Opened(session_id, expires_at, token)


def principal_of(db: Database, token: str) -> Principal:
    """Return who is logged in with ``token``; it is noted at most once a minute that they were seen.

    Raises:
        Unauthenticated: nobody is, or not any more.
    """
    with db.transaction() as session:
        row = session.execute(
            sa.select(
                *(AuthSession.id, AuthSession.org_id, AuthSession.user_id, _UNSEEN.label("unseen")),
                *(Member.role, Member.name, Member.email, flags.switched_of(AuthSession.org_id)),
            )
            .join(Member, sa.and_(Member.org_id == AuthSession.org_id, Member.id == AuthSession.user_id))
            .where(AuthSession.token_sha256 == keys.sha256(token), _USABLE, Member.status == "active")
        ).one_or_none()
        if row is None:
            raise Unauthenticated("This session is unknown or over: log in again.")
        if row.unseen:
            session.execute(_SEEN, {"id": row.id})
    return Principal(
        kind="session",
        id=row.user_id,
        name=row.name or row.email or row.user_id,
        org_id=row.org_id,
        user_id=row.user_id,
        role=row.role,
        session_id=row.id,
        features=flags.features(row.switched),
    )


def usable(session_ids: Collection[str]) -> sa.Select[str]:
    """Return the query for the ids of those sessions that go on, of members who are some."""
    return (
        sa.select(AuthSession.id)
        .join(Member, sa.and_(Member.org_id == AuthSession.org_id, Member.id == AuthSession.user_id))
        .where(AuthSession.id.in_(session_ids), _USABLE, Member.status == "active")
    )


def page(db: Database, asker: Principal, *, limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of the asker's own open sessions, newest first."""
    statement = sa.select(AuthSession).where(_of(asker), _USABLE)

    def show(row: AuthSession) -> dict[str, Any]:
        return _as_dict(row, current=row.id == asker.session_id)

    with db.transaction(org_id=asker.org_id) as session:
        return pages.cut(session, statement, by=AuthSession.id, limit=limit, after=after, show=show)


def end(db: Database, asker: Principal, *, session_id: str) -> None:
    """End one session of the asker's.

    Raises:
        NotFound: they have no such session.
    """
    with db.transaction(org_id=asker.org_id) as session:
        found = session.scalar(sa.select(AuthSession.id).where(_of(asker), AuthSession.id == session_id))
        if found is None:
            raise NotFound("There is no such session.")
        session.execute(
            sa.update(AuthSession)
            .where(AuthSession.id == session_id, AuthSession.revoked_at.is_(None))
            .values(revoked_at=sa.func.now())
        )


def end_all(session: Session, *, org_id: str, user_id: str, besides: str | None = None) -> None:
    """End all sessions of a member, but for ``besides``."""
    statement = sa.update(AuthSession).where(
        AuthSession.org_id == org_id, AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None)
    )
    if besides:
        statement = statement.where(AuthSession.id != besides)
    session.execute(statement.values(revoked_at=sa.func.now()))


def prune(db: Database) -> None:
    """Forget the sessions that ended more than 30 days ago."""
    with db.transaction() as session:
        session.execute(_PRUNE)


def _of(asker: Principal) -> Any:
    return sa.and_(AuthSession.org_id == asker.org_id, AuthSession.user_id == asker.user_id)


def _as_dict(row: AuthSession, *, current: bool) -> dict[str, Any]:
    return {
        "id": row.id,
        "created_at": rfc3339(row.created_at),
        "expires_at": rfc3339(row.expires_at),
        "last_seen_at": rfc3339(row.last_seen_at),
        "address": row.address,
        "user_agent": row.user_agent,
        "current": current,
    }
