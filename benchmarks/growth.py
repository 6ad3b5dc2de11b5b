"""Whether a process's memory stays what it is: read now and then while it works, the end compared to the beginning."""

import statistics
import time
from collections.abc import Callable

from benchmarks.audit import AuditFailed

READINGS_MIN = 9
_EVERY_SECONDS = 0.5


class Readings:
    """What ``read`` tells of a process's memory, in bytes, twice a second while somebody asks."""

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._next_at = 0.0
        self.taken: list[int] = []

    def look(self) -> None:
        """Read, if it is time."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + _EVERY_SECONDS
            self.taken.append(self._read())

    def growth(self) -> float:
        """Return by what share the last third is above the first, medians; 0.1 is a tenth more.

        Raises:
            AuditFailed: there are too few to tell.
        """
        if len(self.taken) < READINGS_MIN:
            raise AuditFailed(f"memory was read {len(self.taken)} times, {READINGS_MIN} at least are needed")
        third = len(self.taken) // 3
        return statistics.median(self.taken[-third:]) / statistics.median(self.taken[:third]) - 1
