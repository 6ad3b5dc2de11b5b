"""A provider's call as rows: sent, taken, and in the log what each attempt came to. Nothing here talks to a provider.

Each write proves its claim by the fence. What is written before the request goes out (`send`) is what everybody else
goes by if nobody ever hears of it again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.claims import LEASE_SECONDS, Claimed
from services.generation.models import Attempt, Operation
from services.generation.operations import Spent
from shared.prepared import Prepared

ENDS = ("failed", "cancelled")
# How attempts end whose request may still have arrived, whatever was found out about it.
_NOBODY_KNEW = ("outcome_unknown", "connect_failed")
# An attempt `a` that nobody has written down yet what it came to; or that nobody knew of, which is known now.
OPEN_ATTEMPT = """
    a.status IN ('sent', 'submitted', 'unknown')
    OR (a.status IN ('failed', 'late') AND a.error_code IN ('outcome_unknown', 'connect_failed')
        AND coalesce(a.cost_microusd, 0) = 0)
"""

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
    is_over = Operation.status.in_(ENDS)
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
    note_taken(session, claimed, external_id=external_id)
    return found


def note_taken(session: Session, of: Claimed | Operation, *, external_id: str) -> None:
    """Write into the log under which id the provider has an attempt."""
    values = {"external_id": external_id, "submitted_at": sa.func.clock_timestamp(), "status": "submitted"}
    update_attempt(session, of, values, only=("sent", "unknown"))


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
    return update_attempt(
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


def update_attempt(
    session: Session, of: Claimed | Operation, values: Mapping[str, Any], *, only: tuple[str, ...] | None = None
) -> bool:
    """Change the row of an attempt in the log; return whether there was one to change.

    ``only`` where it has one of these statuses, or where nobody knew what became of it: that is known now.
    """
    statement = sa.update(Attempt).where(Attempt.operation_id == of.id, Attempt.attempt == of.attempt)
    if only:
        given_up = sa.and_(
            Attempt.status.in_(("failed", "late")),
            Attempt.error_code.in_(_NOBODY_KNEW),
            sa.func.coalesce(Attempt.cost_microusd, 0) == 0,
        )
        statement = statement.where(sa.or_(Attempt.status.in_(only), given_up))
    changed: Any = session.execute(statement.values(**values), execution_options={"synchronize_session": False})
    return bool(changed.rowcount)


def tries(session: Session, claimed: Claimed) -> int:
    """Return how often an operation was sent to the provider it is at."""
    sendings = sa.select(sa.func.count()).where(
        Attempt.operation_id == claimed.id, Attempt.provider == claimed.provider
    )
    return max(1, session.scalar(sendings) or 0)


def note_unknown(session: Session, claimed: Claimed) -> None:
    """Write into the log that nobody knows what became of an attempt."""
    update_attempt(session, claimed, {"status": "unknown"}, only=("sent",))


def close_left_attempts(session: Session) -> int:
    """End in the log what nobody will ever hear of: attempts of operations that ended, and are not asked for."""
    over = sa.exists().where(
        Operation.id == Attempt.operation_id,
        Operation.status.in_((*ENDS, "succeeded")),
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
