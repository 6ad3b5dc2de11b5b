"""What webhooks of providers lead to: asking now, and knowing again what was sent and never answered.

Nothing is believed but what the provider calls the work, and that only where we do not know it: what became of it the
provider is asked, with our own key.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import asking, calls, claims
from services.generation.calls import ENDS
from services.generation.engine import Engine
from services.generation.models import Operation
from services.generation.operations import Submitted
from services.generation.providers import Asynchronous
from shared.events import ProviderCallbackReceived

log = structlog.get_logger(__name__)

_CAN_BE_ASKED = Operation.external_id.is_not(None)
# Sent, and as far as the rows know its provider never said that it has it.
_UNANSWERED = sa.and_(
    Operation.external_id.is_(None),
    Operation.sent_at.is_not(None),
    Operation.status.in_(("running", "unknown", *ENDS)),
)
# Written down now and then: all that matters is whether their webhooks arrive these days.
_NOTE_CALLED_BACK = sa.text("""
UPDATE loads SET called_back_at = clock_timestamp()
WHERE provider IN (SELECT o.provider FROM operations o WHERE o.id = ANY (:ids))
  AND (called_back_at IS NULL OR called_back_at < clock_timestamp() - interval '10 seconds')
""")


def take(session: Session, engine: Engine, events: Sequence[ProviderCallbackReceived]) -> None:
    """Have operations asked for now of which their providers said by webhook that they are done.

    One whose answer was lost is known again by what the provider calls it. Ended ones are asked for only then, for
    what they cost. A provider whose webhooks arrive is asked less often without them.
    """
    ids = sorted({event.operation_id for event in events})
    claims.lock(session, ids)
    for event in events:
        if event.work_id:
            _know_again(session, engine, event, work_id=event.work_id)
    _ask_now(session, Operation.id.in_(ids))
    session.execute(_NOTE_CALLED_BACK, {"ids": ids})


def hint_job(session: Session, job_id: str) -> int:
    """Have everything of a job asked for now that a provider has, or may have."""
    return _ask_now(session, Operation.job_id == job_id)


def _know_again(session: Session, engine: Engine, event: ProviderCallbackReceived, *, work_id: str) -> None:
    """Adopt the work of an operation whose answer was lost, or is not here yet.

    From here on nobody holds it: a worker that is still waiting for the answer, or was about to give it up, comes too
    late to say what became of it.
    """
    operation = session.scalars(
        sa.select(Operation).where(
            Operation.id == event.operation_id, Operation.provider == event.provider, _UNANSWERED
        )
    ).one_or_none()
    taken = _taken_as(engine, operation, work_id) if operation else None
    if operation is None or taken is None:
        return
    if asking.is_of_earlier_attempt(session, operation, external_id=taken.external_id):
        return
    now = sa.func.clock_timestamp()
    operation.external_id, operation.submitted_at, operation.poll_at = taken.external_id, now, now
    operation.worker, operation.lease_until, operation.fence = None, None, operation.fence + 1
    is_over = operation.status in ENDS
    if not is_over:
        operation.status, operation.phase = "running", "running"
    session.flush()
    calls.note_taken(session, operation, external_id=taken.external_id)
    log.info("lost_operation_called_back", operation_id=operation.id, provider=event.provider, is_over=is_over)


def _taken_as(engine: Engine, operation: Operation, work_id: str) -> Submitted | None:
    provider = engine.providers.get(operation.provider)
    if not isinstance(provider, Asynchronous):
        return None
    return provider.known_as(work_id, model=operation.model_requested)


def _ask_now(session: Session, which: sa.ColumnElement[bool]) -> int:
    # Whoever asks has it for a while: hints in a row must not take it from everybody before they have the answer.
    changed: Any = session.execute(
        sa.update(Operation)
        .where(which, Operation.worker.is_(None), Operation.poll_at > sa.func.clock_timestamp(), _CAN_BE_ASKED)
        .values(poll_at=sa.func.clock_timestamp()),
        execution_options={"synchronize_session": False},
    )
    return int(changed.rowcount)
