"""What the clients of the hammer share: the ledger, what was held there, and the events they tell it.

Events reach the ledger's own handlers through the inbox, as its subscriptions would bring them.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from services.credits import handlers
from shared import events
from shared.database import Batch, Database
from shared.events import Event, GenerationCompleted, GenerationFailed, JobFinished, SettledLine
from shared.ids import new_id

RECENT = 150  # jobs from which clients choose, so that they meet there while something is still to be done

_HANDLERS: dict[type[Event], Callable[[Any, Any], Sequence[Event]]] = {
    GenerationCompleted: handlers.capture_completed_generations,
    GenerationFailed: handlers.refund_failed_generations,
    JobFinished: handlers.close_finished_jobs,
}


class _Crash(Exception):
    """The process ends just before it would have committed."""


@dataclass(frozen=True)
class HeldLines:
    """Lines that were held together for a job: ``{line_id: price}``."""

    job_id: str
    org_id: str
    prices: Mapping[str, int]


@dataclass
class Field:
    """The ledger and what was done there. Lists only grow: any thread may look at them at any time."""

    database: Database
    held: list[HeldLines] = field(default_factory=list)
    past: deque[Batch[Event]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def choose(self, dice: random.Random) -> HeldLines | None:
        """Return lines that were held a short while ago, and may have ended since."""
        recent = self.held[-RECENT:]
        return dice.choice(recent) if recent else None

    def tell(self, told: Sequence[Event], *, crash: bool = False) -> None:
        """Deliver a batch of new events of one type; ``crash`` once before it is done."""
        if not told:
            return
        batch = Batch([_named(event) for event in told], consumer=f"credits.{type(told[0]).__name__}")
        if crash:
            with suppress(_Crash):
                self.database.once(batch, _handle_and_crash)
        self.database.once(batch, _handle)
        self.past.append(batch)

    def tell_again(self, dice: random.Random) -> None:
        """Deliver events of the past a second time, or new events that say the same."""
        if self.past:
            batch = self.past[dice.randrange(len(self.past))]
            again = dice.choice([batch, Batch([_named(event) for event in batch], consumer=batch.consumer)])
            self.database.once(again, _handle)


def completed(held: HeldLines, line_id: str, amount: int) -> GenerationCompleted:
    """Return the result of a generation that costs so much."""
    return GenerationCompleted(
        **_about(held, line_id),
        amount=amount,
        images=[],
        provider="local",
        model="",
        duration_ms=0,
        provider_cost_microusd=100,
    )


def failed(held: HeldLines, line_id: str) -> GenerationFailed:
    """Return the failure of a generation."""
    return GenerationFailed(**_about(held, line_id), reason="provider_error", message="", retryable=True)


def finished(held: HeldLines) -> JobFinished:
    """Return the end of a job that was cancelled: what is still open of these lines comes back."""
    lines = [SettledLine(line_id=line, outcome="refunded", amount=0, reason="cancelled") for line in held.prices]
    return JobFinished(
        job_id=held.job_id,
        org_id=held.org_id,
        user_id=None,
        workflow="staging",
        status="cancelled",
        succeeded=0,
        failed=len(lines),
        lines=lines,
    )


def _handle(session: Any, fresh: Sequence[Event]) -> Sequence[Event]:
    return _HANDLERS[type(fresh[0])](session, fresh)


def _handle_and_crash(session: Any, fresh: Sequence[Event]) -> Sequence[Event]:
    _handle(session, fresh)
    raise _Crash


def _about(held: HeldLines, line_id: str) -> dict[str, Any]:
    return {
        "job_id": held.job_id,
        "generation_id": line_id,
        "line_id": line_id,
        "org_id": held.org_id,
        "user_id": None,
        "workflow": "staging",
    }


def _named(event: Event) -> Event:
    """Give an event an envelope of its own, whatever it had."""
    return events.with_meta(event, events.correlated(new_id("req")))
