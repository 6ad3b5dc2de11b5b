"""How jobs move the staging session they belong to, in the transactions in which the jobs themselves move.

So a session never says anything else than its jobs do, whatever crashes. Jobs are locked before sessions.
"""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import staging_steps
from services.generation.models import Generation, Job, StagingResult, StagingSession
from services.generation.staging_steps import EMPTY_ROOM, Standing
from shared.events import Event, StagingSessionChanged, correlated
from shared.ids import is_id
from shared.times import rfc3339

log = structlog.get_logger(__name__)

_REJECTED = "rejected"


def lock(session: Session, session_ids: Iterable[str]) -> dict[str, StagingSession]:
    """Lock sessions in ascending order of id; return those that exist, deleted ones too."""
    wanted = sa.select(StagingSession).where(StagingSession.id.in_(set(session_ids)))
    found = session.scalars(wanted.order_by(StagingSession.id).with_for_update())
    return {row.id: row for row in found}


def count_result(session: Session, job: Job, generation: Generation) -> None:
    """Number a generation that has just succeeded, if it is of a session: in the order in which they do, no gaps."""
    row = _session_of(session, job)
    if row is None:
        return
    if job.workflow == EMPTY_ROOM:
        number, row.empty_rooms = row.empty_rooms, row.empty_rooms + 1
    else:
        number = row.variants = row.variants + 1
    session.add(
        StagingResult(
            generation_id=generation.id,
            session_id=row.id,
            org_id=row.org_id,
            livemode=row.livemode,
            workflow=job.workflow,
            number=number,
        )
    )


def job_ended(session: Session, job: Job) -> list[Event]:
    """Move the session of a job that has ended, its row saying so; a rejected job is as if it had never been."""
    row = _session_of(session, job)
    if row is None:
        return []
    session.flush()
    jobs = sa.select(Job.workflow, Job.finished_at.is_(None)).where(Job.session_id == row.id, Job.status != _REJECTED)
    others = session.execute(jobs).all()
    row.begun = bool(others)
    move(row, at_work=[workflow for workflow, is_open in others if is_open])
    if row.deleted_at:
        return []
    return [changed(row, "job_ended", correlation_id=job.correlation_id)]


def standing(row: StagingSession, *, generations: int = 0) -> Standing:
    """Return where a session stands; ``generations`` is how many there were, where that matters."""
    return Standing(
        room_state=row.room_state,
        status=row.status,
        empty_rooms=row.empty_rooms,
        variants=row.variants,
        generations=generations,
        begun=row.begun,
        selected=row.selected_image_id is not None,
        locked=row.locked_at is not None,
    )


def generations_of(session: Session, session_id: str) -> int:
    """Count the generations of a session, those that failed too."""
    total = sa.select(sa.func.coalesce(sa.func.sum(Job.total), 0)).where(
        Job.session_id == session_id, Job.status != _REJECTED
    )
    return int(session.scalar(total) or 0)


def changed(row: StagingSession, change: str, *, correlation_id: str | None = None) -> StagingSessionChanged:
    """Note that a session has changed, as its next version; return the event that tells it."""
    row.version += 1
    row.updated_at = sa.func.now()
    log.info("staging_session_changed", session_id=row.id, org_id=row.org_id, change=change, status=row.status)
    return told(row, change, correlation_id=correlation_id)


def told(row: StagingSession, change: str, *, correlation_id: str | None = None) -> StagingSessionChanged:
    """Return the event that tells of a session as it is."""
    return StagingSessionChanged(
        meta=correlated(correlation_id) if correlation_id else None,
        session_id=row.id,
        org_id=row.org_id,
        user_id=row.user_id,
        session_name=row.name,
        change=change,
        status=row.status,
        room_state=row.room_state,
        empty_rooms=row.empty_rooms,
        variants=row.variants,
        image_id=row.selected_image_id,
        version=row.version,
        created_at=rfc3339(row.created_at),
        livemode=row.livemode,
    )


def move(row: StagingSession, *, at_work: Sequence[str]) -> None:
    """Give a session the status that follows from what it has; ``at_work`` are the workflows of its open jobs."""
    row.status = staging_steps.status_of(standing(row), at_work)


def is_step(session_id: str | None) -> bool:
    """Tell whether a job of this session is a step of a staging session: there are others."""
    return session_id is not None and is_id(session_id, prefix="ses")


def _session_of(session: Session, job: Job) -> StagingSession | None:
    """Lock the staging session of a job; None where it has none."""
    return lock(session, [job.session_id]).get(job.session_id) if job.session_id and is_step(job.session_id) else None
