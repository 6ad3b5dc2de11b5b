"""What can be asked of credits: balances, history, prices. Reads only; the proof of the ledger is in `audit`."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from services.credits.models import CREDITS, PLAN_GENERATIONS, Account, Entry, Line, OrganizationPlan, Plan
from shared.problems import BadRequest, NotFound

PAGE = 50
LARGEST_PAGE = 200

# Of a transfer's two entries the one that tells its story: the wallet's, or where the wallet is not touched, held's.
_SHOWN = sa.or_(Entry.version.is_not(None), sa.and_(Entry.kind == "capture", Entry.amount < 0))

_MONTH = sa.func.date_trunc("month", sa.func.now(), "UTC")
_NEXT_MONTH = _MONTH + sa.text("interval '1 month'")
_PRICES = sa.text(
    "SELECT p.sku, p.unit, p.amount, p.product"
    " FROM (SELECT DISTINCT sku FROM price_book) known, price_at(known.sku, now()) p ORDER BY p.sku"
)


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
        raise NotFound(f"The organization {org_id} has no account.")
    return dict(row._mapping)  # noqa: SLF001  the documented way to a row's names


def balance(session: Session, *, org_id: str) -> dict[str, Any]:
    """Return ``{available, held, version, plan, quota: {limit, used, resets_at}}``.

    ``quota`` counts plan generations of this month (UTC), those held included; a ``limit`` of None is none.

    Raises:
        NotFound: the organization has no account.
    """
    used = (
        sa.select(
            sa.func.coalesce(sa.func.sum(sa.case((Line.status == "held", Line.amount), else_=Line.captured_amount)), 0)
        )
        .where(Line.org_id == org_id, Line.unit == PLAN_GENERATIONS, Line.created_at >= _MONTH)
        .scalar_subquery()
    )
    row = session.execute(
        sa.select(Plan.name, Plan.monthly_generations, used.label("used"), _NEXT_MONTH.label("resets_at"))
        .join(OrganizationPlan, OrganizationPlan.plan == Plan.name)
        .where(OrganizationPlan.org_id == org_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"The organization {org_id} has no account.")
    quota = {"limit": row.monthly_generations, "used": int(row.used), "resets_at": _rfc3339(row.resets_at)}
    return {**wallet(session, org_id=org_id), "plan": row.name, "quota": quota}


def entries(
    session: Session,
    *,
    org_id: str,
    limit: int = PAGE,
    after: str | None = None,
    product: str | None = None,
    job: str | None = None,
) -> dict[str, Any]:
    """Return the history of an organization, newest first: one item per transfer.

    ``amount`` is the change of what is available and ``held`` that of what is held: the first summed over all items
    of a unit is its balance, the second what is held. Only a change of the wallet has a balance before and after.

    Args:
        session: of a transaction of the organization.
        org_id: whose history.
        limit: items at most, 1 to 200.
        after: the ``next_cursor`` of the page before.
        product: only what paid for this product line, such as ``staging``.
        job: only what belongs to this job.

    Raises:
        BadRequest: limit or cursor make no sense.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadRequest(f"A page has 1 to {LARGEST_PAGE} entries, not {limit}.")
    chosen = sa.select(Entry).where(Entry.org_id == org_id, _SHOWN).order_by(Entry.id.desc()).limit(limit + 1)
    if after is not None:
        chosen = chosen.where(Entry.id < _position(session, after, org_id=org_id))
    if product is not None:
        chosen = chosen.where(Entry.product == product)
    if job is not None:
        chosen = chosen.where(Entry.job_id == job)
    rows = session.scalars(chosen).all()
    page = rows[:limit]
    more = len(rows) > limit
    return {
        "data": [_entry(row) for row in page],
        "has_more": more,
        "next_cursor": page[-1].transfer_id if more else None,
    }


def pricing(session: Session) -> dict[str, Any]:
    """Return the prices in force: ``{data: [{sku, unit, amount, product}]}``, by SKU."""
    return {"data": [dict(row) for row in session.execute(_PRICES).mappings()]}


def open_reservations(session: Session) -> int:
    """Return how many jobs hold something."""
    counted = sa.select(sa.func.count(sa.distinct(Line.job_id))).where(Line.status == "held")
    return session.scalars(counted).one()


def _entry(row: Entry) -> dict[str, Any]:
    moved = row.amount if row.version is not None else 0
    held = {"hold": -row.amount, "refund": -row.amount, "capture": row.amount}.get(row.kind, 0)
    return {
        "id": row.transfer_id,  # not the row's number: that would tell how busy everybody else is
        "kind": row.kind,
        "unit": row.unit,
        "amount": moved,
        "held": held,
        "available_before": None if row.available_after is None else row.available_after - moved,
        "available_after": row.available_after,
        "version": row.version,
        "job_id": row.job_id,
        "generation_id": row.line_id,
        "grant_id": row.grant_id,
        "sku": row.sku,
        "product": row.product,
        "reason": row.reason,
        "actor": row.actor,
        "created_at": _rfc3339(row.created_at),
    }


def _position(session: Session, cursor: str, *, org_id: str) -> int:
    """Return the number of the entry a cursor names."""
    found = sa.select(Entry.id).where(Entry.org_id == org_id, Entry.transfer_id == cursor, _SHOWN)
    position = session.scalars(found).one_or_none()
    if position is None:
        raise BadRequest("There is no such cursor; take next_cursor of the page before as it is.")
    return position


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
