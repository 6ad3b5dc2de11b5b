"""What becomes of an operation's outcome besides its own: its provider's circuit, and how long such a thing takes.

Nothing here is worth losing a result for: what cannot be written down is logged, and the next outcome says it again.
"""

import contextlib
from collections.abc import Iterator, Sequence

import structlog

from services.generation import circuits
from services.generation.claims import Claimed
from services.generation.operations import Outcome
from services.generation.pace import Measurements
from shared.database import Database
from shared.gathering import Gathering

log = structlog.get_logger(__name__)


class Observer:
    """Of one worker: tells the whole system what its operations came to, those of one model together."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._measurements = Measurements()
        self._noting: Gathering[tuple[str, str], tuple[str, Outcome], None] = Gathering(self._note_together)

    def note(self, item: Claimed, outcome: Outcome) -> None:
        """Let an outcome count for the circuit of its model, once."""
        with _unless_it_breaks(item):
            self._noting((item.provider, item.model_requested), (item.id, outcome))

    def measure(self, item: Claimed, *, seconds: float) -> None:
        """Let a success count for how long such a thing takes: ``seconds`` from sent to answered, polls included."""
        self._measurements.add(provider=item.provider, name=item.name, seconds=seconds)
        if self._measurements.due():
            with _unless_it_breaks(item), self._db.transaction() as session:
                self._measurements.write(session)

    def _note_together(self, model: tuple[str, str], outcomes: Sequence[tuple[str, Outcome]]) -> list[None]:
        with self._db.transaction() as session:
            self._db.publish(session, circuits.note(session, provider=model[0], model=model[1], outcomes=outcomes))
        return [None] * len(outcomes)


@contextlib.contextmanager
def _unless_it_breaks(item: Claimed) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  see above
        log.warning("outcome_not_noted", operation_id=item.id, error_type=type(error).__name__)
