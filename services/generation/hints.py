"""What webhooks of providers lead to: asking now.

A hint is never believed: the provider is asked, with our own key.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.models import Operation

_CAN_BE_ASKED = Operation.external_id.is_not(None)
# Written down now and then: all that matters is whether their webhooks arrive these days.
_NOTE_CALLED_BACK = sa.text("""
UPDATE loads SET called_back_at = clock_timestamp()
WHERE provider IN (SELECT o.provider FROM operations o WHERE o.id = ANY (:ids))
  AND (called_back_at IS NULL OR called_back_at < clock_timestamp() - interval '10 seconds')
""")


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
