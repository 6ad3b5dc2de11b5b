"""The rules of jobs, generations and operations: which states may follow which, and how a job's end is told.

Pure: no database, no clock, no provider. The states are those of the contract.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

JOB_ENDS = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled", "expired", "rejected"})
GENERATION_ENDS = frozenset({"succeeded", "failed"})
OPERATION_ENDS = frozenset({"succeeded", "failed", "cancelled"})

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

MINIMUM_DEADLINE = timedelta(minutes=15)
STALLED_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one generation of a job ended: ``reason`` is None when it succeeded. ``amount`` is what its line holds."""

    generation_id: str
    line_id: str | None
    reason: str | None
    amount: int


def may_follow(steps: Mapping[str, Collection[str]], before: str, after: str) -> bool:
    """Tell whether state ``after`` may follow ``before``; nothing follows an end."""
    return after in steps.get(before, ())


def deadline(accepted: datetime, *, estimated_seconds: float, asked_seconds: float | None = None) -> datetime:
    """Return when a job must have ended: 15 min or three times the estimate after it was accepted, or as asked."""
    if asked_seconds is not None:
        return accepted + timedelta(seconds=asked_seconds)
    return accepted + max(MINIMUM_DEADLINE, timedelta(seconds=3 * estimated_seconds))


def roll_up(ended: Sequence[Ended], *, cancelling: bool = False) -> str:
    """Return a job's final state from how all its generations ended."""
    reasons = [item.reason for item in ended]
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
