"""Asking for what providers have: which operations are due for it, when the next time is, and what is found of them.

Each write proves its claim by the fence. It talks to no provider.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import calls
from services.generation.calls import ENDS
from services.generation.claims import Claimed
from services.generation.models import Attempt, Operation
from services.generation.operations import Running
from shared.prepared import Prepared

# Who asks a provider has this long for it, the download of a result included; then somebody else asks.
POLL_LEASE_SECONDS = 90.0


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
        return self.status in ENDS


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
    calls.update_attempt(
        session, asked.item, {"external_id": external_id, "submitted_at": asked.sent_at, "status": "submitted"}
    )


def is_of_earlier_attempt(session: Session, of: Claimed | Operation, *, external_id: str) -> bool:
    """Tell whether what a provider has is what an attempt before this one led to: that has ended, and been told."""
    statement = sa.select(Attempt.operation_id).where(
        Attempt.operation_id == of.id, Attempt.attempt < of.attempt, Attempt.external_id == external_id
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


def _update_due(session: Session, asked: Due, values: Mapping[str, Any]) -> None:
    """Change an operation that is still as it was when it was claimed: what has ended meanwhile is to be cancelled."""
    session.execute(
        sa.update(Operation)
        .where(Operation.id == asked.item.id, Operation.fence == asked.item.fence, Operation.status == asked.status)
        .values(**values)
    )


def _from_now(seconds: float) -> sa.ColumnElement[datetime]:
    return sa.func.clock_timestamp() + sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.literal(seconds, sa.Float))
