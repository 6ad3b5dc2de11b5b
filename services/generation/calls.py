"""A provider's call as rows: sent, taken, asked for again, looked for. Nothing here talks to a provider.

Each write proves its claim by the fence. What is written before the request goes out (`send`) is what everybody else
goes by if nobody ever hears of it again.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.claims import LEASE_SECONDS, Claimed
from services.generation.models import Attempt, Operation
from services.generation.operations import Running, Spent
from shared.prepared import Prepared

# Who asks a provider has this long for it, the download of a result included; then somebody else asks.
POLL_LEASE_SECONDS = 90.0
_ENDS = ("failed", "cancelled")
# How attempts end whose request may still have arrived, whatever was found out about it.
_NOBODY_KNEW = ("outcome_unknown", "connect_failed")
# An attempt `a` that nobody has written down yet what it came to; or that nobody knew of, which is known now.
OPEN_ATTEMPT = """
    a.status IN ('sent', 'submitted', 'unknown')
    OR (a.status IN ('failed', 'late') AND a.error_code IN ('outcome_unknown', 'connect_failed')
        AND coalesce(a.cost_microusd, 0) = 0)
"""
_CAN_BE_ASKED = Operation.external_id.is_not(None)


@dataclass(frozen=True, kw_only=True)
class Due:
    """An operation whose provider is to be asked, and since when it is there, in seconds of the database's time.

    ``status`` is the operation's when it was claimed. ``tries``: how often it was sent to this provider, which
    ``calls_back`` these days.
    """

    item: Claimed
    status: str
    external_id: str | None
    sent_at: datetime
    age_seconds: float
    tries: int
    phase: str | None
    cancel_sent: bool
    calls_back: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its result any more: it is asked for what it costs."""
        return self.status in _ENDS


# One statement: there is no moment in which one may have been sent and no row of the log says so. Rows are locked in
# the one order of ids, as everywhere where several are.
_SEND = Prepared(
    "note_sent",
    """
WITH held AS MATERIALIZED (
    SELECT o.id, asked.digest
    FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[]), CAST(:digests AS text[])) AS asked (id, fence, digest)
    JOIN operations o ON o.id = asked.id AND o.fence = asked.fence
    WHERE o.status = 'running' AND o.external_id IS NULL AND o.sent_at IS NULL
    ORDER BY o.id FOR UPDATE OF o
), sent AS (
    UPDATE operations o SET sent_at = clock_timestamp(), phase = 'sent',
        lease_until = clock_timestamp() + make_interval(secs => :lease)
    FROM held WHERE o.id = held.id
    RETURNING o.*, held.digest
)
INSERT INTO attempts (operation_id, attempt, org_id, job_id, generation_id, livemode, provider, model_requested, seed,
                      worker, status, sent_at, request_digest)
SELECT id, attempt, org_id, job_id, generation_id, livemode, provider, model_requested, seed,
       worker, 'sent', sent_at, digest FROM sent
RETURNING operation_id, (SELECT fence FROM sent WHERE sent.id = operation_id) AS fence,
          (SELECT count(*) + 1 FROM attempts a
           WHERE a.operation_id = attempts.operation_id AND a.provider = attempts.provider) AS tries
""",
)

_DUE = Prepared(
    "claim_to_ask_for",
    """
UPDATE operations o
SET poll_at = clock_timestamp() + make_interval(secs => :lease), fence = o.fence + 1, polls = o.polls + 1,
    worker = :worker
FROM (
    SELECT id FROM operations
    WHERE poll_at <= (SELECT clock_timestamp()) AND provider <> ALL (CAST(:left_alone AS text[]))
    ORDER BY poll_at LIMIT :most FOR UPDATE SKIP LOCKED
) AS due
WHERE o.id = due.id
RETURNING o.id, o.org_id, o.job_id, o.generation_id, o.name, o.provider, o.model_requested, o.prompt, o.seed,
          o.inputs, o.makes_image, o.attempt, o.fence, o.lane, o.status, o.external_id, o.sent_at, o.phase,
          o.cancel_sent_at IS NOT NULL AS cancel_sent,
          EXISTS (SELECT FROM loads l WHERE l.provider = o.provider
                  AND l.called_back_at > clock_timestamp() - interval '5 minutes') AS calls_back,
          CAST(extract(epoch FROM clock_timestamp() - o.sent_at) AS double precision) AS age_seconds,
          (SELECT count(*) FROM attempts a WHERE a.operation_id = o.id AND a.provider = o.provider) AS tries
""",
)
_ASK_LATER = sa.text("""
WITH asked AS MATERIALIZED (
    SELECT asked.* FROM jsonb_to_recordset(CAST(:asked AS jsonb))
        AS asked (id text, fence bigint, status text, seconds double precision, phase text, place integer)
    JOIN operations o ON o.id = asked.id AND o.fence = asked.fence AND o.status = asked.status
    ORDER BY o.id FOR UPDATE OF o
)
UPDATE operations o SET poll_at = clock_timestamp() + make_interval(secs => asked.seconds), worker = NULL,
    phase = asked.phase, queue_position = asked.place
FROM asked WHERE o.id = asked.id
""")
_NOT_OF_CLAIM = ("status", "external_id", "sent_at", "phase", "cancel_sent", "calls_back", "age_seconds", "tries")
# Written down now and then: all that matters is whether their webhooks arrive these days.
_NOTE_CALLED_BACK = sa.text("""
UPDATE loads SET called_back_at = clock_timestamp()
WHERE provider IN (SELECT o.provider FROM operations o WHERE o.id = ANY (:ids))
  AND (called_back_at IS NULL OR called_back_at < clock_timestamp() - interval '10 seconds')
""")


def send(session: Session, several: Sequence[tuple[Claimed, str]]) -> dict[tuple[str, int], int]:
    """Write down that operations are about to be sent; the requests may go out once this is committed.

    Args:
        session: of the system role.
        several: the claims they are sent under, whose leases begin anew, each with the SHA-256 of what is asked.

    Returns:
        By claim, which try it is at this provider, from 1. One that is lost is missing: it must not be sent.
    """
    values = {
        "ids": [item.id for item, _ in several],
        "fences": [item.fence for item, _ in several],
        "digests": [digest for _, digest in several],
        "lease": LEASE_SECONDS,
    }
    return {(row.operation_id, row.fence): row.tries for row in _SEND.execute(session, values)}


def submitted(session: Session, claimed: Claimed, *, external_id: str, phase: str, poll_after_seconds: float) -> bool:
    """Store under which id the provider has taken an operation: from now on nobody holds it, anybody may ask for it.

    One that ended meanwhile is to be cancelled there at once, and one that is being looked for is found. Return False
    where it is somebody else's by now: the provider is at work for nobody. Storing it twice is harmless.
    """
    is_over = Operation.status.in_(_ENDS)
    ours = sa.and_(Operation.fence == claimed.fence, sa.or_(Operation.status == "running", is_over))
    wait = sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.case((is_over, 0.0), else_=poll_after_seconds))
    changed = session.execute(
        sa.update(Operation)
        .where(
            Operation.id == claimed.id,
            Operation.attempt == claimed.attempt,
            Operation.external_id.is_(None),
            sa.or_(ours, Operation.status == "unknown"),
        )
        .values(
            status=sa.case((Operation.status == "unknown", "running"), else_=Operation.status),
            external_id=external_id,
            submitted_at=sa.func.clock_timestamp(),
            phase=phase,
            poll_at=sa.func.clock_timestamp() + wait,
            lease_until=None,
            worker=None,
        )
        .returning(Operation.id)
    )
    found = changed.scalar_one_or_none() is not None or _is_stored(session, claimed, external_id=external_id)
    # The log knows of it in any case: it is what an operator needs to find it at the provider.
    _update_attempt(
        session,
        claimed,
        {"external_id": external_id, "submitted_at": sa.func.clock_timestamp(), "status": "submitted"},
        only=("sent", "unknown"),
    )
    return found


def due(
    session: Session,
    *,
    worker: str,
    most: int,
    left_alone: Collection[str] = (),
    lease_seconds: float = POLL_LEASE_SECONDS,
) -> list[Due]:
    """Claim operations whose provider is to be asked, at most ``most``, those that wait longest first.

    Args:
        session: of the system role.
        worker: this worker's name, for operators.
        most: how many this worker can ask for.
        left_alone: providers that are not to be asked just now.
        lease_seconds: how long nobody else asks.
    """
    values = {"worker": worker, "most": most, "lease": lease_seconds, "left_alone": list(left_alone)}
    rows = _DUE.execute(session, values).mappings()
    return [
        Due(
            item=Claimed(**{name: value for name, value in row.items() if name not in _NOT_OF_CLAIM}),
            **{name: row[name] for name in _NOT_OF_CLAIM},
        )
        for row in rows
    ]


def ask_later(session: Session, several: Sequence[tuple[Due, Running, float]]) -> None:
    """Have providers asked again after so many seconds each, and note how far they said they are.

    What is no longer as it was when it was claimed is left alone: what has ended meanwhile is to be cancelled there.
    """
    rows = [
        {
            "id": asked.item.id,
            "fence": asked.item.fence,
            "status": asked.status,
            "seconds": seconds,
            "phase": progress.phase,
            "place": progress.queue_position,
        }
        for asked, progress, seconds in several
    ]
    session.execute(_ASK_LATER, {"asked": json.dumps(rows)})


def leave_for(session: Session, asked: Due, *, seconds: float) -> None:
    """Leave an operation alone for a while, of which nothing new is known."""
    _update_due(session, asked, {"poll_at": _from_now(seconds), "worker": None, "queue_position": None})


def adopt(session: Session, asked: Due, *, external_id: str) -> None:
    """Note the id of an operation that was found at its provider; it is asked for at once."""
    values = {"external_id": external_id, "submitted_at": asked.sent_at, "poll_at": _from_now(0), "worker": None}
    _update_due(session, asked, values if asked.is_over else {**values, "status": "running"})
    _update_attempt(
        session, asked.item, {"external_id": external_id, "submitted_at": asked.sent_at, "status": "submitted"}
    )


def is_of_earlier_attempt(session: Session, claimed: Claimed, *, external_id: str) -> bool:
    """Tell whether what a provider has is what an attempt before this one led to: that has ended, and been told."""
    statement = sa.select(Attempt.operation_id).where(
        Attempt.operation_id == claimed.id, Attempt.attempt < claimed.attempt, Attempt.external_id == external_id
    )
    return session.scalars(statement.limit(1)).one_or_none() is not None


def look_for_cancelled(session: Session, claimed: Claimed, *, after_seconds: float) -> None:
    """Have an operation looked for that was cancelled while its request was on its way, and whose answer was lost."""
    session.execute(
        sa.update(Operation)
        .where(
            Operation.id == claimed.id,
            Operation.fence == claimed.fence,
            Operation.status == "cancelled",
            Operation.external_id.is_(None),
        )
        .values(poll_at=_from_now(after_seconds), worker=None),
        execution_options={"synchronize_session": False},
    )


def cancelled_there(session: Session, asked: Due) -> None:
    """Note that the provider was asked to stop."""
    _update_due(session, asked, {"cancel_sent_at": sa.func.clock_timestamp()})


def let_go(session: Session, asked: Due) -> None:
    """Ask no more for an operation that has ended."""
    _update_due(session, asked, {"poll_at": None})


def hint(session: Session, operation_ids: Sequence[str]) -> int:
    """Have operations asked for now of which their providers said by webhook that they are done.

    Unknown and ended ones are left alone, as is who is asking just now. A provider whose webhooks arrive is asked less
    often without them.
    """
    hinted = _ask_now(session, Operation.id.in_(operation_ids))
    session.execute(_NOTE_CALLED_BACK, {"ids": list(operation_ids)})
    return hinted


def hint_job(session: Session, job_id: str) -> int:
    """Have everything of a job asked for now that a provider has, or may have."""
    return _ask_now(session, Operation.job_id == job_id)


def _ask_now(session: Session, which: sa.ColumnElement[bool]) -> int:
    # Whoever asks has it for a while: hints in a row must not take it from everybody before they have the answer.
    changed: Any = session.execute(
        sa.update(Operation)
        .where(which, Operation.worker.is_(None), Operation.poll_at > sa.func.clock_timestamp(), _CAN_BE_ASKED)
        .values(poll_at=sa.func.clock_timestamp()),
        execution_options={"synchronize_session": False},
    )
    return int(changed.rowcount)


def end_attempt(
    session: Session,
    claimed: Claimed,
    *,
    status: str,
    spent: Spent,
    code: str | None = None,
    detail: str | None = None,
) -> bool:
    """Write into the log what an attempt came to, and what it used up; one that is written already stays.

    All but one of which nobody knew what became of it: that is known now. Return whether it was written now.
    """
    now = sa.func.clock_timestamp()
    return _update_attempt(
        session,
        claimed,
        {
            "status": status,
            "ended_at": now,
            "duration_ms": sa.cast(sa.extract("epoch", now - Attempt.sent_at) * 1000, sa.Integer),
            "error_code": code,
            "error_detail": detail,
            "model_used": spent.model,
            "cost_microusd": spent.cost_microusd,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "response_digest": spent.digest,
        },
        only=("sent", "submitted", "unknown"),
    )


def tries(session: Session, claimed: Claimed) -> int:
    """Return how often an operation was sent to the provider it is at."""
    sendings = sa.select(sa.func.count()).where(
        Attempt.operation_id == claimed.id, Attempt.provider == claimed.provider
    )
    return max(1, session.scalar(sendings) or 0)


def note_unknown(session: Session, claimed: Claimed) -> None:
    """Write into the log that nobody knows what became of an attempt."""
    _update_attempt(session, claimed, {"status": "unknown"}, only=("sent",))


def close_left_attempts(session: Session) -> int:
    """End in the log what nobody will ever hear of: attempts of operations that ended, and are not asked for."""
    over = sa.exists().where(
        Operation.id == Attempt.operation_id,
        Operation.status.in_((*_ENDS, "succeeded")),
        Operation.poll_at.is_(None),
    )
    changed: Any = session.execute(
        sa.update(Attempt)
        .where(
            Attempt.ended_at.is_(None),
            Attempt.sent_at < sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, 0, 1),
            over,
        )
        .values(status="late", ended_at=sa.func.clock_timestamp(), error_code="outcome_unknown"),
        execution_options={"synchronize_session": False},
    )
    return int(changed.rowcount)


def providers_tried(session: Session, operation_id: str) -> list[str]:
    """Return the names of the providers an operation was sent to, in order."""
    statement = sa.select(Attempt.provider).where(Attempt.operation_id == operation_id).order_by(Attempt.attempt)
    return list(dict.fromkeys(session.scalars(statement)))


def _is_stored(session: Session, claimed: Claimed, *, external_id: str) -> bool:
    """Tell whether an operation has this id already: the answer to the commit that stored it was lost."""
    statement = sa.select(Operation.id).where(Operation.id == claimed.id, Operation.external_id == external_id)
    return session.scalars(statement).one_or_none() is not None


def _update_due(session: Session, asked: Due, values: Mapping[str, Any]) -> None:
    """Change an operation that is still as it was when it was claimed: what has ended meanwhile is to be cancelled."""
    session.execute(
        sa.update(Operation)
        .where(Operation.id == asked.item.id, Operation.fence == asked.item.fence, Operation.status == asked.status)
        .values(**values)
    )


def _update_attempt(
    session: Session, claimed: Claimed, values: Mapping[str, Any], *, only: tuple[str, ...] | None = None
) -> bool:
    statement = sa.update(Attempt).where(Attempt.operation_id == claimed.id, Attempt.attempt == claimed.attempt)
    if only:
        given_up = sa.and_(
            Attempt.status.in_(("failed", "late")),
            Attempt.error_code.in_(_NOBODY_KNEW),
            sa.func.coalesce(Attempt.cost_microusd, 0) == 0,
        )
        statement = statement.where(sa.or_(Attempt.status.in_(only), given_up))
    changed: Any = session.execute(statement.values(**values), execution_options={"synchronize_session": False})
    return bool(changed.rowcount)


def _from_now(seconds: float) -> sa.ColumnElement[datetime]:
    return sa.func.clock_timestamp() + sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.literal(seconds, sa.Float))
