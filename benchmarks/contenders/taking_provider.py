"""An asynchronous provider in the worker's own process: it takes at once, and is done so many seconds later.

What it calls an operation says when that will be, by the clock all processes share, so that anybody can call back, and
how long it takes.
"""

import random
import time
from datetime import datetime

from benchmarks.contenders.slow_provider import SlowProvider
from services.generation.operations import Absent, Found, Progress, Running, Submitted
from services.generation.providers import Request

# Of what they take in the mean. If all took as long, what is begun together would end together, as nothing does.
SPREAD = (2 / 3, 4 / 3)


class TakingProvider(SlowProvider):
    """Takes operations; ``polled`` are the times at which it was asked for one."""

    calls_back = True
    time_limit_seconds = 300.0

    def __init__(self, *, seconds: float, concurrency: int, picture: bytes) -> None:
        super().__init__(seconds=seconds, concurrency=concurrency, picture=picture)
        self.polled: list[float] = []

    def submit(self, request: Request) -> Submitted:
        """Take it."""
        now = time.monotonic()
        takes = self._seconds * random.Random(request.operation_id).uniform(*SPREAD)
        self.spans.append((request.operation_id, now, now + takes))
        return Submitted(external_id=f"{request.operation_id}:{takes}:{now + takes}")

    def poll(self, external_id: str) -> Progress:
        """Tell whether its time has come."""
        now = time.monotonic()
        self.polled.append(now)
        return self._answer if now >= done_at(external_id) else Running(phase="running")

    def find(self, operation_id: str, *, sent_at: datetime) -> Found:  # noqa: ARG002  its interface
        """Know of nothing: no answer of its is ever lost."""
        return Absent(detail=operation_id)

    def known_as(self, work_id: object, *, model: str) -> Submitted | None:  # noqa: ARG002  its interface
        """Know nothing again, for the same reason."""
        return None

    def cancel(self, external_id: str) -> bool:  # noqa: ARG002  its interface
        """Stop nothing."""
        return False


def done_at(external_id: str) -> float:
    """Return when (monotonic) an operation will be done."""
    return float(external_id.rpartition(":")[2])
