"""Long loops in a process of green threads: whoever computes lets the others have their turn."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

STEP = 250


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """Yield ``items`` as they come, and let other threads run after every 250th."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % STEP == 0:
            time.sleep(0)
