"""A dry run: what a job would hold, asked of credits for real and undone there; nothing is written here.

A test key's job holds nothing: its dry run says what a live key's would cost, whatever the balance is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.generation import trials
from services.generation.engine import Engine
from services.generation.holding import Credits
from services.generation.jobs import deadline
from services.generation.planning import Plan, expected_cost_microusd
from services.generation.sources import latest_end
from services.generation.submissions import Submission
from shared.ids import new_id
from shared.problems import HoldRefused


def rehearse(credits_service: Credits, engine: Engine, asked: Submission, plan: Plan) -> dict[str, Any]:
    """Return what the job would hold, and why not everything.

    Returns:
        ``{dry_run, workflow, amount, totals: {unit: amount}, lines: [{sku, unit, count, unit_amount, amount}], images,
        estimated_seconds, balance: {available, held, version} | None, shortfall: {code, detail, …} | None}``;
        ``amount`` is the sum, as that of a quote.

    Raises:
        HoldRefused, QuoteExpired, QuoteUsed, QuoteMismatch, NotFound, Unavailable: as the job would be refused.
    """
    answer = _nothing_held(None)
    if asked.livemode and not plan.free:
        answer = _ask(credits_service, engine, asked, plan)
    lines = _by_sku(answer["lines"]) if asked.livemode else trials.estimate(credits_service, asked.named, plan=plan)
    totals: Counter[str] = Counter()
    for line in lines:
        totals[line["unit"]] += line["amount"]
    balance = {name: answer[name] for name in ("available", "held", "version")} if "available" in answer else None
    return {
        "dry_run": True,
        "workflow": plan.workflow,
        "amount": totals.total(),
        "totals": dict(totals),
        "lines": lines,
        "images": plan.images,
        "estimated_seconds": plan.estimated_seconds,
        "balance": balance,
        "shortfall": answer.get("shortfall"),
    }


def _ask(credits_service: Credits, engine: Engine, asked: Submission, plan: Plan) -> Mapping[str, Any]:
    now = datetime.now(UTC)
    ends = deadline(
        now,
        estimated_seconds=plan.estimated_seconds,
        asked_seconds=asked.deadline_seconds,
        sources_until=latest_end(asked.assets),
    )
    request: dict[str, Any] = {
        "org_id": asked.org_id,
        "job_id": asked.job_id,
        "deadline_at": ends.isoformat(),
        "lines": [
            {"line_id": new_id("gen"), "sku": item.sku, "cost_microusd": expected_cost_microusd(engine, item)}
            for item in plan.generations
            if item.sku
        ],
        "partial": asked.on_insufficient != "reject",
        "workflow": plan.workflow,
        "session_id": asked.session_id,
        "actor": asked.user_id,
        "accepted_at": now.isoformat(),
        "cap_id": asked.cap_id,
        "daily_cap": asked.daily_cap,
        "dry_run": True,
    }
    if asked.quote_id:
        request |= {"quote_id": asked.quote_id, "fingerprint": plan.fingerprint}
    try:
        return credits_service.reserve(**request)
    except HoldRefused as refusal:
        if asked.on_insufficient != "pause":
            raise
        return _nothing_held({**refusal.extra, "code": refusal.code, "detail": refusal.detail})


def _nothing_held(shortfall: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {"lines": [], "shortfall": shortfall}


def _by_sku(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add lines up that are alike: ``{sku, unit, count, unit_amount, amount}``, in the order they come first."""
    counts = Counter((line["sku"], line["unit"], line["amount"]) for line in lines)
    return [
        {"sku": sku, "unit": unit, "count": count, "unit_amount": amount, "amount": count * amount}
        for (sku, unit, amount), count in counts.items()
    ]
