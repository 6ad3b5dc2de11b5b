"""Counting what organizations get out of each product line, day by day (UTC), and what it costs them and us.

Counted in the transaction that settles, so that a recount gives the same; the history itself is the ledger's.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits.models import CREDITS, PLAN_GENERATIONS
from services.credits.movements import Returned, Settled
from shared.events import GenerationCompleted, GenerationFailed

UNKNOWN = "unknown"
NOT_BEGUN = frozenset({"insufficient_credits", "quota_exceeded", "daily_cap_reached", "key_cap_reached"})

# In one order everywhere, so that two batches never wait for each other.
_ADD = sa.text(
    "INSERT INTO daily_usage AS known (org_id, day, workflow, generations, failed, credits, plan_generations,"
    " provider_cost_microusd)"
    " SELECT org_id, (now() AT TIME ZONE 'UTC')::date, workflow, generations, failed, credits, plan_generations, cost"
    " FROM unnest(CAST(:org_ids AS text[]), CAST(:workflows AS text[]), CAST(:generations AS bigint[]),"
    " CAST(:failed AS bigint[]), CAST(:amounts AS bigint[]), CAST(:plan_generations AS bigint[]),"
    " CAST(:costs AS bigint[]))"
    " AS u (org_id, workflow, generations, failed, credits, plan_generations, cost) ORDER BY org_id, workflow"
    " ON CONFLICT (org_id, day, workflow) DO UPDATE SET generations = known.generations + excluded.generations,"
    " failed = known.failed + excluded.failed, credits = known.credits + excluded.credits,"
    " plan_generations = known.plan_generations + excluded.plan_generations,"
    " provider_cost_microusd = known.provider_cost_microusd + excluded.provider_cost_microusd"
)
_COLUMNS = ("org_ids", "workflows", "generations", "failed", "amounts", "plan_generations", "costs")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What is to be added to an organization's day; ``amount`` in credits, ``cost_microusd`` at providers."""

    org_id: str
    workflow: str
    generations: int = 0
    failed: int = 0
    amount: int = 0
    plan_generations: int = 0
    cost_microusd: int = 0


def of_result(event: GenerationCompleted) -> Usage:
    """Return one more generation, and what it cost us."""
    return Usage(
        org_id=event.org_id, workflow=event.workflow, generations=1, cost_microusd=event.provider_cost_microusd
    )


def of_failure(event: GenerationFailed) -> Usage:
    """Return one more failure, and what it cost us; what was never begun for want of means is none."""
    failed = 0 if event.reason in NOT_BEGUN else 1
    return Usage(
        org_id=event.org_id, workflow=event.workflow, failed=failed, cost_microusd=event.provider_cost_microusd
    )


def of_charge(line: Settled, *, workflow: str) -> Usage:
    """Return what was captured of a line."""
    return _spent(line.org_id, workflow, line.unit, line.captured)


def of_return(line: Returned) -> Usage:
    """Return what is taken off again of what was captured of a line."""
    return _spent(line.org_id, line.workflow or UNKNOWN, line.unit, -line.amount)


def add(session: Session, items: Sequence[Usage]) -> None:
    """Add to today's usage: one statement, and each row of it once."""
    if not items:
        return
    sums: dict[tuple[str, str], list[int]] = {}
    for item in items:
        org_id, workflow, *amounts = astuple(item)
        known = sums.setdefault((org_id, workflow), [0] * len(amounts))
        sums[org_id, workflow] = [one + other for one, other in zip(known, amounts, strict=True)]
    rows = [(*key, *amounts) for key, amounts in sums.items()]
    session.execute(_ADD, {name: [row[place] for row in rows] for place, name in enumerate(_COLUMNS)})


def _spent(org_id: str, workflow: str, unit: str, amount: int) -> Usage:
    return Usage(
        org_id=org_id,
        workflow=workflow,
        amount=amount if unit == CREDITS else 0,
        plan_generations=amount if unit == PLAN_GENERATIONS else 0,
    )
