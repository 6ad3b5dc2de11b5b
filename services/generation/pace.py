"""How long operations take, measured, and what that means for one that waits: a mean in rows, and arithmetic."""

import math
import threading
import time
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.orm import Session

# Of so many measurements the newest weigh about as much together as all before them.
WEIGHT_OF_ONE = 0.1
FLUSH_SECONDS = 5.0

_MERGE = sa.text("""
INSERT INTO operation_times AS t (provider, name, mean_seconds, measured)
SELECT * FROM unnest(CAST(:providers AS text[]), CAST(:names AS text[]), CAST(:means AS float[]),
                     CAST(:counts AS bigint[])) AS new (provider, name, mean_seconds, measured)
ORDER BY provider, name
ON CONFLICT (provider, name) DO UPDATE SET
    mean_seconds = excluded.mean_seconds
        + (t.mean_seconds - excluded.mean_seconds) * power(1 - CAST(:weight AS float), excluded.measured),
    measured = t.measured + excluded.measured
""")


class Measurements:
    """What one worker has measured and not written down yet. Those of a worker that dies are lost, and not missed."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._due = time.monotonic() + FLUSH_SECONDS

    def add(self, *, provider: str, name: str, seconds: float) -> None:
        """Note how long one operation took."""
        with self._lock:
            count, total = self._sums.get((provider, name), (0, 0.0))
            self._sums[provider, name] = (count + 1, total + seconds)

    def due(self) -> bool:
        """Tell, once every 5 s, that there is something to write down."""
        with self._lock:
            if not self._sums or time.monotonic() < self._due:
                return False
            self._due = time.monotonic() + FLUSH_SECONDS
            return True

    def write(self, session: Session) -> None:
        """Merge what was measured into the rows that all workers share."""
        with self._lock:
            taken, self._sums = self._sums, {}
        merge(session, taken)


def merge(session: Session, sums: Mapping[tuple[str, str], tuple[int, float]]) -> None:
    """Merge measurements, ``(count, seconds)`` by provider and operation, into the means."""
    if sums:
        values = {
            "providers": [provider for provider, _ in sums],
            "names": [name for _, name in sums],
            "means": [total / count for count, total in sums.values()],
            "counts": [count for count, _ in sums.values()],
            "weight": WEIGHT_OF_ONE,
        }
        session.execute(_MERGE, values)


def eta_seconds(seconds_each: float, *, ahead: int, remaining: int, at_once: int) -> int:
    """Return in how many seconds ``remaining`` operations end that stand behind ``ahead``, ``at_once`` at work."""
    return math.ceil(seconds_each * math.ceil((ahead + remaining) / max(1, at_once)))
