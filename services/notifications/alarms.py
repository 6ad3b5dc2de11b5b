"""What operators have to know, and in which words: from an event, or a figure, to an alarm. Pure.

Alarms with one ``key`` are of one thing. It is an incident as long as it lasts, and what comes back within the rest
after its end belongs to it: one that flickers is one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.events import Event, LedgerInvariantViolated, ProviderCircuitClosed, ProviderCircuitOpened

CIRCUIT: Final = "circuit_opened"
DEAD_LETTERS: Final = "dead_letters"
LEDGER: Final = "ledger_violated"
SIGN_UPS: Final = "sign_up_failed"
_HOUR: Final = timedelta(hours=1)
# The ledger is looked at once a night: night after night is one incident.
REST: Final = {CIRCUIT: _HOUR, DEAD_LETTERS: _HOUR, LEDGER: timedelta(hours=36), SIGN_UPS: _HOUR}
# Of these nobody says that they are over: they are when nothing has been heard of them for their rest.
FADING: Final = frozenset({LEDGER, SIGN_UPS})
# Whatever is open longer than this without a word is news when it is heard of again, since its end may have been lost.
# What lies aside is heard of all the time: it is told again once a day.
FORGOTTEN: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something is wrong since ``since``; ``remedy`` says what to do. Nothing in it is of a customer."""

    kind: str
    key: str
    text: str
    remedy: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class AllClear:
    """What was wrong is over; ``since`` is when that trouble had begun, where that is known."""

    kind: str
    key: str
    at: datetime
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of the newest incident under a key."""

    since: datetime
    last_at: datetime
    closed_at: datetime | None


def alarm_of(item: Event, *, now: datetime) -> Alarm | AllClear | None:
    """Return what an event means for operators, or None where it means nothing."""
    match item:
        case ProviderCircuitOpened():
            return Alarm(
                kind=CIRCUIT,
                key=_circuit(item),
                text=f"{item.provider} {item.model} has failed {item.failures} times in a row, last with {item.code}.",
                remedy="Its work waits and is tried again by itself. GET /v1/models shows how it is doing.",
                since=_moment(item.opened_at),
            )
        case ProviderCircuitClosed():
            return AllClear(kind=CIRCUIT, key=_circuit(item), at=_moment(item.closed_at), since=_moment(item.opened_at))
        case LedgerInvariantViolated():
            return Alarm(
                kind=LEDGER,
                key=LEDGER,
                text=f"The audit of {item.night} found violations in the ledger: {item.violations}, first"
                f" {item.invariant}.",
                remedy="GET /v1/admin/invariants lists them, as does `bin/darkroom audit`.",
                since=now,
            )
    return None


def of_dead_letters(service: str, count: int, *, now: datetime) -> Alarm:
    """Return the alarm of messages that were set aside."""
    return Alarm(
        kind=DEAD_LETTERS,
        key=f"{DEAD_LETTERS}/{service}",
        text=f"{count} messages for {service} could not be handled and were set aside.",
        remedy=f"`bin/darkroom dead-letters list {service}` shows them and why; replay or drop them there.",
        since=now,
    )


def of_sign_ups(count: int, *, error: str, since: datetime) -> Alarm:
    """Return the alarm of people who could not sign up for a reason that is not theirs."""
    return Alarm(
        kind=SIGN_UPS,
        key=SIGN_UPS,
        text=f"Signing up failed {count} times, last with {error}.",
        remedy="Their invitations are still good. The gateway's log has the errors under `sign_up_failed`.",
        since=since,
    )


def is_news(known: Known | None, alarm: Alarm, *, now: datetime) -> bool:
    """Tell whether an alarm is of an incident that nobody has been told of."""
    if known is None:
        return True
    if known.closed_at is not None:
        return alarm.since - known.closed_at > REST[alarm.kind]
    if alarm.kind == DEAD_LETTERS:
        return now - known.since >= FORGOTTEN
    return now - known.last_at > (REST[alarm.kind] if alarm.kind in FADING else FORGOTTEN)


def is_over_already(known: Known | None, alarm: Alarm) -> bool:
    """Tell whether an alarm came after its own all-clear: events may overtake each other."""
    return known is not None and known.closed_at is not None and alarm.since <= known.closed_at


def _circuit(item: ProviderCircuitOpened | ProviderCircuitClosed) -> str:
    return f"{CIRCUIT}/{item.provider}/{item.model}"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
