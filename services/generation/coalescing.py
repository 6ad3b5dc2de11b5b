"""Operations that wait for an analysis: one takes what is known, one of each key is sent, the others go on waiting.

Everything is decided again from the rows, so it does not matter who does it, when, or how often: the request that asked
for a job, or any worker. An operation that waits holds no place, and ends with its job.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from prometheus_client import Counter
from sqlalchemy.orm import Session

from services.generation import endings, known_analyses, metrics, recording
from services.generation.engine import Engine
from services.generation.holding import OPERATIONS_CHANNEL
from services.generation.jobs import JOB_ENDS
from services.generation.known_analyses import ANALYSES_CHANNEL, Found, Maker
from services.generation.models import Operation
from shared.crash import crash_point
from shared.database import Database, is_unavailable, once_committed, wait_for_notify
from shared.events import Event

log = structlog.get_logger(__name__)

AT_ONCE = 50
POLL_SECONDS = 1.0
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Take:
    """The answer is there."""

    found: Found


@dataclass(frozen=True)
class Wait:
    """Somebody is at it."""


@dataclass(frozen=True)
class Send:
    """Nobody is: this one finds it out."""


def decide(*, operation_id: str, waits_since: datetime, known: Found | None, maker: Maker | None) -> Take | Wait | Send:
    """Return what is to become of an operation that waits.

    Args:
        operation_id: whose.
        waits_since: what was found out since then it takes even where it is not kept, as a fallback's answer is not.
        known: what is kept under its key and not too old.
        maker: who finds it out; None where nobody ever was to.
    """
    if known is not None:
        return Take(found=known)
    if maker is None or maker.operation_id == operation_id:
        return Send()
    if maker.known is not None:
        return Take(found=maker.known)
    if maker.found is not None and maker.found.made_at >= waits_since:
        return Take(found=maker.found)
    return Wait() if maker.is_open else Send()


class Follower:
    """Goes on with what waits, as soon as it may; woken when an analysis was recorded, and once a second."""

    def __init__(self, db: Database, engine: Engine) -> None:
        self._db = db
        self._engine = engine

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until ``stopping()``; a database that is away is waited for."""
        while not stopping():
            with _patience(), contextlib.closing(self._db.connect()) as listener:
                listener.autocommit = True
                with listener.cursor() as cursor:
                    cursor.execute(f"LISTEN {ANALYSES_CHANNEL}")
                while not stopping():
                    if not settle_ready(self._db, self._engine):
                        wait_for_notify(listener, seconds=POLL_SECONDS)


def settle_ready(db: Database, engine: Engine) -> int:
    """Go on with operations that need wait no longer; return how many did."""
    with db.transaction() as session:
        waiting = known_analyses.ready(session, most=AT_ONCE)
    return _settle_each(db, engine, waiting)


def settle_jobs(db: Database, engine: Engine, job_ids: Collection[str]) -> None:
    """Look up at once what jobs ask for that were just taken in: what is known is their answer.

    What is more than a moment's work is left to the workers, as is whatever goes wrong: the jobs are taken in.
    """
    try:
        with db.transaction() as session:
            waiting = known_analyses.waiting_of(session, job_ids, most=AT_ONCE)
        if len(waiting) > _settle_each(db, engine, waiting):
            with db.transaction() as session:
                known_analyses.hurry(session, job_ids)
    except Exception as error:  # noqa: BLE001  a job that was taken in is not refused any more
        log.warning("analyses_looked_up_later", error_type=type(error).__name__)


def _settle_each(db: Database, engine: Engine, waiting: Sequence[sa.Row[str, str]]) -> int:
    """Settle together; where that fails one by one, so that one that cannot be settled holds up no other."""
    if not waiting:
        return 0
    try:
        return _settle(db, engine, waiting)
    except Exception as error:
        if is_unavailable(error) or len(waiting) == 1:
            raise
        log.exception("analyses_stumbled", operations=len(waiting))
    done = 0
    for one in waiting:
        try:
            done += _settle(db, engine, [one])
        except Exception as error:
            if is_unavailable(error):
                raise
            log.exception("analysis_stumbled", operation_id=one.id, job_id=one.job_id)
    return done


def _settle(db: Database, engine: Engine, waiting: Sequence[sa.Row[str, str]]) -> int:
    with db.transaction() as session:
        jobs = endings.lock_jobs(session, [one.job_id for one in waiting])
        open_jobs = {job_id: job for job_id, job in jobs.items() if job.status not in {"cancelling", *JOB_ENDS}}
        locked = known_analyses.locked_waiting(session, [one.id for one in waiting if one.job_id in open_jobs])
        sent: list[Operation] = []
        events: list[Event] = []
        taken = 0
        for operation, decision in _decided(session, engine, locked):
            if isinstance(decision, Take):
                now = endings.database_now(session)
                events += recording.taken(
                    session, engine, open_jobs[operation.job_id], operation, found=decision.found, now=now
                )
                _count(session, metrics.cache_hits, operation)
                maker_id = decision.found.operation_id
                log.info("cache_hit", operation_id=operation.id, job_id=operation.job_id, taken_from=maker_id)
                taken += 1
            elif isinstance(decision, Send):
                sent.append(operation)
        _send(session, sent)
        db.publish(session, events)
        if sent:
            db.notify(session, OPERATIONS_CHANNEL)
        crash_point("analyses.before_commit")
    return taken + len(sent)


def _decided(
    session: Session, engine: Engine, locked: Sequence[Operation]
) -> Iterator[tuple[Operation, Take | Wait | Send]]:
    """Yield operations, first who waits longest, with what becomes of them; of each key one at most is sent."""
    keys = {_key(operation) for operation in locked}
    if not keys:
        return
    known = known_analyses.known_by(session, keys, kept=engine.analyses_kept)
    unknown = [operation for operation in locked if _key(operation) not in known]
    first = known_analyses.expect(session, unknown) if unknown else set()
    left = {_key(operation) for operation in unknown}
    makers = known_analyses.locked_makers(session, left, kept=engine.analyses_kept) if left else {}
    for operation in locked:
        key = _key(operation)
        assert operation.waits_since is not None  # noqa: S101  it was among those that wait
        decision: Take | Wait | Send = decide(
            operation_id=operation.id,
            waits_since=operation.waits_since,
            known=known.get(key),
            maker=makers.get(key),
        )
        if isinstance(decision, Send):
            if operation.id not in first:
                known_analyses.hand_over(session, operation)
            makers[key] = Maker(operation_id=operation.id, is_open=True)
        yield operation, decision


def _send(session: Session, operations: Sequence[Operation]) -> None:
    """Queue operations: from now on they are due."""
    due: Any = sa.func.clock_timestamp()
    for operation in operations:
        operation.due_at, operation.waits_since = due, None
        _count(session, metrics.cache_misses, operation)
    session.flush()


def _count(session: Session, counter: Counter, operation: Operation) -> None:
    name = operation.name
    once_committed(session, lambda: counter.labels(name).inc())


def _key(operation: Operation) -> known_analyses.Key:
    return operation.org_id, operation.livemode, operation.analysis_key or ""


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Let nothing end the following: say what went wrong, wait a moment, go on."""
    try:
        yield
    except Exception as error:
        if is_unavailable(error):
            log.warning("follower_waits", error_type=type(error).__name__)
        else:
            log.exception("follower_stumbled")
        time.sleep(_RETRY_SECONDS)
