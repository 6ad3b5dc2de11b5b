"""What can be asked of credits: balances, usage, plans, prices. Reads only.

History and receipts have files of their own; the proof of the ledger is in `audit`.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from services.credits.models import CREDITS, Account, DailyUsage, Line, Plan
from services.credits.moments import moment
from shared.problems import BadRequest, NotFound
from shared.times import rfc3339

USAGE_DAYS = 30
MOST_USAGE_DAYS = 366

_COUNTS = ("generations", "failed", "credits", "plan_generations")
# The month's allowance is opened by its first hold; before that nothing of it is used.
_PLAN = sa.text("""
    SELECT o.plan, p.monthly_generations AS "limit",
        coalesce((
            SELECT amount - withdrawn - expired - remaining FROM grants
            WHERE id = allowance_id(o.org_id, t.moment)
        ), 0) AS used,
        date_trunc('month', date_trunc('month', t.moment, 'UTC') + interval '32 days', 'UTC') AS resets_at,
        (SELECT coalesce(sum(generations), 0)::bigint FROM daily_usage WHERE org_id = o.org_id) AS generations,
        (SELECT captured_total FROM accounts WHERE org_id = o.org_id AND unit = 'credits' AND kind = 'held') - (
            SELECT coalesce(sum(returned_amount), 0)::bigint FROM lines
            WHERE org_id = o.org_id AND unit = 'credits' AND returned_amount > 0
        ) AS credits_spent
    FROM organization_plans o
    JOIN plans p ON p.name = o.plan
    CROSS JOIN (SELECT coalesce(CAST(:now AS timestamptz), now()) AS moment) t
    WHERE o.org_id = :org_id
""")
# A price ends where it says so, or where the next one of its SKU begins.
_PRICES = sa.text("""
    SELECT sku, unit, amount, product, id AS price_version, valid_from, ends AS valid_to,
        valid_from > moment AS announced
    FROM (
        SELECT *, least(valid_to, lead(valid_from) OVER (PARTITION BY sku ORDER BY valid_from)) AS ends,
            coalesce(CAST(:now AS timestamptz), now()) AS moment
        FROM price_book
    ) price
    WHERE ends IS NULL OR ends > moment
    ORDER BY sku, valid_from
""")


def wallet(session: Session, *, org_id: str) -> dict[str, Any]:
    """Return the balance in credits: ``{available, held, version}``.

    Raises:
        NotFound: the organization has no account.
    """
    purse, holder = aliased(Account), aliased(Account)
    row = session.execute(
        sa.select(purse.available, (purse.held_total - holder.captured_total).label("held"), purse.version)
        .join(holder, sa.and_(holder.org_id == purse.org_id, holder.unit == purse.unit, holder.kind == "held"))
        .where(purse.org_id == org_id, purse.unit == CREDITS, purse.kind == "wallet")
    ).one_or_none()
    if row is None:
        raise _no_account(org_id)
    return dict(row._mapping)  # noqa: SLF001  the documented way to a row's names


def balance(session: Session, *, org_id: str, now: datetime | None = None) -> dict[str, Any]:
    """Return ``{available, held, version, plan, quota: {limit, used, resets_at}, counters}``.

    ``quota`` counts what is used of this month's allowance of plan generations (UTC), those held included; a
    ``limit`` of None is none. ``counters`` are ``{generations, credits_spent}`` since the account was opened: what
    was made, and what was paid for it and not given back. ``now`` is the database's time unless given.

    Raises:
        NotFound: the organization has no account.
    """
    row = session.execute(_PLAN, {"org_id": org_id, "now": now}).one_or_none()
    if row is None:
        raise _no_account(org_id)
    return {
        **wallet(session, org_id=org_id),
        "plan": row.plan,
        "quota": {"limit": row.limit, "used": row.used, "resets_at": rfc3339(row.resets_at)},
        "counters": {"generations": row.generations, "credits_spent": row.credits_spent},
    }


def usage(
    session: Session, *, org_id: str, since: str | None = None, until: str | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """Return what an organization made and spent, by day (UTC) and workflow, the oldest day first.

    Args:
        session: of a transaction of the organization.
        org_id: whose usage.
        since: the first day (2031-05-01), or an RFC 3339 time in it; 30 days with ``until`` unless given.
        until: the last day, or an RFC 3339 time the period ends before; today unless given.
        now: what today is; the time it is unless given.

    Returns:
        ``{data: [{day, workflow, generations, failed, credits, plan_generations}], totals}``; days on which nothing
        happened are left out, and one on which charges were given back may be below zero.

    Raises:
        BadRequest: a time is none, or the period is backwards or longer than 366 days.
    """
    first, last = _period(since, until, today=(now or datetime.now(UTC)).astimezone(UTC).date())
    columns = [getattr(DailyUsage, name) for name in _COUNTS]
    rows = session.execute(
        sa.select(DailyUsage.day, DailyUsage.workflow, *columns)
        .where(DailyUsage.org_id == org_id, DailyUsage.day.between(first, last))
        .order_by(DailyUsage.day, DailyUsage.workflow)
    ).mappings()
    data = [{**row, "day": row["day"].isoformat()} for row in rows]
    return {"data": data, "totals": {name: sum(row[name] for row in data) for name in _COUNTS}}


def pricing(session: Session, *, now: datetime | None = None) -> dict[str, Any]:
    """Return the prices in force, by SKU, and in ``upcoming`` those that are announced, by SKU and begin.

    Returns:
        ``{data, upcoming: [{sku, unit, amount, product, price_version, valid_from, valid_to}]}``; ``valid_to`` is
        when the price ends or the next one begins, as far as that is known.
    """
    prices = [(row["announced"], _price(row)) for row in session.execute(_PRICES, {"now": now}).mappings()]
    return {
        "data": [price for announced, price in prices if not announced],
        "upcoming": [price for announced, price in prices if announced],
    }


def plans(session: Session) -> dict[str, Any]:
    """Return ``{data: [{name, monthly_generations, price_usd_cents}]}``, the cheapest first; None is without limit."""
    rows = session.execute(
        sa.select(Plan.name, Plan.monthly_generations, Plan.price_usd_cents).order_by(Plan.price_usd_cents, Plan.name)
    ).mappings()
    return {"data": [dict(row) for row in rows]}


def open_reservations(session: Session) -> int:
    """Return how many jobs hold something."""
    counted = sa.select(sa.func.count(sa.distinct(Line.job_id))).where(Line.status == "held")
    return session.scalars(counted).one()


def _price(row: sa.RowMapping) -> dict[str, Any]:
    shown = {name: row[name] for name in ("sku", "unit", "amount", "product", "price_version")}
    ends = row["valid_to"]
    return {**shown, "valid_from": rfc3339(row["valid_from"]), "valid_to": rfc3339(ends) if ends else None}


def _period(since: str | None, until: str | None, *, today: date) -> tuple[date, date]:
    """Return the first and the last day; the last one may be the day before the first, for a period of no time."""
    try:
        last = _day(until, just_before=True) if until else today
        first = _day(since) if since else last - timedelta(days=USAGE_DAYS - 1)
        before_first = first - timedelta(days=1)
    except OverflowError as error:
        raise BadRequest("There are no days so early; ask for a later period.") from error
    if last < before_first:
        raise BadRequest(f"The period ends on {last} before it begins on {first}; exchange since and until.")
    if (last - first).days >= MOST_USAGE_DAYS:
        raise BadRequest(f"Usage is shown for at most {MOST_USAGE_DAYS} days; ask for a shorter period.")
    return first, last


def _day(text: str, *, just_before: bool = False) -> date:
    """Return the day a text names, or in which its time lies; ``just_before`` it, where the time ends a period."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        time = moment(text).astimezone(UTC)
        return (time - timedelta.resolution if just_before else time).date()


def _no_account(org_id: str) -> NotFound:
    return NotFound(f"The organization {org_id} has no account.")
