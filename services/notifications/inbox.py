"""Somebody's inbox: messages, which of them were read, and how many were not."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications import metrics
from services.notifications.models import Message
from shared import pages
from shared.database import Database, once_committed
from shared.ids import new_id
from shared.problems import BadRequest
from shared.times import rfc3339

READ_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class NewMessage:
    """A message to be put into somebody's inbox, unless they have one with this ``key``."""

    org_id: str
    user_id: str
    key: str
    kind: str
    text: str
    job_id: str | None = None
    session_id: str | None = None


def add(session: Session, messages: Sequence[NewMessage]) -> None:
    """Put messages into inboxes; those that are there already stay as they are."""
    if not messages:
        return
    rows = [{"id": new_id("ntf"), **dataclasses.asdict(each)} for each in messages]
    rows.sort(key=lambda row: (row["org_id"], row["user_id"], row["key"]))  # two batches never wait for each other
    added = session.scalars(insert(Message).values(rows).on_conflict_do_nothing().returning(Message.id)).all()
    once_committed(session, lambda: metrics.deliveries.labels("inbox", "delivered").inc(len(added)))


def messages(
    session: Session,
    *,
    org_id: str,
    user_id: str,
    unread: bool = False,
    limit: int = pages.PAGE,
    after: str | None = None,
) -> dict[str, Any]:
    """Return a page of somebody's messages, the newest first: ``{data, has_more, next_cursor, unread}``.

    ``unread`` counts all that were not read; asked for, only those are shown.
    """
    pages.check_limit(limit)
    mine = [Message.org_id == org_id, Message.user_id == user_id]
    shown = [*mine, *([Message.read_at.is_(None)] if unread else []), *([Message.id < after] if after else [])]
    rows = session.scalars(sa.select(Message).where(*shown).order_by(Message.id.desc()).limit(limit + 1)).all()
    return {**pages.page(rows, limit=limit, show=as_dict), "unread": _unread(session, org_id=org_id, user_id=user_id)}


def mark_read(
    db: Database, *, org_id: str, user_id: str, ids: Sequence[str] | None = None, up_to: str | None = None
) -> dict[str, Any]:
    """Mark messages as read: those named, or all up to one, or all; return ``{read, unread}``, both counts.

    What was read stays read; ids that are nobody's, or somebody else's, are passed over.

    Raises:
        BadRequest: too many are named.
    """
    if ids is not None and len(ids) > READ_AT_ONCE:
        raise BadRequest(f"At most {READ_AT_ONCE} messages are named at once; leave ids out to mark all.")
    chosen = [Message.org_id == org_id, Message.user_id == user_id, Message.read_at.is_(None)]
    if ids is not None:
        chosen.append(Message.id.in_(ids))
    if up_to is not None:
        chosen.append(Message.id <= up_to)
    with db.transaction(org_id=org_id) as session:
        change = sa.update(Message).where(*chosen).values(read_at=sa.func.now()).returning(Message.id)
        read = session.scalars(change).all()
        return {"read": len(read), "unread": _unread(session, org_id=org_id, user_id=user_id)}


def as_dict(row: Message) -> dict[str, Any]:
    """Return a message as its reader sees it."""
    return {
        "id": row.id,
        "kind": row.kind,
        "text": row.text,
        "job_id": row.job_id,
        "session_id": row.session_id,
        "created_at": rfc3339(row.created_at),
        "read_at": row.read_at and rfc3339(row.read_at),
    }


def _unread(session: Session, *, org_id: str, user_id: str) -> int:
    mine = (Message.org_id == org_id, Message.user_id == user_id, Message.read_at.is_(None))
    return session.scalar(sa.select(sa.func.count()).select_from(Message).where(*mine)) or 0
