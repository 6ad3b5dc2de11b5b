"""Runs C code that lets go of the interpreter's lock, such as argon2, in a thread: green threads go on meanwhile.

For anything else `shared.off_hub` is the place: Python code in a thread would stop the hub all the same.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from eventlet import tpool
from eventlet.semaphore import Semaphore

from shared import budget
from shared.problems import Unavailable

AT_ONCE = 2
WAIT_SECONDS = 1.5
P = ParamSpec("P")
T = TypeVar("T")
_room = Semaphore(AT_ONCE)


def in_a_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``function(*args, **kwargs)``; its exceptions pass through.

    Raises:
        Unavailable: too many others wait for the same.
    """
    if not _room.acquire(timeout=budget.remaining_seconds(WAIT_SECONDS)):
        raise Unavailable("Too many people are logging in right now; try again in a moment.", retry_after=1)
    try:
        result: T = tpool.execute(function, *args, **kwargs)
        return result
    finally:
        _room.release()
