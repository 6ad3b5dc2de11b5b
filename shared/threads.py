"""Runs C code that lets go of the interpreter's lock, such as argon2, in a thread: green threads go on meanwhile.

For anything else `shared.off_hub` is the place: Python code in a thread would stop the hub all the same.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from eventlet import tpool
from eventlet.semaphore import Semaphore

from shared import budget
from shared.problems import Unavailable

AT_ONCE = 2
WAIT_SECONDS = 1.5
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_room = Semaphore(AT_ONCE)


def in_a_thread(function: Callable[[*Ts], T], *args: *Ts, crowded: str) -> T:
    """Return ``function(*args)``; its exceptions pass through.

    Raises:
        Unavailable: too many others wait for the same; ``crowded`` says so in the caller's words.
    """
    if not _room.acquire(timeout=budget.remaining_seconds(WAIT_SECONDS)):
        raise Unavailable(crowded, retry_after=1)
    try:
        result: T = tpool.execute(function, *args)
        return result
    finally:
        _room.release()
