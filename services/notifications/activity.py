"""The activity of an organization or of one session: its log, read backwards and told in sentences."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased

from services.notifications import log as event_log
from services.notifications import people, preferences, story
from services.notifications.models import RecordedEvent
from services.notifications.story import Happened, Line
from shared import events, pages
from shared.times import rfc3339

_EVENTS_A_LINE: Final = 10
_LOOKED_AT: Final = 10_000  # of a session, for the jobs in it


def activity(
    session: Session,
    *,
    org_id: str,
    session_id: str | None = None,
    job_id: str | None = None,
    livemode: bool | None = None,
    limit: int = pages.PAGE,
    after: str | None = None,
    timezone: str = "UTC",
) -> dict[str, Any]:
    """Return a page of what happened, the newest first: ``{data, has_more, next_cursor}``.

    Each item is ``{id, time, type, text, count, actor_id, job_id, session_id}``; ``text`` is a sentence with the time
    of day in ``timezone``, and ``count`` how many events it tells.

    ``livemode`` says whether only what test keys have made is told (False), or only everything else; None is both.

    Raises:
        BadRequest: the cursor or the limit is of no such form.
    """
    pages.check_limit(limit)
    wanted: list[sa.ColumnElement[bool]] = [
        RecordedEvent.org_id == org_id,
        sa.and_(RecordedEvent.told),
        RecordedEvent.type.in_(story.TOLD_TYPES),
    ]
    if livemode is not None:
        wanted.append(event_log.of_mode(livemode))
    if job_id is not None:
        wanted.append(RecordedEvent.job_id == job_id)
    if after is not None:
        wanted.append(RecordedEvent.sequence < event_log.cursor_of(after))
    wanted += [_stands_for_itself(), *_no_steps()]
    most = limit * _EVENTS_A_LINE
    newest = _newest(wanted, most=most + 1)
    if session_id is not None:
        newest = _of_session(session, wanted, org_id=org_id, session_id=session_id, most=most + 1)
    happened, more = _happened(session, newest, org_id=org_id, most=most)
    happened = _with_counts(session, happened, org_id=org_id, most=limit)
    user_ids = sorted(set().union(*(story.people_in(item.data) for item in happened)))
    names = people.names(session, org_id=org_id, user_ids=user_ids)
    lines = story.tell(happened, names=names, zone=preferences.zone(timezone))
    shown = lines[:limit]
    has_more = more or len(lines) > limit
    return {
        "data": [_as_dict(line) for line in shown],
        "has_more": has_more,
        "next_cursor": str(shown[-1].sequence) if has_more and shown else None,
    }


def _newest(wanted: Sequence[sa.ColumnElement[bool]], *, most: int) -> sa.Select[tuple[int, int]]:
    return sa.select(*event_log.SIZED).where(*wanted).order_by(RecordedEvent.sequence.desc()).limit(most)


def _of_session(
    session: Session, wanted: Sequence[sa.ColumnElement[bool]], *, org_id: str, session_id: str, most: int
) -> sa.Select[tuple[int, int]]:
    """Return the newest of a session and of its jobs: what tells of a session's job does not always name the session.

    One statement for each, since for "either or" no index can say where to begin.
    """
    of_session = sa.and_(RecordedEvent.org_id == org_id, RecordedEvent.session_id == session_id)
    newest = sa.select(RecordedEvent.job_id).where(of_session).order_by(RecordedEvent.sequence.desc()).limit(_LOOKED_AT)
    job_ids = sorted({job_id for job_id in session.scalars(newest) if job_id})
    job = sa.func.unnest(sa.literal(job_ids, ARRAY(sa.Text))).table_valued("job_id", name="jobs").render_derived()
    of_job = _newest([*wanted, RecordedEvent.job_id == job.c.job_id], most=most).lateral()
    parts = sa.union(
        _newest([*wanted, RecordedEvent.session_id == session_id], most=most).subquery().select(),
        sa.select(of_job).select_from(job).join(of_job, sa.true()),
    ).subquery()
    return sa.select(*parts.columns).order_by(parts.columns[0].desc()).limit(most)


def _happened(
    session: Session, newest: sa.Select[tuple[int, int]], *, org_id: str, most: int
) -> tuple[list[Happened], bool]:
    """Return the first of these events, as many as can be read for one answer, and whether there are more."""
    sizes = session.execute(newest).all()
    chosen = event_log.fitting(sizes[:most])
    rows = session.scalars(
        sa.select(RecordedEvent)
        .where(RecordedEvent.org_id == org_id, RecordedEvent.sequence.in_(chosen))
        .order_by(RecordedEvent.sequence.desc())
    )
    return [_read(row) for row in rows], len(sizes) > len(chosen)


def _stands_for_itself() -> sa.ColumnElement[bool]:
    """Leave out what a newer one of its job stands for, whichever page that is on: each is told once."""
    newer = aliased(RecordedEvent)
    another = sa.exists().where(
        newer.org_id == RecordedEvent.org_id,
        newer.job_id == RecordedEvent.job_id,
        newer.type == RecordedEvent.type,
        newer.sequence > RecordedEvent.sequence,
    )
    return sa.or_(RecordedEvent.type.not_in(story.ONCE_A_JOB), ~another)


def _no_steps() -> list[sa.ColumnElement[bool]]:
    """Leave out changes of sessions whose jobs are told. No text poses as one: quotes in it are escaped in a body."""
    session_changed = RecordedEvent.type == "StagingSessionChanged"
    return [
        sa.not_(session_changed & RecordedEvent.body.contains(f'"change":"{step}"', autoescape=True))
        for step in story.STEPS_NOT_TOLD
    ]


def _with_counts(session: Session, happened: Sequence[Happened], *, org_id: str, most: int) -> list[Happened]:
    """Return the same, with the number of those that stand for others: of the first ``most``, more are never shown."""
    several = [item for item in happened if item.type in story.ONCE_A_JOB][:most]
    if not several:
        return list(happened)
    event = RecordedEvent
    of_jobs = sa.select(event.job_id, event.type, sa.func.count()).where(
        event.org_id == org_id,
        event.job_id.in_({item.data["job_id"] for item in several}),
        event.type.in_(story.ONCE_A_JOB),
    )
    rows = session.execute(of_jobs.group_by(event.job_id, event.type))
    counts = {(job_id, kind): count for job_id, kind, count in rows}
    return [replace(item, count=counts.get((item.data.get("job_id"), item.type), item.count)) for item in happened]


def _read(row: RecordedEvent) -> Happened:
    """Return an event with all fields its type has by now: what was recorded before one was added has its default."""
    found = msgspec.json.decode(row.body)
    return Happened(
        sequence=row.sequence,
        type=row.type,
        time=datetime.fromisoformat(found["time"]),
        data={**events.defaults(row.type), **found["data"]},
    )


def _as_dict(line: Line) -> dict[str, Any]:
    return {
        "id": str(line.sequence),
        "time": rfc3339(line.time),
        "type": line.type,
        "text": line.text,
        "count": line.count,
        "actor_id": line.actor_id,
        "job_id": line.job_id,
        "session_id": line.session_id,
    }
