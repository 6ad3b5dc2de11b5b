"""Jobs that stand still since nothing in them is paid for, and jobs that go on. The deadline stands with them.

Whoever calls has locked the job's row.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation.jobs import GENERATION_ENDS, deadline_after_pause
from services.generation.models import Generation, Job
from services.generation.rows import amounts_by_id
from shared.events import Event, JobPaused, JobResumed, correlated

log = structlog.get_logger(__name__)

_OPEN = Generation.status.not_in(GENERATION_ENDS)
# A generation that has no price waits for nobody.
_WAITS = sa.and_(Generation.sku.is_not(None), Generation.amount.is_(None))


def waiting_lines(session: Session, job: Job, *, most: int | None = None) -> Sequence[sa.Row[str, str | None, int]]:
    """Return ``(id, sku, expected_cost_microusd)`` of a job's open generations for which nothing is held, by number."""
    columns = (Generation.id, Generation.sku, Generation.expected_cost_microusd)
    statement = sa.select(*columns).where(Generation.job_id == job.id, _OPEN, _WAITS)
    return session.execute(statement.order_by(Generation.number).limit(most)).all()


def waiting_ids(session: Session, job: Job) -> list[str]:
    """Return the ids of a job's open generations for which nothing is held yet."""
    return list(session.scalars(sa.select(Generation.id).where(Generation.job_id == job.id, _OPEN, _WAITS)))


def running_ids(session: Session, job: Job) -> list[str]:
    """Return the ids of a job's open generations that are paid for, or free of charge."""
    return list(session.scalars(sa.select(Generation.id).where(Generation.job_id == job.id, _OPEN, sa.not_(_WAITS))))


def anything_waits(session: Session, job: Job) -> bool:
    """Tell whether the job has an open generation for which nothing is held yet."""
    waiting = sa.exists().where(Generation.job_id == job.id, _OPEN, _WAITS)
    return bool(session.execute(sa.select(waiting)).scalar_one())


def note_held(session: Session, job: Job, amounts: Mapping[str, int]) -> None:
    """Note what is held, by generation, for those of a job that waited for it."""
    held = amounts_by_id(amounts)
    session.execute(
        sa.update(Generation)
        .where(Generation.job_id == job.id, Generation.id == held.c.id, _OPEN, _WAITS)
        .values(amount=held.c.amount),
        execution_options={"synchronize_session": False},
    )


def pause_if_nothing_runs(session: Session, job: Job, *, now: datetime) -> list[Event]:
    """Pause a job of whose open generations every one waits for credits, and stop its clock."""
    if job.waiting_reason is None or job.status not in {"awaiting_credit", "queued", "running"}:
        return []
    statement = sa.select(
        sa.func.count().filter(_WAITS).label("waiting"), sa.func.count().filter(sa.not_(_WAITS)).label("running")
    ).where(Generation.job_id == job.id, _OPEN)
    count = session.execute(statement).one()
    if count.running or not count.waiting:
        return []
    job.status, job.paused_at = "paused", now
    log.info("job_paused", job_id=job.id, org_id=job.org_id, reason=job.waiting_reason, waiting=count.waiting)
    return [JobPaused(**_about(job), reason=job.waiting_reason, waiting=count.waiting)]


def go_on(job: Job, *, now: datetime) -> list[Event]:
    """Give a job of which more is paid for now the time for it; one that was paused is told to go on."""
    job.deadline_at = deadline_now(job, now=now)
    if job.status != "paused":
        return []
    job.status, job.paused_at = "queued", None
    log.info("job_resumed", job_id=job.id, org_id=job.org_id)
    return [JobResumed(**_about(job), deadline_at=job.deadline_at.isoformat())]


def deadline_now(job: Job, *, now: datetime) -> datetime:
    """Return the deadline a job would have if more of it began ``now``."""
    return deadline_after_pause(
        job.deadline_at,
        paused_at=job.paused_at or now,
        now=now,
        asked_seconds=job.deadline_seconds,
        sources_until=job.sources_until,
    )


def _about(job: Job) -> dict[str, Any]:
    return {
        "meta": correlated(job.correlation_id),
        "job_id": job.id,
        "org_id": job.org_id,
        "user_id": job.user_id,
        "workflow": job.workflow,
        "session_id": job.session_id,
        "livemode": job.livemode,
    }
