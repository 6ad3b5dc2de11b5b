"""Somebody's inbox: messages, which of them were read, and how many were not."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert
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
    """A message to be put into somebody's inbox, unless they have one with this ``key``.

    One that ``goes_on`` takes the place of that, as a new one, where it says more: another text, or of another job.
    """

    org_id: str
    user_id: str
    key: str
    kind: str
    text: str
    goes_on: bool = False
    job_id: str | None = None
    session_id: str | None = None


def add(session: Session, messages: Sequence[NewMessage]) -> None:
    """Put messages into inboxes; those that are there already stay as they are, unless they go on."""
    # In one order: two batches never wait for each other.
    ordered = sorted(messages, key=lambda each: (each.org_id, each.user_id, each.key))
    for goes_on in (False, True):
        rows = [_row(each) for each in ordered if each.goes_on is goes_on]
        if rows:
            added = session.scalars(_insert(rows, goes_on=goes_on).returning(Message.id)).all()
            once_committed(session, partial(_count, len(added)))


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


def _insert(rows: Sequence[Mapping[str, Any]], *, goes_on: bool) -> Insert:
    statement = insert(Message).values(rows)
    if not goes_on:
        return statement.on_conflict_do_nothing()
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["org_id", "user_id", "key"],
        # Another id: it is at the top of the inbox again, and whoever read the one before has not read this.
        set_={
            "id": new.id,
            "kind": new.kind,
            "text": new.text,
            "job_id": new.job_id,
            "created_at": sa.func.now(),
            "read_at": None,
        },
        where=sa.or_(Message.text != new.text, Message.job_id.is_distinct_from(new.job_id)),
    )


def _row(message: NewMessage) -> dict[str, Any]:
    row = {"id": new_id("ntf"), **dataclasses.asdict(message)}
    del row["goes_on"]
    return row


def _count(delivered: int) -> None:
    metrics.deliveries.labels("inbox", "delivered").inc(delivered)


def _unread(session: Session, *, org_id: str, user_id: str) -> int:
    mine = (Message.org_id == org_id, Message.user_id == user_id, Message.read_at.is_(None))
    return session.scalar(sa.select(sa.func.count()).select_from(Message).where(*mine)) or 0
