"""The one place where money moves: holds, settlements and grants, each whole or not at all.

What is decided under locks is decided in PostgreSQL (migrations/functions), one round trip a batch. Publishes
nothing; the callers make events of what is returned.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from services.credits import metrics
from services.credits.models import CREDITS, Grant
from services.credits.movements import Hold, Outcome, Request, Reserved, Settled, UnknownSku, Wallet, rounds
from shared.database import once_committed
from shared.events import HeldLine
from shared.ids import new_id
from shared.problems import Conflict, InsufficientCredits, JobClosed, NotFound, Problem

log = structlog.get_logger(__name__)

_RESERVE = sa.text(
    "SELECT * FROM reserve(CAST(:reservation_ids AS text[]), CAST(:job_ids AS text[]), CAST(:org_ids AS text[]),"
    " CAST(:deadlines AS timestamptz[]), CAST(:requests AS integer[]), CAST(:line_ids AS text[]),"
    " CAST(:skus AS text[]))"
).columns(lines=JSONB, holds=JSONB, refusal=JSONB)
_SETTLE = sa.text(
    "SELECT * FROM settle(CAST(:job_ids AS text[]), CAST(:line_ids AS text[]), CAST(:org_ids AS text[]),"
    " CAST(:amounts AS bigint[]), CAST(:reasons AS text[]))"
)
# The row a reserve would insert or lock: whichever of the two comes first, the other one sees it.
_CLOSE = sa.text(
    "INSERT INTO reservations AS r (job_id, id, org_id, closed_at)"
    " SELECT job_id, id, org_id, now()"
    " FROM unnest(CAST(:job_ids AS text[]), CAST(:ids AS text[]), CAST(:org_ids AS text[])) AS j (job_id, id, org_id)"
    " ORDER BY job_id"
    " ON CONFLICT (job_id) DO UPDATE SET closed_at = coalesce(r.closed_at, excluded.closed_at)"
    " WHERE r.org_id = excluded.org_id RETURNING job_id"
)
_GIVE = sa.text("SELECT * FROM give(:id, :org_id, :unit, :amount, :kind, :reason, :actor)")


class UnknownLine(Exception):
    """A result is to be charged to a line that was never held. Never dropped: an operator has to see it."""


def reserve(session: Session, requests: Sequence[Request]) -> list[Reserved | Problem]:
    """Hold the lines of each request, whole or not at all; a refused one leaves no trace.

    Lines held before for the same job are left as they are, so a repeat adds nothing. One round trip for any
    number of jobs.

    Returns:
        One outcome per request, in order: `Reserved`, or the refusal: `InsufficientCredits`, `JobClosed` (ended, or
        of another organization), `UnknownSku`.
    """
    outcomes: dict[int, Reserved | Problem] = {}
    for places in rounds(requests):
        rows = session.execute(_RESERVE, _reserve_arguments([requests[place] for place in places]))
        outcomes.update({places[row.request - 1]: _reserve_outcome(row) for row in rows})
    held = sum(
        hold.amount
        for outcome in outcomes.values()
        if isinstance(outcome, Reserved)
        for hold in outcome.holds
        if hold.unit == CREDITS
    )
    once_committed(session, lambda: metrics.reserved.inc(held))
    return [outcomes[place] for place in range(len(requests))]


def settle(session: Session, outcomes: Sequence[Outcome]) -> list[Settled]:
    """End every line that is still open as its outcome says; return those that ended now.

    A line that ended before stays as it was: a repeat is silent, a different outcome is logged and counted.
    A refund of a line that was never held changes nothing, since nothing was taken. One round trip.

    Raises:
        UnknownLine: something is to be captured from a line that was never held.
    """
    if not outcomes:
        return []
    first = {(outcome.job_id, outcome.line_id): outcome for outcome in reversed(outcomes)}
    rows = {(row.job_id, row.line_id): row for row in session.execute(_SETTLE, _settle_arguments(first.values()))}
    for outcome in outcomes:
        row = rows[outcome.job_id, outcome.line_id]
        if row.state == "unknown":
            _unknown(outcome)
        elif row.state == "settled_before" or outcome is not first[outcome.job_id, outcome.line_id]:
            _settled_before(outcome, row)
    settled = [_settled(row) for row in rows.values() if row.state == "settled"]
    once_committed(session, lambda: _count(settled))
    return settled


def close_jobs(session: Session, jobs: Mapping[str, str]) -> None:
    """Let no further line be held for these jobs, known here or not; ``jobs`` maps each to its organization."""
    closed = session.scalars(
        _CLOSE,
        {"job_ids": list(jobs), "ids": [new_id("rsv") for _ in jobs], "org_ids": list(jobs.values())},
    ).all()
    for job_id in set(jobs).difference(closed):
        log.error("job_of_another_organization", job_id=job_id, org_id=jobs[job_id])


def give(session: Session, given: Grant) -> tuple[int, int] | None:
    """Pay a grant out to the wallet of its unit, once per id, and record it.

    Returns:
        ``(available, version)`` of the wallet after it; None when it was paid before.

    Raises:
        Conflict: its id was used before for another organization or amount.
        NotFound: the organization has no account.
    """
    names = ("id", "org_id", "unit", "amount", "kind", "reason", "actor")
    row = session.execute(_GIVE, {name: getattr(given, name) for name in names}).one_or_none()
    if row is not None:
        return row.available, row.version
    known = session.get(Grant, given.id)
    if known is None:
        raise NotFound(f"The organization {given.org_id} has no account; open one first.")
    if (known.org_id, known.unit, known.amount) != (given.org_id, given.unit, given.amount):
        raise Conflict(f"The grant id {given.id} was used before for another organization or amount.")
    return None


def _reserve_arguments(requests: Sequence[Request]) -> dict[str, Any]:
    lines = [
        (place, line_id, sku)
        for place, request in enumerate(requests, start=1)
        for line_id, sku in request.lines.items()
    ]
    return {
        "reservation_ids": [new_id("rsv") for _ in requests],
        "job_ids": [request.job_id for request in requests],
        "org_ids": [request.org_id for request in requests],
        "deadlines": [request.deadline_at for request in requests],
        "requests": [place for place, _, _ in lines],
        "line_ids": [line_id for _, line_id, _ in lines],
        "skus": [sku for _, _, sku in lines],
    }


def _reserve_outcome(row: sa.Row[Any]) -> Reserved | Problem:
    if row.outcome == "job_closed":
        return JobClosed()
    if row.outcome == "unknown_sku":
        sku = row.refusal["sku"]
        return UnknownSku(f"The price book has no price for {sku!r}; nothing was held.", sku=sku)
    if row.outcome == "insufficient":
        required, available, unit = (row.refusal[name] for name in ("required", "available", "unit"))
        what = unit.replace("_", " ")
        return InsufficientCredits(
            f"This needs {required} {what}, and {available} are available. Nothing was charged.", **row.refusal
        )
    return Reserved(
        reservation_id=row.reservation_id,
        lines=[HeldLine(**line) for line in row.lines or []],
        holds=[Hold(**hold) for hold in row.holds or []],
        wallet=Wallet(available=row.available or 0, held=row.held or 0, version=row.version or 0),
    )


def _settle_arguments(outcomes: Collection[Outcome]) -> dict[str, Any]:
    return {
        "job_ids": [outcome.job_id for outcome in outcomes],
        "line_ids": [outcome.line_id for outcome in outcomes],
        "org_ids": [outcome.org_id for outcome in outcomes],
        "amounts": [outcome.amount for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
    }


def _settled(row: sa.Row[Any]) -> Settled:
    return Settled(**{name: getattr(row, name) for name in Settled.__dataclass_fields__})


def _unknown(outcome: Outcome) -> None:
    if outcome.amount > 0:
        raise UnknownLine(
            f"{outcome.amount} are to be captured for line {outcome.line_id} of {outcome.job_id}"
            f" ({outcome.org_id}), and nothing was ever held for it"
        )
    log.info("line_was_never_held", job_id=outcome.job_id, line_id=outcome.line_id, org_id=outcome.org_id)


def _settled_before(outcome: Outcome, row: sa.Row[Any]) -> None:
    if min(outcome.amount, row.captured + row.refunded) == row.captured:
        return
    log.warning(
        "line_already_settled",
        job_id=outcome.job_id,
        line_id=outcome.line_id,
        captured=row.captured,
        ignored_capture=outcome.amount,
    )
    metrics.late_settlements.inc()


def _count(settled: Sequence[Settled]) -> None:
    for line in settled:
        if line.unit == CREDITS:
            metrics.captured.inc(line.captured)
            if line.refunded:
                metrics.refunded.labels(line.reason).inc(line.refunded)
