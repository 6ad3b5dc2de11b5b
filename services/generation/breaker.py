"""When a provider's model is left alone, and when it is tried again: the rules of its circuit, and of its rate. Pure.

A circuit opens after 10 failures in a row. From then on its operations wait, and one at a time is sent as a probe, ever
more rarely, until one gets through. A 429 pauses a model without counting as a failure: it is there, and busy.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from services.generation.operations import Answered, Lost, Outcome, Refused

State = Literal["closed", "open", "half_open"]
# What an outcome says about its provider: that it works, that it does not, that it wants to be left alone, or nothing.
Signal = Literal["worked", "failed", "busy", "nothing"]

FAILURES_TO_OPEN: Final = 10
FIRST_PROBE_AFTER: Final = timedelta(seconds=30)
LAST_PROBE_AFTER: Final = timedelta(minutes=5)
PAUSE_AT_LEAST: Final = timedelta(seconds=1)
PAUSE_UNTOLD: Final = timedelta(seconds=5)
PAUSE_AT_MOST: Final = timedelta(hours=1)
# A pause that is over by then is waited for, though another provider might do it now.
WORTH_WAITING: Final = timedelta(seconds=30)
# The provider's own doing. Anything else it refuses, it has looked at: it works.
_FAILURES: Final = frozenset(
    {
        "provider_error",
        "connect_failed",
        "provider_timeout",
        "capacity",
        "auth_failed",
        "model_retired",
        "model_changed",
    }
)
_OUR_OWN: Final = frozenset(
    {"source_missing", "storage_failed", "unpriceable", "internal_error", "cancelled", "deadline_exceeded"}
)
# A bucket holds what a tenth of a minute brings: a larger one would let nearly twice the rate into some minute.
_BURSTS_A_MINUTE: Final = 10


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """What is known of one model of a provider.

    ``failures`` are those in a row. While it is not closed, a probe may be sent from ``probe_at`` on, one at a time;
    ``probe_id`` is the operation that was sent as one. Nothing is sent before ``paused_until``.
    """

    state: State = "closed"
    failures: int = 0
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    probe_id: str | None = None
    paused_until: datetime | None = None
    failed_at: datetime | None = None
    failure_code: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether its operations wait, but for a probe."""
        return self.state != "closed"


def burst(per_minute: int | None) -> float | None:
    """Return how many operations may be sent at a stroke to a provider that takes so many a minute."""
    return None if per_minute is None else max(1.0, per_minute / _BURSTS_A_MINUTE)


def signal(outcome: Outcome) -> tuple[Signal, str | None]:
    """Return what an outcome says about its provider, and the code it says so with."""
    if isinstance(outcome, Answered):
        return "worked", None
    if isinstance(outcome, Lost):
        return "failed", "outcome_unknown"
    if outcome.code in _OUR_OWN:
        return "nothing", outcome.code
    if outcome.code == "rate_limited" or (outcome.code == "capacity" and outcome.retry_after_seconds):
        return "busy", outcome.code
    return ("failed" if outcome.code in _FAILURES else "worked"), outcome.code


def after(circuit: Circuit, outcome: Outcome, *, operation_id: str, now: datetime) -> Circuit:
    """Return the circuit as it is after ``outcome`` of an operation.

    An open one is closed by whatever gets through, be it the probe or an operation that was on its way before. It is
    put off by its probe alone: what was on its way says nothing new when it fails.
    """
    said, code = signal(outcome)
    if said == "nothing":
        return circuit
    if said == "busy":
        return replace(circuit, paused_until=_later(circuit.paused_until, now + _pause(outcome)))
    if said == "worked":
        return replace(circuit, state="closed", failures=0, opened_at=None, probe_at=None, probe_id=None)
    failed = replace(circuit, failures=circuit.failures + 1, failed_at=now, failure_code=code)
    return _put_off(failed, operation_id=operation_id, now=now)


def admits(circuit: Circuit, *, probe_at_work: bool, now: datetime) -> Literal["all", "probe", "none"]:
    """Return what may be sent to a model just now; a claim says the same in SQL."""
    if circuit.paused_until is not None and circuit.paused_until > now:
        return "none"
    if not circuit.is_open:
        return "all"
    due = circuit.probe_at is not None and circuit.probe_at <= now
    return "probe" if due and not probe_at_work else "none"


def stands_still(circuit: Circuit, *, now: datetime) -> bool:
    """Return whether what waits for a model had better go elsewhere, where its route leads elsewhere.

    Not while a probe is due: one that waits is to be it.
    """
    if circuit.paused_until is not None and circuit.paused_until > now + WORTH_WAITING:
        return True
    return circuit.is_open and (circuit.probe_id is not None or circuit.probe_at is None or circuit.probe_at > now)


def _put_off(failed: Circuit, *, operation_id: str, now: datetime) -> Circuit:
    """Return a circuit that has failed once more: opened by too many in a row, or by its probe."""
    if not failed.is_open and failed.failures >= FAILURES_TO_OPEN:
        return replace(failed, state="open", opened_at=now, probe_at=now + FIRST_PROBE_AFTER, probe_id=None)
    if failed.state == "half_open" and failed.probe_id == operation_id:
        return replace(failed, state="open", probe_at=now + _next_probe(failed, now), probe_id=None)
    return failed


def _pause(outcome: Outcome) -> timedelta:
    told = outcome.retry_after_seconds if isinstance(outcome, Refused) else None
    if told is None:
        return PAUSE_UNTOLD
    return min(max(timedelta(seconds=told), PAUSE_AT_LEAST), PAUSE_AT_MOST)


def _next_probe(circuit: Circuit, now: datetime) -> timedelta:
    """Return how long to wait after a probe that failed: as long as the circuit has been open, within limits."""
    open_for = now - (circuit.opened_at or now)
    return min(max(open_for, FIRST_PROBE_AFTER), LAST_PROBE_AFTER)


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
