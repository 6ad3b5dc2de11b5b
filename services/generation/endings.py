"""How generations and jobs end: every one in exactly one event, told under the lock of the job's row.

Whoever calls has locked the job first (`lock_jobs`): order job, generation, operation.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import metrics, pauses, staging_progress
from services.generation.failures import reason
from services.generation.jobs import GENERATION_ENDS, JOB_ENDS, roll_up
from services.generation.models import Generation, Image, Job, Operation
from services.generation.rows import amounts_by_id, one_of
from services.generation.telling import TOLD, Told, about, failed, fallback_from, line_of, renewed_view
from services.generation.turns import in_turns
from shared.database import once_committed
from shared.events import (
    Event,
    GenerationCompleted,
    JobFinished,
    MadeImage,
    RenewedView,
    SettledLine,
    correlated,
)

log = structlog.get_logger(__name__)

_OPEN = Generation.status.not_in(GENERATION_ENDS)


def lock_jobs(session: Session, job_ids: Iterable[str]) -> dict[str, Job]:
    """Lock job rows in ascending order of id, which is the one order everywhere; return those that exist."""
    statement = sa.select(Job).where(Job.id.in_(set(job_ids))).order_by(Job.id).with_for_update()
    return {job.id: job for job in session.scalars(statement)}


def lock(session: Session, job_ids: Iterable[str]) -> None:
    """Lock job rows in the same order, and read nothing of them."""
    session.execute(sa.select(Job.id).where(one_of(Job.id, list(job_ids))).order_by(Job.id).with_for_update())


def note_progress(session: Session, job_ids: Iterable[str]) -> None:
    """Lock jobs in the same order, and note that something of them has moved."""
    ids = sorted(set(job_ids))
    if ids:
        lock(session, ids)
        session.execute(
            sa.update(Job).where(one_of(Job.id, ids)).values(progressed_at=sa.func.clock_timestamp()),
            execution_options={"synchronize_session": False},
        )


def database_now(session: Session) -> datetime:
    """Return the database's time: every process has another clock."""
    now: datetime = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now


def complete(
    session: Session, job: Job, generation: Generation, *, now: datetime, charged: int | None = None
) -> list[Event]:
    """End an open generation well; its operations and images are flushed already.

    ``charged`` is what the result costs where that is less than what is held, since the cache had a part of it.
    """
    held = generation.amount or 0
    generation.status, generation.finished_at = "succeeded", now
    generation.charged = held if charged is None else min(charged, held)
    staging_progress.count_result(session, job, generation)
    operations = _operations_of(session, generation)
    generation.fallback_from = fallback_from(operations)
    images = list(session.scalars(sa.select(Image).where(Image.generation_id == generation.id).order_by(Image.id)))
    last = operations[-1]
    event = GenerationCompleted(
        **about(job, generation),
        meta=correlated(job.correlation_id),
        amount=generation.charged,
        images=[
            MadeImage(image_id=item.id, sha256=item.sha256, bytes=item.bytes, width=item.width, height=item.height)
            for item in images
        ],
        provider=last.provider,
        model=last.model_used or last.model_requested,
        duration_ms=_milliseconds(generation.started_at or now, now),
        provider_cost_microusd=sum(item.cost_microusd or 0 for item in operations),
        renewed_view=_renewed_view(job, generation, images[-1]) if images else None,
        fallback_from=generation.fallback_from,
    )
    return [event, *_close(session, job, 1, now=now)]


def fail(
    session: Session,
    job: Job,
    generation_ids: Collection[str],
    *,
    code: str,
    now: datetime,
    message: str | None = None,
    job_ends_as: str | None = None,
) -> list[Event]:
    """End open generations badly, cancel what is left of their operations, and end the job with the last of them.

    Args:
        session: of the system role; the job's row is locked.
        job: what the generations belong to.
        generation_ids: open ones of the job; what has ended stays as it ended.
        code: why, of the failure taxonomy.
        now: the database's time.
        message: what the user is told, where more is known than the taxonomy says.
        job_ends_as: the job's final state where it does not follow from how its generations ended.
    """
    row = reason(code)
    ended = _update_returning_told(
        session,
        sa.update(Generation)
        .where(Generation.job_id == job.id, one_of(Generation.id, generation_ids), _OPEN)
        .values(status="failed", finished_at=now, failure_reason=row.code, failure_message=message or row.message),
    )
    ids = [generation.id for generation in ended]
    _cancel_operations(session, ids, now=now)
    costs = _costs(session, ids)
    told: list[Event] = [failed(job, item, cost=costs.get(item.id, 0)) for item in in_turns(ended)]
    return told + _close(session, job, len(ended), now=now, ends_as=job_ends_as)


def not_begun(session: Session, job: Job, generation_ids: Collection[str], *, code: str, now: datetime) -> list[Event]:
    """Fail open generations for which credits said that they hold nothing: there is no line to give back."""
    session.execute(
        sa.update(Generation)
        .where(Generation.job_id == job.id, one_of(Generation.id, generation_ids), _OPEN)
        .values(amount=0),
        execution_options={"synchronize_session": False},
    )
    return fail(session, job, generation_ids, code=code, now=now)


def held_after_all(session: Session, job: Job, amounts: Mapping[str, int]) -> list[Event]:
    """Tell again how those of a job's generations ended that failed while nothing was known to be held for them.

    Args:
        session: of the system role; the job's row is locked.
        job: what the lines are held for.
        amounts: what is held, by line; 0 where it is not known how much.

    Returns:
        One `GenerationFailed` for each such line, with the line's id, by which it is given back.
    """
    held = amounts_by_id(amounts)
    late = _update_returning_told(
        session,
        sa.update(Generation)
        .where(
            Generation.job_id == job.id,
            Generation.id == held.c.id,
            Generation.status == "failed",
            sa.func.coalesce(Generation.amount, 0) == 0,
        )
        .values(amount=held.c.amount),
    )
    return [failed(job, item, line_id=item.id) for item in in_turns(late)]


def end_job(session: Session, job: Job, *, code: str, now: datetime) -> list[Event]:
    """Fail whatever is still open in a job; return nothing if it has ended already."""
    if job.status in JOB_ENDS:
        return []
    return fail(session, job, _open_ids(session, job), code=code, now=now)


def reject(session: Session, job: Job, *, now: datetime, code: str = "insufficient_credits") -> list[Event]:
    """End a job whose credits were never held, as far as is known; return nothing if it is past that."""
    if job.status != "awaiting_credit":
        return []
    return fail(session, job, _open_ids(session, job), code=code, now=now, job_ends_as="rejected")


def finished(session: Session, job: Job, *, held: Collection[str] = ()) -> JobFinished:
    """Return the event that tells how an ended job ended; telling it again is harmless.

    ``held`` are lines that credits know of; those of generations that were never begun are listed only then.
    """
    columns = (Generation.id, Generation.status, Generation.sku, Generation.amount, Generation.charged)
    how = (Generation.failure_reason, Generation.fallback_from)
    statement = sa.select(*columns, *how).where(Generation.job_id == job.id)
    generations = session.execute(statement.order_by(Generation.number)).all()
    return finish_of(job, status=job.status, generations=generations, held=held)


def finish_of(job: Job | Told, *, status: str, generations: Sequence[Told], held: Collection[str] = ()) -> JobFinished:
    """Return the same event from rows that are at hand; ``generations`` are all of the job, by number."""
    succeeded = sum(item.status == "succeeded" for item in generations)
    return JobFinished(
        meta=correlated(job.correlation_id),
        job_id=job.id,
        org_id=job.org_id,
        user_id=job.user_id,
        workflow=job.workflow,
        status=status,
        succeeded=succeeded,
        failed=len(generations) - succeeded,
        lines=[
            SettledLine(
                line_id=item.id,
                outcome="captured" if item.status == "succeeded" else "refunded",
                amount=(item.charged if item.status == "succeeded" else item.amount) or 0,
                reason=item.failure_reason,
            )
            for item in in_turns(generations)
            if line_of(item) or item.id in held
        ],
        session_id=job.session_id,
        session_name=job.session_name,
        livemode=job.livemode,
        fallbacks=sum(item.fallback_from is not None for item in generations),
        retry_of=job.retry_of,
    )


def note_end(session: Session, job: Job | Told, *, status: str) -> None:
    """Log a job's end, and count it once it is committed."""
    workflow = job.workflow
    once_committed(session, lambda: metrics.jobs.labels(workflow, status).inc())
    log.info("job_finished", job_id=job.id, org_id=job.org_id, status=status, correlation_id=job.correlation_id)


def _open_ids(session: Session, job: Job) -> list[str]:
    return list(session.scalars(sa.select(Generation.id).where(Generation.job_id == job.id, _OPEN)))


def _update_returning_told(session: Session, change: sa.Update) -> list[Told]:
    """Change generations, however many, with one statement; return of each what an event tells of it, by number."""
    changed: sa.Result[*tuple[Any, ...]] = session.execute(
        change.returning(*TOLD), execution_options={"synchronize_session": False}
    )
    return sorted(changed, key=lambda item: item.number)


def _close(session: Session, job: Job, count: int, *, now: datetime, ends_as: str | None = None) -> list[Event]:
    """Count ``count`` generations as ended; with the last one the job ends too, as they did or as ``ends_as`` says.

    With the last one that is paid for, it pauses.
    """
    job.open_generations -= count
    job.progressed_at = now
    if job.open_generations:
        return pauses.pause_if_nothing_runs(session, job, now=now)
    job.finished_at, job.reserve_after, job.waiting_reason = now, None, None
    session.flush()
    reasons = session.scalars(sa.select(Generation.failure_reason).where(Generation.job_id == job.id)).all()
    job.status = ends_as or roll_up(reasons, cancelling=job.status == "cancelling")
    job.paused_at = None
    note_end(session, job, status=job.status)
    return [finished(session, job), *staging_progress.job_ended(session, job)]


def _cancel_operations(session: Session, generation_ids: Sequence[str], *, now: datetime) -> None:
    """Take operations out of the queue; one that is at work keeps its fence, so that its cost can be logged.

    One that a provider has taken is to be cancelled there, now; one that is looked for goes on being so.
    """
    taken = sa.and_(Operation.status.in_(("running", "unknown")), Operation.external_id.is_not(None))
    ask_at = sa.case((taken, now), (Operation.status == "unknown", Operation.poll_at), else_=None)
    unfinished = sa.and_(
        one_of(Operation.generation_id, generation_ids),
        Operation.status.in_(("queued", "running", "storing", "unknown")),
    )
    # In the one order of ids: workers write what became of several at once, and lock them so.
    ids = session.scalars(sa.select(Operation.id).where(unfinished).order_by(Operation.id).with_for_update()).all()
    session.execute(
        sa.update(Operation)
        .where(one_of(Operation.id, ids))
        .values(status="cancelled", completed_at=now, poll_at=ask_at),
        execution_options={"synchronize_session": False},
    )


def _costs(session: Session, generation_ids: Sequence[str]) -> dict[str, int]:
    """Return what providers charged us for generations, in microusd."""
    statement = (
        sa.select(Operation.generation_id, sa.func.sum(Operation.cost_microusd))
        .where(one_of(Operation.generation_id, generation_ids), Operation.cost_microusd.is_not(None))
        .group_by(Operation.generation_id)
    )
    return {generation_id: int(cost or 0) for generation_id, cost in session.execute(statement)}


def _operations_of(session: Session, generation: Generation) -> list[Operation]:
    statement = sa.select(Operation).where(Operation.generation_id == generation.id).order_by(Operation.position)
    return list(session.scalars(statement))


def _renewed_view(job: Job, generation: Generation, image: Image) -> RenewedView | None:
    names = ("key", "thumbnail_key", "content_type")
    return renewed_view(job, generation, image_id=image.id, **{name: getattr(image, name) for name in names})


def _milliseconds(start: datetime, end: datetime) -> int:
    return int((end - start).total_seconds() * 1000)
