"""What keeps every job from hanging: lost workers, passed deadlines, lost answers of credits, pauses without end.

Each sweep claims its rows in the database, so that any number of replicas may run it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import calls, cancelling, claims, endings, holding, known_analyses, pauses, recording
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.holding import GIVE_UP_RESERVING, RESERVE_AGAIN, Credits
from services.generation.jobs import JOB_ENDS, PAUSE_ENDS_AFTER, STALLED_AFTER
from services.generation.models import Attempt, Job, Operation, StagingSession
from services.generation.operations import AfterLostAnswer, GiveUp, LookUp, Lost, Repeat, decide
from shared.database import Database, is_unavailable
from shared.events import Event, JobStalled, correlated
from shared.problems import Problem

log = structlog.get_logger(__name__)

MOST = 50
# One sweep goes on for so many batches, while there is more: whatever ends a thousand jobs at once, they end in time.
_MOST_BATCHES = 20
# An operation whose every worker dies before it is sent is not claimed for ever.
_MOST_CLAIMS = 10
_MOST_FORGOTTEN = 1000

# Read once: compared with a volatile function, no time would be looked up in an index.
_NOW = sa.select(sa.func.clock_timestamp()).scalar_subquery()

_CLAIM_TO_ASK_FOR = (
    sa.update(Job)
    .where(
        Job.id.in_(
            sa.select(Job.id)
            .where(Job.reserve_after <= _NOW, Job.finished_at.is_(None))
            .order_by(Job.reserve_after)
            .limit(MOST)
            .with_for_update(skip_locked=True)
        )
    )
    .values(reserve_after=sa.func.clock_timestamp() + RESERVE_AGAIN)
    .returning(Job.id, Job.status, Job.created_at)
)


def reserve_again(db: Database, credits_service: Credits) -> int:
    """Ask credits again where it is time to; return for how many jobs.

    That is where an answer was lost 10 s ago (a job that nothing was ever held for is rejected when it is 60 s old),
    and where generations wait for credits.
    """
    with db.transaction() as session:
        now = endings.database_now(session)
        due = list(session.execute(_CLAIM_TO_ASK_FOR))
    for job_id, status, created_at in due:
        with _one_of_many(job_id):
            if status == "awaiting_credit" and now - created_at >= GIVE_UP_RESERVING:
                # Whatever was held after all comes back with the job's end.
                _under_lock(db, job_id, partial(endings.reject, code="internal_error"))
            else:
                _hold_again(db, credits_service, job_id)
    return len(due)


def end_overdue_jobs(db: Database) -> int:
    """Fail what is open in jobs past their deadline; return how many there were. The clock stands while paused."""
    ended, last = 0, (datetime.min.replace(tzinfo=UTC), "")
    for _ in range(_MOST_BATCHES):
        overdue = _overdue(db, after=last)
        for job_id, _ in overdue:
            with _one_of_many(job_id):
                _under_lock(db, job_id, _end_if_overdue)
        ended += len(overdue)
        if len(overdue) < MOST:
            break
        last = (overdue[-1].deadline_at, overdue[-1].id)
    return ended


def end_long_pauses(db: Database) -> int:
    """Fail what has waited for credits for 30 days, or until what it works on is deleted; return how many jobs."""
    with db.transaction() as session:
        too_late = sa.or_(Job.paused_at < _NOW - PAUSE_ENDS_AFTER, Job.sources_until < _NOW)
        statement = sa.select(Job.id).where(Job.status == "paused", too_late).order_by(Job.id).limit(MOST)
        long = list(session.scalars(statement))
    for job_id in long:
        with _one_of_many(job_id):
            _under_lock(db, job_id, _end_if_long_paused)
    return len(long)


def cancel_work_of_deleted_sessions(db: Database) -> int:
    """Cancel what staging sessions left at work that were deleted: whoever deleted one died; return how many jobs."""
    statement = (
        sa.select(Job.id, Job.org_id, Job.livemode)
        .join(StagingSession, StagingSession.id == Job.session_id)
        .where(Job.finished_at.is_(None), Job.status != "cancelling", StagingSession.deleted_at.is_not(None))
        .order_by(Job.id)
        .limit(MOST)
    )
    with db.transaction() as session:
        left = session.execute(statement).all()
    for job in left:
        with _one_of_many(job.id):
            cancelling.cancel(db, org_id=job.org_id, livemode=job.livemode, job_id=job.id)
    return len(left)


def tell_of_stalled_jobs(db: Database) -> int:
    """Tell of open jobs nothing of which has moved for five minutes, each once; return how many there were."""
    with db.transaction() as session:
        moved_long_ago = Job.progressed_at < _NOW - STALLED_AFTER
        untold = sa.or_(Job.stalled_at.is_(None), Job.stalled_at < Job.progressed_at)
        statement = (
            sa.select(Job)
            .where(Job.finished_at.is_(None), Job.status.not_in(("paused", *JOB_ENDS)), moved_long_ago, untold)
            .order_by(Job.id)
            .limit(MOST)
            .with_for_update(skip_locked=True)
        )
        stalled = list(session.scalars(statement))
        now = endings.database_now(session)
        for job in stalled:
            job.stalled_at = now
            log.warning("job_stalled", job_id=job.id, org_id=job.org_id, since=job.progressed_at.isoformat())
        db.publish(session, [_stalled(job) for job in stalled])
    return len(stalled)


def forget_old_attempts(db: Database, *, kept: timedelta) -> int:
    """Delete what the AI operation log has of attempts that ended long ago; return how many.

    What nobody will ever hear of is ended there before.
    """
    with db.transaction() as session:
        calls.close_left_attempts(session)
    forgotten = 0
    for _ in range(_MOST_BATCHES):
        gone = _forget_some(db, kept=kept)
        forgotten += gone
        if gone < _MOST_FORGOTTEN:
            break
    return forgotten


def _forget_some(db: Database, *, kept: timedelta) -> int:
    oldest = (
        sa.select(Attempt.operation_id, Attempt.attempt)
        .where(Attempt.sent_at < _NOW - kept, Attempt.ended_at.is_not(None))
        .order_by(Attempt.sent_at)
        .limit(_MOST_FORGOTTEN)
        .with_for_update(skip_locked=True)
    )
    with db.transaction() as session:
        gone: Any = session.execute(
            sa.delete(Attempt).where(sa.tuple_(Attempt.operation_id, Attempt.attempt).in_(oldest)),
            execution_options={"synchronize_session": False},
        )
        return int(gone.rowcount)


def _overdue(db: Database, *, after: tuple[datetime, str]) -> Sequence[sa.Row[str, datetime]]:
    """Return the next jobs past their deadline: one that cannot be ended is passed over, not tried for ever."""
    statement = (
        sa.select(Job.id, Job.deadline_at)
        .where(
            Job.finished_at.is_(None),
            Job.deadline_at < _NOW,
            sa.tuple_(Job.deadline_at, Job.id) > sa.tuple_(*map(sa.literal, after)),
            Job.status.not_in(("paused", "awaiting_credit")),
        )
        .order_by(Job.deadline_at, Job.id)
        .limit(MOST)
    )
    with db.transaction() as session:
        return session.execute(statement).all()


def forget_old_analyses(db: Database, *, kept: timedelta) -> int:
    """Delete analyses that are known for longer than they are kept; return how many."""
    with db.transaction() as session:
        return known_analyses.forget(session, kept=kept)


class Suspects:
    """Operations whose lease has run out, and for how long that has been seen.

    When a database comes back after an outage every lease has run out; the heartbeats of workers that are alive come
    within seconds, and until then nothing is known about their operations.
    """

    def __init__(self, *, patience_seconds: float = claims.HEARTBEAT_SECONDS + 2) -> None:
        self._patience_seconds = patience_seconds
        self._seen: dict[tuple[str, int], float] = {}

    def confirmed(self, found: Sequence[Claimed], *, now: float) -> list[Claimed]:
        """Return those of ``found`` that were found for long enough; ``now`` is a monotonic time in seconds."""
        self._seen = {(item.id, item.fence): self._seen.get((item.id, item.fence), now) for item in found}
        return [item for item in found if now - self._seen[item.id, item.fence] >= self._patience_seconds]


def recover_lost_operations(db: Database, engine: Engine, suspects: Suspects) -> int:
    """Decide about operations whose worker is gone; return how many there were."""
    with db.transaction() as session:
        found = claims.expired(session)
    lost = suspects.confirmed(found, now=time.monotonic())
    for claimed in lost:
        with _one_of_many(claimed.job_id):
            _recover(db, engine, claimed)
    return len(lost)


def _recover(db: Database, engine: Engine, claimed: Claimed) -> None:
    """Decide about an operation whose worker is gone, by how far it had come.

    What the provider has taken is asked for again; what was not sent is queued again; of what was sent and not
    answered the provider's `after_lost_answer` decides. One that gives up waits for as long as an answer may still
    come: the worker may be alive, and only the way from it to the database be broken.
    """
    provider = engine.providers.get(claimed.provider)
    with db.transaction() as session:
        endings.lock_jobs(session, [claimed.job_id])
        if not claims.has_lapsed(session, claimed):
            return
        operation = session.get_one(Operation, claimed.id)
        if operation.external_id:
            events = recording.asked_for_again(session, claimed)
        elif operation.sent_at is None:
            again = Repeat(after_seconds=0, code="internal_error", detail="the worker was gone before it was sent")
            over = GiveUp(code="internal_error", detail="no worker lived to send it")
            if claimed.attempt < _MOST_CLAIMS:
                events = recording.repeat(session, claimed, decision=again)
            else:
                events = recording.failure(session, claimed, decision=over)
        else:
            tries = calls.tries(session, claimed)
            policy = provider.after_lost_answer if provider else "give_up"
            limit = provider.time_limit_seconds if provider else 0.0
            events = _after_lost_worker(session, claimed, tries=tries, policy=policy, limit_seconds=limit)
        db.publish(session, events)


def _after_lost_worker(
    session: Session, claimed: Claimed, *, tries: int, policy: AfterLostAnswer, limit_seconds: float
) -> list[Event]:
    lost = Lost(detail="the worker's lease ran out")
    decision = decide(lost, attempt=tries, after_lost_answer=policy, makes_image=claimed.makes_image)
    if isinstance(decision, Repeat):
        return recording.repeat(session, claimed, decision=decision)
    if isinstance(decision, GiveUp) and policy == "resend":
        return recording.failure(session, claimed, decision=decision)
    after = 0.0 if isinstance(decision, LookUp) else limit_seconds
    return recording.unknown(session, claimed, detail=lost.detail, after_seconds=after)


def _stalled(job: Job) -> JobStalled:
    return JobStalled(
        meta=correlated(job.correlation_id),
        job_id=job.id,
        org_id=job.org_id,
        user_id=job.user_id,
        workflow=job.workflow,
        since=job.progressed_at.isoformat(),
        deadline_at=job.deadline_at.isoformat(),
        session_id=job.session_id,
        livemode=job.livemode,
    )


def _end_if_overdue(session: Session, job: Job, *, now: datetime) -> list[Event]:
    """End a job that is still overdue now that its row is locked; what waits for credits in it goes on waiting.

    The deadline is that of the work which was begun: the rest was never given the time.
    """
    if job.status in {"paused", *JOB_ENDS} or job.deadline_at >= now:
        return []
    if job.waiting_reason is None:
        return endings.end_job(session, job, code="deadline_exceeded", now=now)
    return endings.fail(session, job, pauses.running_ids(session, job), code="deadline_exceeded", now=now)


def _end_if_long_paused(session: Session, job: Job, *, now: datetime) -> list[Event]:
    if job.status != "paused" or job.paused_at is None:
        return []
    too_long = job.paused_at < now - PAUSE_ENDS_AFTER
    if not too_long and (job.sources_until is None or job.sources_until >= now):
        return []
    return endings.end_job(session, job, code=job.waiting_reason or "cancelled", now=now)


@contextlib.contextmanager
def _one_of_many(job_id: str) -> Iterator[None]:
    """Let one job that cannot be dealt with stand alone: the others of the sweep have their turn."""
    try:
        yield
    except Exception as error:
        if is_unavailable(error):
            raise
        log.exception("sweep_stumbled", job_id=job_id)


def _under_lock(db: Database, job_id: str, end: Callable[..., Any]) -> None:
    with db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        now: datetime = endings.database_now(session)
        db.publish(session, end(session, job, now=now))


def _hold_again(db: Database, credits_service: Credits, job_id: str) -> None:
    with db.transaction() as session:
        asked = holding.question(session, session.get_one(Job, job_id))
    if asked:
        try:
            holding.hold(db, credits_service, asked)
        except Problem as problem:
            log.info("reservation_not_held", job_id=job_id, code=problem.code)
