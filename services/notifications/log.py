"""Reading an organization's log after a cursor: the one source of lists, streams and webhooks."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications.models import EventSequence, RecordedEvent
from shared import pages
from shared.problems import BadRequest

PAGE_BYTES = 2_000_000
# An event's number and what it weighs, which is known without reading it.
SIZED = (RecordedEvent.sequence, sa.func.octet_length(RecordedEvent.body).label("bytes"))
_CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)


def events(
    session: Session,
    *,
    org_id: str,
    after: str = "0",
    types: Sequence[str] | None = None,
    session_id: str | None = None,
    job_id: str | None = None,
    livemode: bool | None = None,
    limit: int = pages.PAGE,
) -> dict[str, Any]:
    """Return a page of the log in its order, from what follows the cursor ``after`` on.

    Args:
        session: a session that sees the organization's rows.
        org_id: whose log.
        after: the ``id`` of an event, as text; "0" is before the oldest that is kept.
        types: only events of these types.
        session_id: only events of this staging or studio session.
        job_id: only events of this job.
        livemode: whether only what test keys have made (False), or only everything else (True); None is both.
        limit: how many at most.

    Returns:
        ``{data: [{id, type, time, event}], has_more, next_cursor, oldest, last, resync}``. ``id`` is the event's
        number in the log, as text, and ``event`` the CloudEvent, with that number as ``orgsequence``. ``last`` is the
        number up to which this answer knows the log, whatever was filtered out; ``oldest`` the first that is kept.
        ``resync`` says that events after the cursor are no longer kept, or that the cursor is of no event of this log:
        whoever follows it has to look at everything anew, and to go on from ``last``.

    Raises:
        BadRequest: the cursor or the limit is of no such form.
    """
    pages.check_limit(limit)
    cursor = cursor_of(after)
    # In this order: what is recorded meanwhile is beyond `last`, and what is swept meanwhile shows in `oldest`.
    last = session.scalar(sa.select(EventSequence.last).where(EventSequence.org_id == org_id)) or 0
    conditions = [RecordedEvent.org_id == org_id, RecordedEvent.sequence > cursor, RecordedEvent.sequence <= last]
    if types:
        conditions.append(RecordedEvent.type.in_(types))
    if session_id is not None:
        conditions.append(RecordedEvent.session_id == session_id)
    if job_id is not None:
        conditions.append(RecordedEvent.job_id == job_id)
    if livemode is not None:
        conditions.append(of_mode(livemode))
    rows, more = _page(session, conditions, org_id=org_id, limit=limit)
    oldest = session.scalar(sa.select(sa.func.min(RecordedEvent.sequence)).where(RecordedEvent.org_id == org_id))
    oldest = last + 1 if oldest is None else int(oldest)
    return {
        "data": [as_dict(row) for row in rows],
        "has_more": more,
        "next_cursor": str(rows[-1].sequence) if more and rows else None,
        "oldest": str(oldest),
        "last": str(last),
        "resync": 0 < cursor < oldest - 1 or cursor > last,
    }


def of_mode(livemode: bool) -> sa.ColumnElement[bool]:  # noqa: FBT001  it is all there is to say
    """Return the condition on events to be only what test keys have made (False), or only everything else.

    In these words, as the indexes have them.
    """
    return sa.not_(RecordedEvent.of_test_key) if livemode else sa.and_(RecordedEvent.of_test_key)


def _page(
    session: Session, conditions: Sequence[sa.ColumnElement[bool]], *, org_id: str, limit: int
) -> tuple[Sequence[RecordedEvent], bool]:
    """Return the first events, as many as were asked for and one answer can carry, and whether there are more."""
    first = sa.select(*SIZED).where(*conditions).order_by(RecordedEvent.sequence).limit(limit + 1)
    sizes = session.execute(first).all()
    chosen = fitting(sizes[:limit])
    rows = session.scalars(
        sa.select(RecordedEvent)
        .where(RecordedEvent.org_id == org_id, RecordedEvent.sequence.in_(chosen))
        .order_by(RecordedEvent.sequence)
    ).all()
    return rows, len(sizes) > len(chosen)


def fitting(sizes: Sequence[Any]) -> list[int]:
    """Return the numbers of the first of these events (`SIZED`), as many as one answer can carry, and at least one."""
    found: list[int] = []
    taken = 0
    for row in sizes:
        taken += row.bytes
        if found and taken > PAGE_BYTES:
            break
        found.append(row.sequence)
    return found


def cursor_of(text: str) -> int:
    """Read a cursor.

    Raises:
        BadRequest: it is no number of an event.
    """
    if not _CURSOR.fullmatch(text):
        raise BadRequest(f"{text[:40]!r} is no cursor of the event log: it is the id of an event in it, such as 42.")
    return int(text)


def as_dict(row: RecordedEvent) -> dict[str, Any]:
    """Return an event as the list shows it."""
    event = cloud_event(row)
    return {"id": str(row.sequence), "type": row.type, "time": event["time"], "event": event}


def cloud_event(row: RecordedEvent) -> dict[str, Any]:
    """Return the CloudEvent of a row, as it goes to streams and webhooks too."""
    return {**msgspec.json.decode(row.body), "orgsequence": row.sequence}
