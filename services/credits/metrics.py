"""What credits counts, by the names of the contract; only what was committed is counted. Decides nothing."""

from collections.abc import Callable

import sqlalchemy as sa
from prometheus_client import Counter, Gauge
from sqlalchemy.orm import Session

reserved = Counter("darkroom_credits_reserved", "Credits held for jobs")
captured = Counter("darkroom_credits_captured", "Held credits that were spent")
refunded = Counter("darkroom_credits_refunded", "Held credits that were given back", ["reason"])
late_settlements = Counter("darkroom_late_settlements", "Outcomes of lines that had ended differently before")
reservations_open = Gauge("darkroom_reservations_open", "Jobs with credits held")
invariant_violations = Gauge("darkroom_ledger_invariant_violations", "Violations the last audit found")

_COUNTS = "darkroom_counts"


def once_committed(session: Session, count: Callable[[], None]) -> None:
    """Call ``count`` when the session's transaction has committed, and not at all when it does not."""
    session.info.setdefault(_COUNTS, []).append(count)


@sa.event.listens_for(Session, "after_commit")
def _count(session: Session) -> None:
    for count in session.info.pop(_COUNTS, ()):
        count()
