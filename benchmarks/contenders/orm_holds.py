"""The usual way: SQLAlchemy's ORM, one transaction a job that locks the wallet, checks, changes it and adds its rows.

A plain process with a thread and a kept connection for each writer. Prices and the accounts' ids are known
beforehand, nothing is read but the wallet, and a job is never asked for twice: less work than the ledger does.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks import writers
from benchmarks.contenders.plain_tables import Account, Entry, Line, Outbox, Reservation
from shared import events
from shared.events import CreditReserved, HeldLine
from shared.ids import new_id

DEADLINE = datetime.fromisoformat(writers.DEADLINE)
PRICE_VERSION = 1
_ABOUT = {"sku": writers.SKU, "product": "staging", "unit": "credits"}


class NotEnough(Exception):
    """The wallet holds less than was asked for."""


def connect(orders: dict[str, Any]) -> Callable[[str, list[str]], None]:
    """Return a function that holds lines for a new job."""
    engine = sa.create_engine(orders["database_url"], pool_size=orders["writers"], max_overflow=0)
    with Session(engine) as session:
        holders = {
            account.org_id: account.id for account in session.scalars(sa.select(Account).where(Account.kind == "held"))
        }

    def hold(org_id: str, line_ids: list[str]) -> None:
        with Session(engine) as session, session.begin():
            reserve(session, org_id, line_ids, holder_id=holders[org_id])

    return hold


def reserve(
    session: Session, org_id: str, line_ids: list[str], *, holder_id: int, job_id: str | None = None
) -> Account:
    """Hold the lines, for a new job unless it is named, and announce it; return the wallet.

    Raises:
        NotEnough: the wallet holds less.
    """
    wallet = session.scalars(
        sa.select(Account).where(Account.org_id == org_id, Account.kind == "wallet").with_for_update()
    ).one()
    if wallet.available < writers.AMOUNT * len(line_ids):
        raise NotEnough(org_id)
    reservation = Reservation(job_id=job_id or new_id("job"), id=new_id("rsv"), org_id=org_id, deadline_at=DEADLINE)
    session.add(reservation)
    for line_id in line_ids:
        wallet.available -= writers.AMOUNT
        wallet.held_total += writers.AMOUNT
        wallet.version += 1
        about = {"job_id": reservation.job_id, "line_id": line_id, "org_id": org_id, **_ABOUT}
        reservation.lines.append(Line(**about, price_version=PRICE_VERSION, amount=writers.AMOUNT))
        leg = {**about, "transfer_id": f"{reservation.job_id}/{line_id}/hold", "kind": "hold", "actor": "generation"}
        session.add(
            Entry(
                **leg,
                account_id=wallet.id,
                amount=-writers.AMOUNT,
                available_after=wallet.available,
                version=wallet.version,
            )
        )
        session.add(Entry(**leg, account_id=holder_id, amount=writers.AMOUNT))
    event = of_hold(
        reservation.id, reservation.job_id, org_id, line_ids, available=wallet.available, version=wallet.version
    )
    session.add(Outbox(event_id=new_id("evt"), type=type(event).__name__, body=events.encode(event).decode()))
    return wallet


def of_hold(
    reservation_id: str, job_id: str, org_id: str, line_ids: list[str], *, available: int, version: int
) -> CreditReserved:
    """Return the event of a hold."""
    return CreditReserved(
        reservation_id=reservation_id,
        job_id=job_id,
        org_id=org_id,
        amount=writers.AMOUNT * len(line_ids),
        unit="credits",
        lines=[HeldLine(line_id=each, sku=writers.SKU, unit="credits", amount=writers.AMOUNT) for each in line_ids],
        available=available,
        version=version,
    )


if __name__ == "__main__":
    writers.work(connect)
