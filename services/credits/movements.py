"""What the ledger is asked for and what it answers, as plain values. Knows no database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.events import HeldLine
from shared.problems import (
    DailyCapReached,
    HoldRefused,
    InsufficientCredits,
    JobClosed,
    NotFound,
    Problem,
    QuotaExceeded,
    QuoteExpired,
    QuoteMismatch,
    QuoteUsed,
    UnknownSku,
)

CACHE_HIT = "cache_hit"


@dataclass(frozen=True, kw_only=True)
class Wallet:
    """A balance: free and held amounts, and the number of changes of the wallet that led to it."""

    available: int
    held: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """Lines to hold for one job: ``lines`` maps each line's id to its SKU.

    Args:
        org_id: who pays.
        job_id: what for; later requests may add lines to the same job.
        deadline_at: when the job will have ended at the latest.
        lines: in the order in which they are to be held where not all can be.
        costs: by line, what its generation is expected to cost us at a provider, in microusd.
        partial: whether some of the lines are better than none.
        waits: whether the job keeps its quote also when nothing can be held yet.
        quote_id: the quote whose prices count.
        fingerprint: the hash of workflow and inputs, which has to be the quote's.
        accepted_at: when the job was accepted: the quote must have been good then.
        workflow: the product line, for the history.
        session_id: what the job belongs to, for the history.
        actor: who asked for it.
    """

    org_id: str
    job_id: str
    deadline_at: datetime
    lines: Mapping[str, str]
    costs: Mapping[str, int] = field(default_factory=dict)
    partial: bool = False
    waits: bool = False
    quote_id: str | None = None
    fingerprint: str | None = None
    accepted_at: datetime | None = None
    workflow: str | None = None
    session_id: str | None = None
    actor: str | None = None


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """So many percent of a month's allowance are used; times are RFC 3339."""

    percent: int
    used: int
    limit: int
    period_start: str
    resets_at: str


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What one request took from the wallet of one unit, and that wallet after it."""

    unit: str
    amount: int
    available: int
    version: int
    line_ids: list[str]


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """A granted request: its lines, and in ``holds`` what was not held before. No id: all lines are free.

    ``shortfall`` is the refusal a partial request met at the first line that is missing in ``lines``.
    """

    reservation_id: str | None
    lines: list[HeldLine]
    holds: list[Hold]
    wallet: Wallet
    shortfall: HoldRefused | None = None
    thresholds: list[Threshold] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a line ended: ``amount`` is captured, at most what is held; the rest is given back for ``reason``."""

    job_id: str
    line_id: str
    org_id: str
    amount: int
    reason: str = CACHE_HIT


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A line that ended now; ``available`` and ``version`` are the wallet's after its refund, if there was one."""

    reservation_id: str
    job_id: str
    line_id: str
    org_id: str
    unit: str
    captured: int
    refunded: int
    reason: str | None
    available: int | None
    version: int | None


@dataclass(frozen=True, kw_only=True)
class Returned:
    """A captured line that was given back; ``available`` and ``version`` are None where that was done before."""

    line_id: str
    org_id: str
    reservation_id: str
    workflow: str | None
    unit: str
    amount: int
    available: int | None
    version: int | None


@dataclass(frozen=True, kw_only=True)
class Expired:
    """What was left of a grant that has expired now, and the wallet after it."""

    grant_id: str
    org_id: str
    unit: str
    kind: str
    amount: int
    available: int
    version: int


@dataclass(frozen=True, kw_only=True)
class PlanChange:
    """The plan an organization had before, and the monthly allowance of the one it has now; None is without limit."""

    previous_plan: str
    monthly_generations: int | None


def refusal(outcome: str, figures: Mapping[str, Any]) -> Problem:
    """Return the problem that says why a request was refused: ``outcome`` is its code in `reserve`."""
    if outcome in _REFUSALS_OF_QUOTES:
        kind, text = _REFUSALS_OF_QUOTES[outcome]
        return kind(text)
    if outcome == "unknown_sku":
        sku = figures["sku"]
        return UnknownSku(f"The price book has no price for {sku!r}; nothing was held.", sku=sku)
    if outcome == "job_closed":
        return JobClosed()
    return hold_refused(outcome, figures)


def hold_refused(code: str, figures: Mapping[str, Any]) -> HoldRefused:
    """Return the problem that says which means do not suffice, and for how much of the request they would."""
    figures = {name: value for name, value in figures.items() if name != "code"}
    if code == "quota_exceeded":
        fewer = f"ask for at most {figures['max_affordable']}, " if figures["max_affordable"] else ""
        return QuotaExceeded(
            f"Of this month's {figures['limit']} plan generations {figures['used']} are used, and this asks for"
            f" {figures['requested']}. Nothing was charged: {fewer}upgrade the plan, or wait until"
            f" {figures['resets_at'][:10]}.",
            **figures,
        )
    if code == "daily_cap_reached":
        return DailyCapReached(
            "Your organization has reached what it may have processed in a day. Nothing was charged: try again after"
            f" {figures['resets_at'][:16]} UTC, or ask support for more.",
            **figures,
        )
    return InsufficientCredits(
        f"This needs {figures['required']} credits, and {figures['available']} are available. Nothing was charged.",
        **figures,
    )


_REFUSALS_OF_QUOTES: Mapping[str, tuple[type[Problem], str]] = {
    "quote_not_found": (NotFound, "There is no such quote."),
    "quote_used": (QuoteUsed, "This quote was used for another job; ask for a new one."),
    "quote_expired": (QuoteExpired, "A quote is good for 15 minutes, and this one has expired; ask for a new one."),
    "quote_mismatch": (QuoteMismatch, "The quote was made for another workflow or other inputs; ask for a new one."),
}


def rounds(requests: Sequence[Request]) -> list[list[int]]:
    """Spread the places of ``requests``, from 0, over few rounds: each job and each quote is once in a round."""
    spread: list[list[int]] = []
    following: dict[str, int] = {}
    for place, request in enumerate(requests):
        names = [name for name in (request.job_id, request.quote_id) if name]
        number = max(following.get(name, 0) for name in names)
        following.update(dict.fromkeys(names, number + 1))
        if number == len(spread):
            spread.append([])
        spread[number].append(place)
    return spread
