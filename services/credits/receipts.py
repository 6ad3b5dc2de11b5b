"""The receipt of a job: what was held for it, line by line, and what became of that. Reads only."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits.models import Line, Reservation
from services.credits.movements import CACHE_HIT
from shared.pages import PAGE, check_limit, no_such_cursor, page
from shared.problems import NotFound
from shared.times import rfc3339

_MONEY = ("held", "charged", "refunded", "returned", "open")
# held = charged + refunded + returned + open, of every line, and so of every sum.
_AMOUNTS = """
    amount AS held, captured_amount - returned_amount AS charged,
    CASE status WHEN 'held' THEN 0 ELSE amount - captured_amount END AS refunded, returned_amount AS returned,
    CASE status WHEN 'held' THEN amount ELSE 0 END AS open
"""
_SUMS = sa.text(f"""
    SELECT unit, reason, return_reason, count(*)::integer AS lines, min(created_at) AS held_at,
        {", ".join(f"sum({name})::bigint AS {name}" for name in _MONEY)}
    FROM (
        SELECT unit, reason, return_reason, created_at, {_AMOUNTS} FROM lines
        WHERE job_id = :job_id AND org_id = :org_id
    ) line
    GROUP BY unit, reason, return_reason
    ORDER BY unit, reason, return_reason
""")
_LINES = sa.text(f"""
    SELECT line.*, coalesce(taken.grants, '[]') AS grants
    FROM (
        SELECT line_id AS generation_id, sku, unit, price_version, reason, return_reason, status, created_at AS held_at,
            settled_at, grant_ids, grant_amounts, {_AMOUNTS}
        FROM lines
        WHERE job_id = :job_id AND org_id = :org_id AND (CAST(:after AS text) IS NULL OR line_id > :after)
        ORDER BY line_id LIMIT :most
    ) line
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(
            jsonb_build_object('grant_id', part.grant_id, 'kind', g.kind, 'amount', part.amount)
            ORDER BY array_position(line.grant_ids, part.grant_id)
        ) AS grants
        FROM grant_parts(line.grant_ids, line.grant_amounts, 0, line.charged + line.open) part
        JOIN grants g ON g.id = part.grant_id
    ) taken
    ORDER BY line.generation_id
""")


def receipt(
    session: Session, *, org_id: str, job_id: str, limit: int = PAGE, after: str | None = None
) -> dict[str, Any]:
    """Return what was held for a job and what became of it; sums are over all lines, whatever the page.

    Of what was held, ``charged`` is paid, ``refunded`` came back as the lines ended, ``returned`` was given back by
    support after it had been charged, and ``open`` is still held: the four add up to it, in every line and every
    total. What came back for a cached result is a discount, everything else a refund. A line's ``grants`` are what it
    takes from which grant now, ``charged`` and ``open`` together.

    Args:
        session: of a transaction of the organization.
        org_id: whose job.
        job_id: the job.
        limit: lines at most, 1 to 200; they come in the order of their ids.
        after: the ``next_cursor`` of the page before.

    Returns:
        ``{job_id, reservation_id, workflow, quote_id, priced_at, held_at, closed, totals: {unit: {held, charged,
        refunded, returned, open}}, discounts, refunds, returns: [{reason, unit, amount, lines}], lines: {data,
        has_more, next_cursor}}``; a line is ``{generation_id, sku, unit, price_version, held, charged, refunded,
        returned, open, reason, return_reason, status, held_at, settled_at, grants: [{grant_id, kind, amount}]}``. No
        reservation, and no lines, where the job ended before anything was held.

    Raises:
        NotFound: nothing is known of such a job: there is none, or all of it was free of charge.
        BadRequest: limit or cursor make no sense.
    """
    check_limit(limit)
    known = session.scalars(
        sa.select(Reservation).where(Reservation.job_id == job_id, Reservation.org_id == org_id)
    ).one_or_none()
    if known is None:
        raise NotFound("Nothing was ever held for this job.")
    if after is not None:
        _check_cursor(session, after, known)
    scope = {"job_id": job_id, "org_id": org_id}
    sums = session.execute(_SUMS, scope).all()
    lines = session.execute(_LINES, {**scope, "after": after, "most": limit + 1}).all()
    return {
        **_head(known, sums),
        "totals": _totals(sums),
        "discounts": _by_reason(sums, "refunded", lambda row: row.reason, where=lambda why: why == CACHE_HIT),
        "refunds": _by_reason(sums, "refunded", lambda row: row.reason, where=lambda why: why != CACHE_HIT),
        "returns": _by_reason(sums, "returned", lambda row: row.return_reason),
        "lines": page(lines, limit=limit, show=_line, key="generation_id"),
    }


def _head(known: Reservation, sums: Sequence[sa.Row[Any]]) -> dict[str, Any]:
    return {
        "job_id": known.job_id,
        "reservation_id": known.id if sums else None,
        "workflow": known.workflow,
        "quote_id": known.quote_id,
        "priced_at": rfc3339(known.priced_at) if sums else None,
        "held_at": rfc3339(min(row.held_at for row in sums)) if sums else None,
        "closed": known.closed_at is not None,
    }


def _totals(sums: Sequence[sa.Row[Any]]) -> dict[str, dict[str, int]]:
    return {
        unit: {name: sum(getattr(row, name) for row in sums if row.unit == unit) for name in _MONEY}
        for unit in sorted({row.unit for row in sums})
    }


def _by_reason(
    sums: Sequence[sa.Row[Any]],
    name: str,
    reason_of: Callable[[sa.Row[Any]], str | None],
    *,
    where: Callable[[str], bool] = lambda _: True,
) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sums:
        reason = reason_of(row)
        if reason is None or not where(reason):
            continue
        item = found.setdefault((reason, row.unit), {"reason": reason, "unit": row.unit, "amount": 0, "lines": 0})
        item["amount"] += getattr(row, name)
        item["lines"] += row.lines
    return [found[key] for key in sorted(found)]


def _line(row: sa.Row[Any]) -> dict[str, Any]:
    names = ("generation_id", "sku", "unit", "price_version", *_MONEY, "reason", "return_reason", "status", "grants")
    return {
        **{name: getattr(row, name) for name in names},
        "held_at": rfc3339(row.held_at),
        "settled_at": rfc3339(row.settled_at) if row.settled_at else None,
    }


def _check_cursor(session: Session, cursor: str, known: Reservation) -> None:
    if session.get(Line, (known.job_id, cursor)) is None:
        raise no_such_cursor()
