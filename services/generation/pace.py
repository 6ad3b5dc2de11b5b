"""How long operations take, measured, and what that means for one that waits: a mean in rows, and arithmetic."""

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

# Of so many measurements the newest weigh about as much together as all before them.
WEIGHT_OF_ONE = 0.1
FLUSH_SECONDS = 5.0

# Of so many the median is shown.
RECENT = 50

_MERGE = sa.text("""
INSERT INTO operation_times AS t (provider, name, mean_seconds, measured, recent_seconds)
SELECT m ->> 'provider', m ->> 'name', CAST(m ->> 'mean_seconds' AS float), CAST(m ->> 'measured' AS bigint),
       ARRAY(SELECT CAST(s AS float) FROM jsonb_array_elements_text(m -> 'recent_seconds') AS s)
FROM jsonb_array_elements(CAST(:measured AS jsonb)) AS m
ON CONFLICT (provider, name) DO UPDATE SET
    mean_seconds = excluded.mean_seconds
        + (t.mean_seconds - excluded.mean_seconds) * power(1 - CAST(:weight AS float), excluded.measured),
    measured = t.measured + excluded.measured,
    recent_seconds = (excluded.recent_seconds || t.recent_seconds)[1:CAST(:recent AS integer)]
""")


class Measurements:
    """What one worker has measured and not written down yet. Those of a worker that dies are lost, and not missed."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[float]] = {}
        self._lock = threading.Lock()
        self._due = time.monotonic() + FLUSH_SECONDS

    def add(self, *, provider: str, name: str, seconds: float) -> None:
        """Note how long one operation took."""
        with self._lock:
            self._seconds.setdefault((provider, name), []).append(seconds)

    def due(self) -> bool:
        """Tell, once every 5 s, that there is something to write down."""
        with self._lock:
            if not self._seconds or time.monotonic() < self._due:
                return False
            self._due = time.monotonic() + FLUSH_SECONDS
            return True

    def write(self, session: Session) -> None:
        """Merge what was measured into the rows that all workers share."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        merge(session, taken)


def merge(session: Session, measured: Mapping[tuple[str, str], Sequence[float]]) -> None:
    """Merge how many seconds operations took, by provider and operation and oldest first, into their means."""
    if not measured:
        return
    rows = [
        {
            "provider": provider,
            "name": name,
            "mean_seconds": sum(seconds) / len(seconds),
            "measured": len(seconds),
            "recent_seconds": list(reversed(seconds))[:RECENT],
        }
        for (provider, name), seconds in sorted(measured.items())  # in one order: two workers must not cross
    ]
    session.execute(_MERGE, {"measured": json.dumps(rows), "weight": WEIGHT_OF_ONE, "recent": RECENT})


def eta_seconds(seconds_each: float, *, ahead: int, remaining: int, at_once: int) -> int:
    """Return in how many seconds ``remaining`` operations end that stand behind ``ahead``, ``at_once`` at work."""
    return math.ceil(seconds_each * math.ceil((ahead + remaining) / max(1, at_once)))
