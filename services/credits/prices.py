"""The price book: changed by adding a price that begins later, or by ending one; what was in force stays as it was."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.credits.models import UNITS, Price
from services.credits.moments import moment
from shared.database import Database
from shared.problems import BadRequest, Conflict, NotFound
from shared.times import rfc3339

log = structlog.get_logger(__name__)

# A transaction that reads prices now must not find later that they were others at its time: the table refuses less.
NOTICE = timedelta(seconds=15)

LARGEST = 1_000_000


def change(
    db: Database, *, sku: str, amount: int, actor: str, unit: str | None = None, valid_from: str | None = None
) -> dict[str, Any]:
    """Let a SKU cost ``amount`` from ``valid_from`` on (RFC 3339, 15 s from now unless given).

    Open jobs and quotes keep their prices. A SKU that is new needs its unit.

    Returns:
        ``{sku, product, unit, amount, price_version, valid_from, valid_to}``.

    Raises:
        BadRequest: the amount is negative or huge, the unit unknown or missing, or the time too soon.
        Conflict: another price of the SKU begins at the same time.
    """
    with db.transaction() as session:
        unit = unit or session.scalar(sa.select(Price.unit).where(Price.sku == sku).order_by(Price.id.desc()).limit(1))
        if not 0 <= amount <= LARGEST or unit not in UNITS:
            raise BadRequest(
                f"A price is 0 to {LARGEST} in one of the units {', '.join(UNITS)}; a new SKU needs its unit."
            )
        price = Price(
            sku=sku,
            product=sku.partition(".")[0],
            unit=unit,
            amount=amount,
            valid_from=_later(session, valid_from),
        )
        if session.scalar(sa.select(Price.id).where(Price.sku == sku, Price.valid_from == price.valid_from)):
            raise Conflict(f"Another price of {sku} begins at {rfc3339(price.valid_from)}; take another time.")
        session.add(price)
        session.flush()
        log.info("price_changed", sku=sku, amount=amount, price_version=price.id, actor=actor)
        return shown(price)


def end(db: Database, *, sku: str, actor: str, valid_to: str | None = None) -> dict[str, Any]:
    """Let a SKU have no price from ``valid_to`` on (RFC 3339, 15 s from now unless given): it is refused then.

    Returns:
        as `change`.

    Raises:
        NotFound: it has no price that could end.
        BadRequest: the time is too soon.
    """
    with db.transaction() as session:
        ends = _later(session, valid_to)
        found = sa.select(Price).where(Price.sku == sku, Price.valid_from < ends, Price.valid_to.is_(None))
        price = session.scalars(found.order_by(Price.valid_from.desc()).limit(1)).one_or_none()
        if price is None:
            raise NotFound(f"{sku} has no price that could end.")
        price.valid_to = ends
        session.flush()
        log.info("price_ended", sku=sku, price_version=price.id, actor=actor)
        return shown(price)


def shown(price: Price) -> dict[str, Any]:
    """Return a row of the price book as plain values."""
    return {
        "sku": price.sku,
        "product": price.product,
        "unit": price.unit,
        "amount": price.amount,
        "price_version": price.id,
        "valid_from": rfc3339(price.valid_from),
        "valid_to": rfc3339(price.valid_to) if price.valid_to else None,
    }


def _later(session: Session, text: str | None) -> datetime:
    now: datetime = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    if text is None:
        return now + NOTICE
    given = moment(text)
    if given < now + NOTICE:
        raise BadRequest(f"A price changes in {NOTICE.seconds} seconds from now or later, not at {text}.")
    return given
