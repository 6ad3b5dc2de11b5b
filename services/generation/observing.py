"""What becomes of an operation's outcome besides its own: its provider's circuit, and how long such a thing takes.

Nothing here is worth losing a result for: what cannot be written down is logged, and the next outcome says it again.
"""

import structlog

from services.generation import circuits
from services.generation.claims import Claimed
from services.generation.operations import Answered, Outcome
from services.generation.pace import Measurements
from shared.database import Database

log = structlog.get_logger(__name__)


class Observer:
    """Of one worker: tells the whole system what its operations came to."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._measurements = Measurements()

    def note(self, item: Claimed, outcome: Outcome, *, seconds: float) -> None:
        """Let an outcome count, once: ``seconds`` from sent to answered, polls included."""
        if isinstance(outcome, Answered):
            self._measurements.add(provider=item.provider, name=item.name, seconds=seconds)
        try:
            with self._db.transaction() as session:
                events = circuits.note(
                    session,
                    provider=item.provider,
                    model=item.model_requested,
                    operation_id=item.id,
                    outcome=outcome,
                )
                self._db.publish(session, events)
            if self._measurements.due():
                with self._db.transaction() as session:
                    self._measurements.write(session)
        except Exception as error:  # noqa: BLE001  see above
            log.warning("outcome_not_noted", operation_id=item.id, error_type=type(error).__name__)
