"""The rules of jobs, generations and operations: which states may follow which, and how a job's end is told.

Pure: no database, no clock, no provider. The states are those of the contract.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

JOB_ENDS = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled", "expired", "rejected"})
GENERATION_ENDS = frozenset({"succeeded", "failed"})

JOB_STEPS: Mapping[str, Collection[str]] = {
    "awaiting_credit": {"queued", "rejected", "cancelled", "expired"},
    "queued": {"running", "paused", "cancelling", "succeeded", "failed", "cancelled", "expired"},
    "running": {"paused", "cancelling", *JOB_ENDS} - {"rejected"},
    "paused": {"queued", "running", "cancelling", "cancelled", "expired"},
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


def deadline(accepted: datetime, *, estimated_seconds: float, asked_seconds: float | None = None) -> datetime:
    """Return when a job must have ended: 15 min or three times the estimate after it was accepted, or as asked."""
    if asked_seconds is not None:
        return accepted + timedelta(seconds=asked_seconds)
    return accepted + max(MINIMUM_DEADLINE, timedelta(seconds=3 * estimated_seconds))


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
