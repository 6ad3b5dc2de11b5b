"""The rules of jobs, generations and operations: which states may follow which, and how a job's end is told.

Pure: no database, no clock, no provider. The states are those of the contract.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

JOB_ENDS = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled", "expired", "rejected"})
GENERATION_ENDS = frozenset({"succeeded", "failed"})

# What counts against the limits of an organization: no answer has been recorded yet. What is being stored does not
# count against those of its provider: that has answered.
AT_WORK = ("running", "storing", "unknown")

# Whose operations go first; what a test key asks for is done when nobody else has anything due.
INTERACTIVE, STANDARD, TEST = 0, 1, 2
# Somebody waits at the screen for a job of so many generations at most; larger ones are standard, until they are old.
INTERACTIVE_GENERATIONS = 8
AGES_AFTER_SECONDS = 60.0

JOB_STEPS: Mapping[str, Collection[str]] = {
    "awaiting_credit": {"queued", "paused", "rejected", "cancelled", "expired"},
    "queued": {"running", "paused", "cancelling", "succeeded", "failed", "cancelled", "expired"},
    "running": {"paused", "cancelling", *JOB_ENDS} - {"rejected"},
    "paused": {"queued", "cancelling", "partially_succeeded", "failed", "cancelled", "expired"},
    "cancelling": {"cancelled", "partially_succeeded", "succeeded", "failed", "expired"},
}
GENERATION_STEPS: Mapping[str, Collection[str]] = {
    "queued": {"running", "failed"},
    "running": {"queued", "storing", "succeeded", "failed"},
    "storing": {"running", "succeeded", "failed"},
}


class IllegalStep(Exception):
    """A state would follow one that it may not follow: our bug, never a caller's."""


MINIMUM_DEADLINE = timedelta(minutes=15)
STALLED_AFTER = timedelta(minutes=5)
# A job that waits for credits asks for them again this often; grants, plans and refunds make it ask at once.
ASK_AGAIN_AFTER = timedelta(minutes=10)
PAUSE_ENDS_AFTER = timedelta(days=30)


def lane(*, livemode: bool, generations: int = 1) -> int:
    """Return the lane of the operations of a job of so many generations."""
    if not livemode:
        return TEST
    return INTERACTIVE if generations <= INTERACTIVE_GENERATIONS else STANDARD


def may_follow(steps: Mapping[str, Collection[str]], before: str, after: str) -> bool:
    """Tell whether state ``after`` may follow ``before``; nothing follows an end."""
    return after in steps.get(before, ())


def checked_step(steps: Mapping[str, Collection[str]], before: str | None, after: str) -> str:
    """Return ``after`` if it may follow ``before``; a row that has no state yet may start in any.

    Raises:
        IllegalStep: it may not; whoever tried has not looked at the state under the lock.
    """
    if before is not None and not may_follow(steps, before, after):
        raise IllegalStep(f"{after} does not follow {before}")
    return after


def deadline(
    accepted: datetime,
    *,
    estimated_seconds: float,
    asked_seconds: float | None = None,
    sources_until: datetime | None = None,
) -> datetime:
    """Return when a job must have ended: 15 min or three times the estimate after it was accepted, or as asked.

    In any case before ``sources_until``, where that is when what it works on is deleted.
    """
    longest = max(MINIMUM_DEADLINE, timedelta(seconds=3 * estimated_seconds))
    wanted = accepted + (longest if asked_seconds is None else timedelta(seconds=asked_seconds))
    return min(wanted, sources_until or wanted)


def deadline_after_pause(
    deadline_at: datetime,
    *,
    paused_at: datetime,
    now: datetime,
    asked_seconds: float | None = None,
    sources_until: datetime | None = None,
) -> datetime:
    """Return when a job must have ended that goes on at ``now``: the clock stood since ``paused_at``.

    What begins only now gets at least 15 min, or what was asked where that is less: those before it may have used
    everything up. What it works on is deleted at ``sources_until`` all the same.
    """
    at_least = MINIMUM_DEADLINE if asked_seconds is None else min(MINIMUM_DEADLINE, timedelta(seconds=asked_seconds))
    wanted = max(deadline_at + (now - paused_at), now + at_least)
    return min(wanted, sources_until or wanted)


def estimate(seconds_each: int, *, generations: int, at_once: int) -> int:
    """Return how many seconds so many generations take of which ``at_once`` may be at work."""
    return seconds_each * max(1, math.ceil(generations / at_once))


def next_question(now: datetime, *, resets_at: datetime | None = None) -> datetime:
    """Return when to ask again for credits that were not there; ``resets_at`` is when an allowance begins anew."""
    if resets_at is None or resets_at < now:
        return now + ASK_AGAIN_AFTER
    # A second later than promised: two databases do not agree to the microsecond on when that is.
    return min(now + ASK_AGAIN_AFTER, resets_at + timedelta(seconds=1))


def roll_up(reasons: Sequence[str | None], *, cancelling: bool = False) -> str:
    """Return a job's final state from why each of its generations failed; None stands for one that succeeded."""
    succeeded = reasons.count(None)
    if succeeded == len(reasons):
        return "succeeded"
    if succeeded:
        return "partially_succeeded"
    if cancelling or all(reason == "cancelled" for reason in reasons):
        return "cancelled"
    if all(reason == "deadline_exceeded" for reason in reasons):
        return "expired"
    return "failed"


def progress(*, total: int, ended: int) -> int:
    """Return 0 to 100: how much of a job has ended, well or not."""
    return 100 if total == 0 else 100 * ended // total


def charge(held: int, *, operations: int, from_cache: int, parts: int | None = None) -> int:
    """Return what a generation costs of what is ``held`` for it.

    Nothing where the cache had all its ``operations``. Else the whole price, or what it was not asked for of the
    ``parts`` it consists of, rounded up: ceil(3 x misses / views) for base views.
    """
    if operations and from_cache == operations:
        return 0
    if parts is None:
        return held
    return -(-held * max(0, parts - from_cache) // parts)
