"""Quotes: a price that is promised for a while to one job."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.credits.models import Quote
from services.credits.movements import refusal
from shared.database import Database
from shared.problems import Conflict, UnknownSku
from shared.times import rfc3339

GOOD_FOR = timedelta(minutes=15)
KEPT = timedelta(days=30)

_PRICES = sa.text(
    "SELECT asked.sku, asked.count, p.unit, p.amount, p.id AS price_version"
    " FROM unnest(CAST(:skus AS text[]), CAST(:counts AS integer[])) WITH ORDINALITY AS asked (sku, count, place)"
    " LEFT JOIN price_at(asked.sku, now()) p ON true ORDER BY asked.place"
)
_PRUNE = sa.text("DELETE FROM quotes WHERE job_id IS NULL AND expires_at < now() - CAST(:kept AS interval)")


def quote(  # noqa: PLR0913  an argument for each part of the promise
    db: Database,
    *,
    org_id: str,
    livemode: bool,
    quote_id: str,
    workflow: str,
    fingerprint: str,
    skus: Mapping[str, int],
    images: int,
    estimated_seconds: int,
) -> dict[str, Any]:
    """Promise today's prices for so many lines of each SKU, for 15 minutes; a repeat answers with the same quote.

    Returns:
        ``{id, livemode, workflow, amount, totals, lines, images, estimated_seconds, created_at, expires_at}``:
        ``lines`` are ``{sku, unit, count, unit_amount, amount, price_version}``, ``totals`` the amounts by unit.
        A test key is promised what a live one would be, though its job will cost nothing.

    Raises:
        UnknownSku: there is no price for one of them.
        Conflict: the id was used for something else.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        lines = priced(session, skus)
        values = {
            "id": quote_id,
            "org_id": org_id,
            "livemode": livemode,
            "workflow": workflow,
            "fingerprint": fingerprint,
            "lines": lines,
            "amount": sum(line["amount"] for line in lines),
            "images": images,
            "estimated_seconds": estimated_seconds,
            "expires_at": sa.func.now() + GOOD_FOR,
        }
        session.execute(insert(Quote).values(values).on_conflict_do_nothing())
        known = session.get(Quote, quote_id)
        if known is None or (known.org_id, known.livemode, known.fingerprint) != (org_id, livemode, fingerprint):
            raise Conflict(f"The quote id {quote_id} was used before for something else.")
        return _shown(known)


def priced(session: Session, skus: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a line for each SKU, at the prices of now: ``{sku, unit, count, unit_amount, amount, price_version}``.

    Raises:
        UnknownSku: there is no price for one of them.
    """
    rows = session.execute(_PRICES, {"skus": list(skus), "counts": list(skus.values())}).all()
    for row in rows:
        if row.unit is None:
            raise UnknownSku(f"The price book has no price for {row.sku!r}.", sku=row.sku)
    return [
        {
            "sku": row.sku,
            "unit": row.unit,
            "count": row.count,
            "unit_amount": row.amount,
            "amount": row.amount * row.count,
            "price_version": row.price_version,
        }
        for row in rows
    ]


def take_for_test(
    db: Database, *, org_id: str, quote_id: str, job_id: str, fingerprint: str, dry_run: bool = False
) -> dict[str, Any]:
    """Use a quote up for a test key's job, for which nothing is ever held; a repeat for the same job answers alike.

    Returns:
        The quote, as `quote` does; a dry run leaves it to be used.

    Raises:
        NotFound, QuoteUsed, QuoteMismatch, QuoteExpired: as a live job would be refused.
    """
    mine = sa.and_(Quote.id == quote_id, Quote.org_id == org_id, Quote.livemode.is_(False))
    with db.transaction(org_id=org_id, livemode=False) as session:
        expired = (Quote.expires_at < sa.func.now()).label("expired")
        found = session.execute(sa.select(Quote, expired).where(mine).with_for_update()).one_or_none()
        if found is None:
            raise refusal("quote_not_found", {})
        known, is_over = found
        if known.job_id not in {None, job_id}:
            raise refusal("quote_used", {})
        if known.fingerprint != fingerprint:
            raise refusal("quote_mismatch", {})
        if is_over and known.job_id is None:
            raise refusal("quote_expired", {})
        if not dry_run:
            known.job_id = job_id
        return _shown(known)


def prune(db: Database) -> int:
    """Forget quotes nobody took, a month after they expired; return how many."""
    with db.transaction() as session:
        result: Any = session.execute(_PRUNE, {"kept": KEPT})
        return int(result.rowcount)


def _shown(known: Quote) -> dict[str, Any]:
    totals: dict[str, int] = {}
    for line in known.lines:
        totals[line["unit"]] = totals.get(line["unit"], 0) + line["amount"]
    return {
        "id": known.id,
        "livemode": known.livemode,
        "workflow": known.workflow,
        "amount": known.amount,
        "totals": totals,
        "lines": known.lines,
        "images": known.images,
        "estimated_seconds": known.estimated_seconds,
        "created_at": rfc3339(known.created_at),
        "expires_at": rfc3339(known.expires_at),
    }
