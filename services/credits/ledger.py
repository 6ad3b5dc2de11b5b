"""The one place where money moves: holds, settlements and grants, each whole or not at all.

What is decided under locks is decided in PostgreSQL (migrations/functions), one round trip a batch. Publishes
nothing; the callers make events of what is returned.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from services.credits import metrics
from services.credits.models import CREDITS, Account, Adjustment, Grant
from services.credits.movements import (
    Expired,
    Hold,
    Outcome,
    PlanChange,
    Request,
    Reserved,
    Returned,
    Settled,
    Threshold,
    Wallet,
    hold_refused,
    refusal,
    rounds,
)
from shared.database import once_committed
from shared.events import HeldLine
from shared.ids import new_id
from shared.problems import Conflict, NotFound, Problem

log = structlog.get_logger(__name__)
T = TypeVar("T")

_RESERVE = sa.text(
    "SELECT * FROM reserve(CAST(:reservation_ids AS text[]), CAST(:job_ids AS text[]), CAST(:org_ids AS text[]),"
    " CAST(:deadlines AS timestamptz[]), CAST(:accepted AS timestamptz[]), CAST(:partials AS boolean[]),"
    " CAST(:waits AS boolean[]),"
    " CAST(:quote_ids AS text[]), CAST(:fingerprints AS text[]), CAST(:workflows AS text[]),"
    " CAST(:session_ids AS text[]), CAST(:actors AS text[]), CAST(:cap_ids AS text[]), CAST(:daily_caps AS bigint[]),"
    " CAST(:requests AS integer[]), CAST(:line_ids AS text[]),"
    " CAST(:skus AS text[]), CAST(:costs AS bigint[]), CAST(:now AS timestamptz))"
).columns(lines=JSONB, holds=JSONB, refusal=JSONB, thresholds=JSONB)
_SETTLE = sa.text(
    "SELECT * FROM settle(CAST(:job_ids AS text[]), CAST(:line_ids AS text[]), CAST(:org_ids AS text[]),"
    " CAST(:amounts AS bigint[]), CAST(:reasons AS text[]), CAST(:now AS timestamptz))"
)
_RETURN = sa.text("SELECT * FROM return_lines(:job_id, :line_id, :reason, :actor, CAST(:now AS timestamptz))")
_EXPIRE = sa.text("SELECT * FROM expire_grants(:most, coalesce(:now, clock_timestamp()))")
_CHANGE_PLAN = sa.text("SELECT * FROM change_plan(:org_id, :plan, :actor, CAST(:now AS timestamptz))")
_WITHDRAW = sa.text("SELECT * FROM withdraw(:id, :org_id, :unit, :amount, :reason, :actor, CAST(:now AS timestamptz))")
# The row a reserve would insert or lock: whichever of the two comes first, the other one sees it.
_CLOSE = sa.text(
    "INSERT INTO reservations AS r (job_id, id, org_id, closed_at)"
    " SELECT job_id, id, org_id, now()"
    " FROM unnest(CAST(:job_ids AS text[]), CAST(:ids AS text[]), CAST(:org_ids AS text[])) AS j (job_id, id, org_id)"
    " ORDER BY job_id"
    " ON CONFLICT (job_id) DO UPDATE SET closed_at = coalesce(r.closed_at, excluded.closed_at)"
    " WHERE r.org_id = excluded.org_id RETURNING job_id"
)
_GIVE = sa.text(
    "SELECT * FROM give(:id, :org_id, :unit, :amount, :kind, :priority, CAST(:expires_at AS timestamptz), :reason,"
    " :actor, :entry_kind)"
)


class UnknownLine(Exception):
    """A result is to be charged to a line that was never held. Never dropped: an operator has to see it."""


def reserve(session: Session, requests: Sequence[Request], *, now: datetime | None = None) -> list[Reserved | Problem]:
    """Hold the lines of each request, whole or (partial ones) as far as the means go; a refused one leaves no trace.

    Lines held before for the same job are left as they are, so a repeat adds nothing. One round trip for any
    number of jobs. ``now`` is the database's time unless given.

    Returns:
        One outcome per request, in order: `Reserved`, or the refusal: `InsufficientCredits`, `QuotaExceeded`,
        `DailyCapReached`, `KeyCapReached`, `JobClosed` (ended, or of another organization), `UnknownSku`, and about a
        quote `NotFound`, `QuoteUsed`, `QuoteExpired`, `QuoteMismatch`.
    """
    outcomes: dict[int, Reserved | Problem] = {}
    for places in rounds(requests):
        rows = session.execute(_RESERVE, {**_reserve_arguments([requests[place] for place in places]), "now": now})
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


def settle(session: Session, outcomes: Sequence[Outcome], *, now: datetime | None = None) -> list[Settled]:
    """End every line that is still open as its outcome says; return those that ended now.

    A line that ended before stays as it was: a repeat is silent, a different outcome is logged and counted.
    A refund of a line that was never held changes nothing, since nothing was taken. What comes back returns to the
    grants it came from (migrations/functions/put_back says what of those that have expired). One round trip.

    Raises:
        UnknownLine: something is to be captured from a line that was never held.
    """
    if not outcomes:
        return []
    first = {(outcome.job_id, outcome.line_id): outcome for outcome in reversed(outcomes)}
    rows = {
        (row.job_id, row.line_id): row
        for row in session.execute(_SETTLE, {**_settle_arguments(first.values()), "now": now})
    }
    for outcome in outcomes:
        row = rows[outcome.job_id, outcome.line_id]
        if row.state == "unknown":
            _unknown(outcome)
        elif row.state == "settled_before" or outcome is not first[outcome.job_id, outcome.line_id]:
            _settled_before(outcome, row)
    settled = [_of(Settled, row) for row in rows.values() if row.state == "settled"]
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


def give(session: Session, given: Grant, *, entry_kind: str = "grant") -> tuple[int, int] | None:
    """Pay a grant out to the wallet of its unit, once per id, and record it.

    Returns:
        ``(available, version)`` of the wallet after it; None when it was paid before.

    Raises:
        Conflict: its id was used before for another organization or amount.
        NotFound: the organization has no account.
    """
    names = ("id", "org_id", "unit", "amount", "kind", "priority", "expires_at", "reason", "actor")
    values = {name: getattr(given, name) for name in names}
    row = session.execute(_GIVE, {**values, "priority": given.priority or 0, "entry_kind": entry_kind}).one_or_none()
    if row is not None:
        return row.available, row.version
    known = session.get(Grant, given.id)
    if known is None:
        raise NotFound(f"The organization {given.org_id} has no account; open one first.")
    if (known.org_id, known.unit, known.kind, known.expires_at) != (
        given.org_id,
        given.unit,
        given.kind,
        given.expires_at,
    ) or known.amount != given.amount:
        raise Conflict(f"The grant id {given.id} was used before for another grant.")
    return None


def add(session: Session, asked: Adjustment) -> tuple[int, int] | None:
    """Add ``asked.amount`` to a wallet as a correction, once per id; returns and raises as `withdraw`."""
    names = ("id", "org_id", "unit", "amount", "reason", "actor")
    values = {name: getattr(asked, name) for name in names}
    _lock_wallet(session, org_id=asked.org_id, unit=asked.unit)  # before the adjustment's row, as `withdraw` does
    added = session.execute(insert(Adjustment).values(values).on_conflict_do_nothing().returning(Adjustment.id))
    if added.one_or_none() is None:
        _check_known(session, asked)
        return None
    wallet = give(session, Grant(**values, kind="compensation", priority=30), entry_kind="adjustment")
    if wallet is None:
        raise Conflict(f"The adjustment id {asked.id} was used before for a grant.")
    return wallet


def withdraw(session: Session, asked: Adjustment, *, now: datetime | None = None) -> tuple[int, int] | None:
    """Take ``-asked.amount`` out of a wallet, from the grants in the order of spending, once per id.

    Returns:
        ``(available, version)`` of the wallet after it; None when it was done before.

    Raises:
        Conflict: the wallet has less, or the id was used before for another organization or amount.
        NotFound: the organization has no account.
    """
    names = ("id", "org_id", "unit", "reason", "actor")
    values = {name: getattr(asked, name) for name in names}
    row = session.execute(_WITHDRAW, {**values, "amount": -asked.amount, "now": now}).one_or_none()
    if row is None:
        _check_known(session, asked)
        return None
    if row.refused:
        raise Conflict(f"{-asked.amount} are to be taken back, and {row.available} are available.")
    return row.available, row.version


def return_lines(
    session: Session, *, job_id: str, line_id: str | None, reason: str, actor: str, now: datetime | None = None
) -> list[Returned]:
    """Give back what was captured of a job's lines, or of one; each line once, and never more than was captured.

    Raises:
        NotFound: there is no such job, or line in it.
        Conflict: nothing was captured yet that could be given back.
    """
    values = {"job_id": job_id, "line_id": line_id, "reason": reason, "actor": actor, "now": now}
    rows = session.execute(_RETURN, values).all()
    if not rows:
        raise NotFound("Nothing was ever held for this job, or for this generation of it.")
    returned = [_of(Returned, row) for row in rows if row.state in ("returned", "returned_before")]
    if not returned:
        held = any(row.state == "held" for row in rows)
        why = "its credits are still held, and settle when it ends" if held else "nothing was charged for it"
        raise Conflict(f"There is nothing to give back: {why}.")
    once_committed(session, lambda: _count_returned(returned))
    return returned


def expire_grants(session: Session, *, most: int = 500, now: datetime | None = None) -> list[Expired]:
    """Take what is left of expired grants out of their wallets; any number of replicas may do so at once."""
    return [_of(Expired, row) for row in session.execute(_EXPIRE, {"most": most, "now": now})]


def change_plan(session: Session, *, org_id: str, plan: str, actor: str, now: datetime | None = None) -> PlanChange:
    """Give an organization another plan, and this month's allowance the size of it: what was used stays used.

    Raises:
        NotFound: the organization has no account.
    """
    values = {"org_id": org_id, "plan": plan, "actor": actor, "now": now}
    row = session.execute(_CHANGE_PLAN, values).one_or_none()
    if row is None:
        raise NotFound(f"The organization {org_id} has no account.")
    return _of(PlanChange, row)


def _reserve_arguments(requests: Sequence[Request]) -> dict[str, Any]:
    lines = [
        (place, line_id, sku, request.costs.get(line_id, 0))
        for place, request in enumerate(requests, start=1)
        for line_id, sku in request.lines.items()
    ]
    return {
        "reservation_ids": [new_id("rsv") for _ in requests],
        "job_ids": [request.job_id for request in requests],
        "org_ids": [request.org_id for request in requests],
        "deadlines": [request.deadline_at for request in requests],
        "accepted": [request.accepted_at for request in requests],
        "partials": [request.partial for request in requests],
        "waits": [request.waits for request in requests],
        "quote_ids": [request.quote_id for request in requests],
        "fingerprints": [request.fingerprint for request in requests],
        "workflows": [request.workflow for request in requests],
        "session_ids": [request.session_id for request in requests],
        "actors": [request.actor for request in requests],
        "cap_ids": [request.cap_id for request in requests],
        "daily_caps": [request.daily_cap for request in requests],
        "requests": [place for place, _, _, _ in lines],
        "line_ids": [line_id for _, line_id, _, _ in lines],
        "skus": [sku for _, _, sku, _ in lines],
        "costs": [cost for _, _, _, cost in lines],
    }


def _reserve_outcome(row: sa.Row[Any]) -> Reserved | Problem:
    if row.outcome != "held":
        return refusal(row.outcome, row.refusal or {})
    return Reserved(
        reservation_id=row.reservation_id,
        lines=[HeldLine(**line) for line in row.lines or []],
        holds=[Hold(**hold) for hold in row.holds or []],
        wallet=Wallet(available=row.available or 0, held=row.held or 0, version=row.version or 0),
        shortfall=hold_refused(row.refusal["code"], row.refusal) if row.refusal else None,
        thresholds=[Threshold(**threshold) for threshold in row.thresholds or []],
    )


def _settle_arguments(outcomes: Collection[Outcome]) -> dict[str, Any]:
    return {
        "job_ids": [outcome.job_id for outcome in outcomes],
        "line_ids": [outcome.line_id for outcome in outcomes],
        "org_ids": [outcome.org_id for outcome in outcomes],
        "amounts": [outcome.amount for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
    }


def _of(kind: type[T], row: sa.Row[Any]) -> T:
    """Make a plain value of the columns of a row that are called as its fields."""
    return kind(**{item.name: getattr(row, item.name) for item in fields(kind)})  # type: ignore[arg-type]  # T is a dataclass


def _lock_wallet(session: Session, *, org_id: str, unit: str) -> None:
    wallet = sa.select(Account.id).where(Account.org_id == org_id, Account.unit == unit, Account.kind == "wallet")
    session.execute(wallet.with_for_update(key_share=True))


def _check_known(session: Session, asked: Adjustment) -> None:
    known = session.get(Adjustment, asked.id)
    if known is None:
        raise NotFound(f"The organization {asked.org_id} has no account.")
    if (known.org_id, known.unit, known.amount) != (asked.org_id, asked.unit, asked.amount):
        raise Conflict(f"The adjustment id {asked.id} was used before for another organization or amount.")


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


def _count_returned(returned: Sequence[Returned]) -> None:
    amount = sum(line.amount for line in returned if line.unit == CREDITS and line.version is not None)
    if amount:
        metrics.refunded.labels("returned_by_admin").inc(amount)
