"""The time a piece of work may still take: set where a request enters, handed on with every call it makes."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

import eventlet

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class TimeLimitExceeded(Exception):
    """The work took longer than it may; whatever it was waiting for has not answered."""


@contextlib.contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Give the block at most ``seconds``, and never more than an enclosing block has left. Interrupts nothing."""
    deadline = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(deadline if outer is None else min(deadline, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining_seconds(default: float) -> float:
    """Return what is left of the budget, at most ``default``; ``default`` where no budget was set.

    Raises:
        TimeLimitExceeded: nothing is left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return default
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeLimitExceeded("the time for this request is used up")
    return min(left, default)


def limit_seconds() -> float | None:
    """Return what is left of the budget, 0 at least; None where no budget was set."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextlib.contextmanager
def interrupted_after(seconds: float, what: str) -> Iterator[None]:
    """Raise `TimeLimitExceeded` inside the block when it waits longer than ``seconds``.

    It works where waiting yields to eventlet's hub, that is in every patched process; PostgreSQL's own limits cannot
    serve here, since a frozen server never applies them (measured: still blocked after 8 s).
    """
    with eventlet.Timeout(seconds, TimeLimitExceeded(f"{what} took longer than {seconds:.1f} s")):
        yield
