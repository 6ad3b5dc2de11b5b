"""What a client of the hammer may do at the ledger: every kind of movement, with the refusals that belong to it.

Each is made the way a service makes it, by the ledger's commands or by events. Knows nothing of how the ledger does it.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.credits import accounts, handlers, quotes, seals
from shared.ids import new_id
from shared.problems import (
    Conflict,
    DailyCapReached,
    InsufficientCredits,
    JobClosed,
    Problem,
    QuotaExceeded,
    QuoteMismatch,
    QuoteUsed,
)
from tools.hammer_field import Field, HeldLines, completed, failed, finished

ORGANIZATIONS = {
    "org_hammer_0": "free",
    "org_hammer_1": "pro",
    "org_hammer_2": "team",
}  # few: all meet at the same rows
PRICES = {"staging.variant": 10, "tech_pack.base_views": 3, "tech_pack.edit": 1, "studio.image": 1}
EXPENSIVE_MICROUSD = 2_000_000  # of such lines a day's cost cap allows few
CRASHES = 0.1


@dataclass(frozen=True)
class Movement:
    """One thing a client may do: ``weight`` is how often, ``refusals`` are what it may rightly be told."""

    name: str
    weight: int
    make: Callable[[Field, random.Random], None]
    refusals: tuple[type[Problem], ...] = ()


def _hold(shared: Field, dice: random.Random) -> None:
    _reserve(shared, dice)


def _hold_what_can_be(shared: Field, dice: random.Random) -> None:
    _reserve(shared, dice, partial=True)


def _try_to_hold(shared: Field, dice: random.Random) -> None:
    _reserve(shared, dice, dry_run=True)


def _hold_more(shared: Field, dice: random.Random) -> None:
    """Add lines to a job that may have ended meanwhile, or has a quote they may go beyond."""
    if job := shared.choose(dice):
        _reserve(shared, dice, job_id=job.job_id, org_id=job.org_id, partial=_coin(dice))


def _hold_quoted(shared: Field, dice: random.Random) -> None:
    """Ask for a quote, and hold for it; now and then for other inputs, or for two jobs."""
    org_id, skus = _organization(dice), _skus(dice)
    quote = quotes.quote(
        shared.database,
        org_id=org_id,
        livemode=True,
        quote_id=new_id("quo"),
        workflow="staging",
        fingerprint="of these inputs",
        skus={sku: skus.count(sku) for sku in skus},
        images=len(skus),
        estimated_seconds=1,
    )
    named = {"quote_id": quote["id"], "fingerprint": dice.choice(["of these inputs"] * 9 + ["of others"])}
    for _ in range(dice.choice([1, 1, 1, 2])):
        _reserve(shared, dice, org_id=org_id, skus=skus, accepted_at=_after(0), **named)


def _complete(shared: Field, dice: random.Random) -> None:
    """Deliver results in any order: at the full price, or at less where the cache had a part of it."""
    prices = [(held, line, price) for held in _some(shared, dice) for line, price in held.prices.items()]
    due = [completed(held, line, dice.choice([price, price, price, price // 3, 0])) for held, line, price in prices]
    shared.tell(due, crash=dice.random() < CRASHES)


def _fail(shared: Field, dice: random.Random) -> None:
    lines = [(held, line) for held in _some(shared, dice) for line in held.prices if _coin(dice)]
    shared.tell([failed(held, line) for held, line in lines], crash=dice.random() < CRASHES)


def _finish(shared: Field, dice: random.Random) -> None:
    """End jobs that may have open lines, or none, or have ended before."""
    shared.tell([finished(held) for held in _some(shared, dice)[:2]], crash=dice.random() < CRASHES)


def _tell_again(shared: Field, dice: random.Random) -> None:
    shared.tell_again(dice)


def _give_back(shared: Field, dice: random.Random) -> None:
    """Give back what was charged for a job, or for one generation of it."""
    if held := shared.choose(dice):
        line = dice.choice([None, *held.prices])
        handlers.refund(shared.database, job_id=held.job_id, generation_id=line, reason="hammer", actor="hammer")


def _grant(shared: Field, dice: random.Random) -> None:
    """Give credits that last, or expire while others spend them; now and then the same ones twice."""
    asked = {
        "grant_id": new_id("grt"),
        "org_id": _organization(dice),
        "amount": dice.randint(1, 60),
        "kind": dice.choice(list(accounts.PRIORITIES)),
        "expires_at": dice.choice([None, _after(0.5), _after(2), _after(10), _after(3600)]),
        "priority": dice.choice([None, None, 5, 50]),
    }
    for _ in range(dice.choice([1, 1, 1, 2])):
        accounts.grant(shared.database, **asked, reason="hammer", actor="hammer")


def _expire(shared: Field, _dice: random.Random) -> None:
    accounts.expire_grants(shared.database)


def _correct_upwards(shared: Field, dice: random.Random) -> None:
    _adjust(shared, dice, dice.randint(1, 20))


def _correct_downwards(shared: Field, dice: random.Random) -> None:
    _adjust(shared, dice, -dice.randint(1, 60))


def _change_plan(shared: Field, dice: random.Random) -> None:
    plan = dice.choice(["free", "free", "pro", "team"])
    accounts.change_plan(shared.database, org_id=_organization(dice), plan=plan, actor="hammer")


def _report_overdue(shared: Field, _dice: random.Random) -> None:
    handlers.report_overdue(shared.database, after=timedelta(), again_after=timedelta(seconds=1))


def _seal(shared: Field, _dice: random.Random) -> None:
    seals.seal_entries(shared.database)


_MEANS = (InsufficientCredits, QuotaExceeded, DailyCapReached)
MOVEMENTS = (
    Movement("hold", 12, _hold, _MEANS),
    Movement("hold what can be held", 8, _hold_what_can_be, _MEANS),
    Movement("hold for a quote", 6, _hold_quoted, (*_MEANS, QuoteMismatch, QuoteUsed)),
    Movement("hold more for a job", 8, _hold_more, (*_MEANS, JobClosed, QuoteMismatch)),
    Movement("try to hold", 4, _try_to_hold, _MEANS),
    Movement("results", 16, _complete),
    Movement("failures", 8, _fail),
    Movement("ends of jobs", 10, _finish),
    Movement("the same events again", 8, _tell_again),
    Movement("refund of a charge", 6, _give_back, (Conflict,)),
    Movement("grant", 6, _grant),
    Movement("expiry", 4, _expire),
    Movement("correction upwards", 2, _correct_upwards),
    Movement("correction downwards", 3, _correct_downwards, (Conflict,)),
    Movement("change of plan", 3, _change_plan),
    Movement("question about overdue jobs", 2, _report_overdue),
    Movement("sealing", 2, _seal),
)


def _reserve(
    shared: Field,
    dice: random.Random,
    *,
    org_id: str | None = None,
    job_id: str | None = None,
    skus: Sequence[str] = (),
    **asked: Any,
) -> None:
    """Hold lines, by themselves for a new job, and remember those that are held."""
    org_id, job_id = org_id or _organization(dice), job_id or new_id("job")
    cost = dice.choice([0] * 9 + [EXPENSIVE_MICROUSD])
    answer = handlers.reserve(
        shared.database,
        org_id=org_id,
        job_id=job_id,
        deadline_at=_after(dice.choice([0.5, 3600])),
        lines=[{"line_id": new_id("gen"), "sku": sku, "cost_microusd": cost} for sku in skus or _skus(dice)],
        workflow="staging",
        **asked,
    )
    if not asked.get("dry_run"):
        shared.held.append(HeldLines(job_id, org_id, {line["line_id"]: line["amount"] for line in answer["lines"]}))


def _adjust(shared: Field, dice: random.Random, amount: int) -> None:
    accounts.adjust(
        shared.database,
        adjustment_id=new_id("adj"),
        org_id=_organization(dice),
        amount=amount,
        unit=dice.choice(["credits", "credits", "plan_generations"]),
        reason="hammer",
        actor="hammer",
    )


def _organization(dice: random.Random) -> str:
    return dice.choice(list(ORGANIZATIONS))


def _skus(dice: random.Random) -> list[str]:
    return dice.choices(list(PRICES), weights=[2, 2, 2, 3], k=dice.randint(1, 6))


def _some(shared: Field, dice: random.Random) -> list[HeldLines]:
    chosen = [shared.choose(dice) for _ in range(dice.randint(1, 4))]
    return [held for held in chosen if held]


def _coin(dice: random.Random) -> bool:
    return dice.choice([True, False])


def _after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
