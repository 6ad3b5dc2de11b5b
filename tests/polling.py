"""Waiting for something to become true: by looking again and again, never by hoping that a while is enough."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], *, seconds: float = 10.0, what: str = "the condition") -> T:
    """Return the first true value of ``look()``; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    pause_seconds = 0.005
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(pause_seconds)
        # To look costs time that others need, and who has waited long can wait a little longer.
        pause_seconds = min(pause_seconds * 1.2, 0.03)
