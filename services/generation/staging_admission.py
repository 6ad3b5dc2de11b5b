"""Whether a job may be the next step of its staging session: asked and noted in the transaction that takes it in.

The session is locked first, then the job is written: of two that want to be the same step one comes too late.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import staging_steps
from services.generation.models import Job, StagingSession
from services.generation.staging_progress import changed, generations_of, is_step, lock, move, standing
from services.generation.staging_steps import EMPTY_ROOM, STAGING, STEP_OF_WORKFLOW
from services.generation.submissions import Planned, Submission
from shared.database import Database
from shared.events import Event
from shared.problems import Conflict, Problem


def begin(session: Session, several: Sequence[Planned]) -> tuple[list[Event], dict[str, Problem]]:
    """Take the step that each new job is of its session, just before the jobs are written.

    A job that is there already has taken its step. Two steps at once wait for each other here.

    Args:
        session: of the system role, in which the jobs are taken in.
        several: jobs of any kind; those of no staging session are none of its business.

    Returns:
        What happened to sessions, and why jobs cannot be taken in, by job.
    """
    steps = [each.asked for each in several if is_step(each.asked.session_id)]
    if not steps:
        return [], {}
    rows = lock(session, (asked.session_id or "" for asked in steps))
    there = set(session.scalars(sa.select(Job.id).where(Job.id.in_([asked.job_id for asked in steps]))))
    told: list[Event] = []
    refused: dict[str, Problem] = {}
    sizes = {each.asked.job_id: len(each.generations) for each in several}
    for asked in steps:
        if asked.job_id in there:
            continue
        try:
            told.append(_take_step(session, rows.get(asked.session_id or ""), asked, generations=sizes[asked.job_id]))
        except Problem as problem:
            refused[asked.job_id] = problem
    return told, refused


def rehearse(db: Database, asked: Submission, *, generations: int) -> None:
    """Refuse a dry run whose job could not be the next step of its session, as that would be; it takes no step.

    Raises:
        Conflict, StepNotAllowed, LimitExceeded: as the job would be refused.
    """
    if is_step(asked.session_id):
        with db.transaction(org_id=asked.org_id, livemode=asked.livemode) as session:
            _allowed(session, session.get(StagingSession, asked.session_id), asked, generations=generations)


def require_step(
    session: Session, row: StagingSession, *, workflow: str, retry_number: int | None, generations: int
) -> None:
    """Let a job of ``workflow`` be the next step of a session, or not.

    Raises:
        StepNotAllowed: the session does not allow it now, or it is another retry's turn.
        LimitExceeded: with so many ``generations`` more, the session would have too many.
    """
    now = standing(row, generations=generations_of(session, row.id))
    staging_steps.require(STEP_OF_WORKFLOW[workflow], now)
    if workflow == EMPTY_ROOM:
        staging_steps.require_retry_number(retry_number, now)
    staging_steps.require_room_for(generations, now)


def _allowed(session: Session, found: StagingSession | None, asked: Submission, *, generations: int) -> StagingSession:
    """Return the session whose next step a job may be."""
    if found is None or found.deleted_at or (found.org_id, found.livemode) != (asked.org_id, asked.livemode):
        raise Conflict("The session of this job was deleted.")
    require_step(session, found, workflow=asked.workflow, retry_number=asked.retry_number, generations=generations)
    # A retry has the picture of its job, and the session may have got another since: from a photo to an empty room.
    if asked.workflow == STAGING and asked.assets[found.upload_id].get("image_id") != found.selected_image_id:
        raise staging_steps.refusal(standing(found), "The room to be staged is another picture than that of this job.")
    return found


def _take_step(session: Session, found: StagingSession | None, asked: Submission, *, generations: int) -> Event:
    row = _allowed(session, found, asked, generations=generations)
    row.begun = True
    if asked.workflow == STAGING:
        row.style, row.room_type = asked.inputs["style"], asked.inputs["room_type"]
    move(row, at_work=[asked.workflow])
    return changed(row, "job_accepted", correlation_id=asked.correlation_id)
