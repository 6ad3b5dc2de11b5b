"""What has come of each session so far: how its jobs ended, added up, in whatever order and however often that is told.

A retry makes failed images of the same session again, so that it adds to those that are there, but asks for no more.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from services.notifications.models import Model
from services.notifications.notices import Standing, counts_in_session, is_completed
from shared.database import Database
from shared.events import Event, JobFinished

KEPT_DAYS: Final = 90
_SWEPT_AT_ONCE: Final = 5_000

# Two jobs of one session that end at the same time are added up one after the other: the second sees the first.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7301023, hashtext(:session_id))")
_STANDING = sa.text("""
SELECT ended.org_id, ended.session_id, max(ended.job_id) AS job_id, bool_or(ended.completed) AS completed,
    CAST(sum(ended.succeeded) AS integer) AS succeeded, CAST(sum(ended.fallbacks) AS integer) AS fallbacks,
    CAST(greatest(
        coalesce(sum(ended.succeeded + ended.failed) FILTER (WHERE before.job_id IS NULL), 0), sum(ended.succeeded)
    ) AS integer) AS total
FROM unnest(CAST(:org_ids AS text[]), CAST(:session_ids AS text[])) AS asked (org_id, session_id)
JOIN ended_jobs ended ON ended.org_id = asked.org_id AND ended.session_id = asked.session_id
LEFT JOIN ended_jobs before
    ON before.org_id = ended.org_id AND before.job_id = ended.retry_of AND before.session_id = ended.session_id
GROUP BY ended.org_id, ended.session_id
""")
_SWEEP = sa.text("""
WITH old AS (
    SELECT org_id, job_id FROM ended_jobs o
    WHERE noted_at < now() - make_interval(days => :days) AND NOT EXISTS (
        SELECT FROM ended_jobs newer WHERE newer.org_id = o.org_id AND newer.session_id = o.session_id
            AND newer.noted_at >= now() - make_interval(days => :days)
    )
    ORDER BY noted_at LIMIT :most
)
DELETE FROM ended_jobs e USING old WHERE e.org_id = old.org_id AND e.job_id = old.job_id
""")


class EndedJob(Model):
    """How a job of a session ended: of its images so many ``succeeded`` and ``failed``; a ``retry_of`` another."""

    __tablename__ = "ended_jobs"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    session_id: Mapped[str] = mapped_column(sa.Text)
    retry_of: Mapped[str | None] = mapped_column(sa.Text)
    completed: Mapped[bool]
    succeeded: Mapped[int]
    failed: Mapped[int]
    fallbacks: Mapped[int]
    noted_at: Mapped[datetime] = mapped_column(sa.TIMESTAMP(timezone=True), server_default=sa.func.now())

    __table_args__ = (
        sa.Index("ended_jobs_of_session", "org_id", "session_id"),
        sa.Index("ended_jobs_noted_at", "noted_at"),
    )


def note(session: Session, items: Sequence[Event]) -> dict[tuple[str, str], Standing]:
    """Add up what ended, each job once; return where the sessions of these jobs stand, by organization and session.

    Nobody else adds to these sessions until the commit.
    """
    ended = {
        (item.org_id, item.job_id): item for item in items if isinstance(item, JobFinished) and counts_in_session(item)
    }
    if not ended:
        return {}
    asked = sorted({(item.org_id, item.session_id or "") for item in ended.values()})
    for session_id in sorted({session_id for _, session_id in asked}):
        session.execute(_LOCK, {"session_id": session_id})
    rows = [_row(ended[key]) for key in sorted(ended)]
    session.execute(insert(EndedJob).values(rows).on_conflict_do_nothing())
    org_ids, session_ids = zip(*asked, strict=True)
    found = session.execute(_STANDING, {"org_ids": list(org_ids), "session_ids": list(session_ids)}).mappings()
    return {(row["org_id"], row["session_id"]): _standing(row) for row in found}


def sweep(db: Database) -> None:
    """Forget sessions of which nothing has ended for 90 days."""
    swept = _SWEPT_AT_ONCE
    while swept == _SWEPT_AT_ONCE:
        with db.transaction() as session:
            result: Any = session.execute(_SWEEP, {"days": KEPT_DAYS, "most": _SWEPT_AT_ONCE})
            swept = result.rowcount


def _row(item: JobFinished) -> dict[str, object]:
    return {
        "org_id": item.org_id,
        "job_id": item.job_id,
        "session_id": item.session_id,
        "retry_of": item.retry_of,
        "completed": is_completed(item),
        "succeeded": item.succeeded,
        "failed": item.failed,
        "fallbacks": item.fallbacks,
    }


def _standing(row: sa.RowMapping) -> Standing:
    return Standing(**{name: row[name] for name in ("job_id", "completed", "succeeded", "total", "fallbacks")})
