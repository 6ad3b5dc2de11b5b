"""What the ledger's tests do and look at, again and again."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits import audit, handlers, queries
from shared import events
from shared.database import Batch, Database
from shared.events import Event, GenerationCompleted, GenerationFailed, JobFinished
from shared.ids import new_id

_HANDLERS: dict[Any, Callable[[Session, Any], list[Event]]] = {
    GenerationCompleted: handlers.capture_completed_generations,
    GenerationFailed: handlers.refund_failed_generations,
    JobFinished: handlers.close_finished_jobs,
}


def sent(event: Event) -> Event:
    """Give an event its envelope: what is delivered twice has the same one."""
    return event if event.meta else events.with_meta(event, events.correlated(new_id("req")))


def deliver(db: Database, *delivered: Event) -> None:
    """Deliver events in this order: neighbours of one type as one batch, as the subscription would."""
    for kind, batch in groupby(map(sent, delivered), key=type):
        db.once(Batch(list(batch), consumer=f"credits.{kind.__name__}"), _HANDLERS[kind])


def told(db: Database, *types: type[Event]) -> list[Any]:
    """Return the events in the outbox, oldest first; only those of ``types`` where any is given."""
    with db.transaction() as session:
        bodies = session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars().all()
    found = [events.decode(body.encode()) for body in bodies]
    return [event for event in found if not types or isinstance(event, types)]


def balance(db: Database, org_id: str) -> tuple[int, int, int]:
    """Return ``(available, held, version)``."""
    with db.transaction(org_id=org_id) as session:
        wallet = queries.wallet(session, org_id=org_id)
    return wallet["available"], wallet["held"], wallet["version"]


def available(db: Database, org_id: str) -> int:
    return balance(db, org_id)[0]


def held(db: Database, org_id: str) -> int:
    return balance(db, org_id)[1]


def violations(db: Database, *, grace: timedelta = timedelta(minutes=10)) -> list[dict[str, Any]]:
    with db.transaction() as session:
        return audit.run(session, grace=grace)["violations"]


def history(db: Database, org_id: str, **chosen: Any) -> list[dict[str, Any]]:
    """Return an organization's entries, newest first."""
    with db.transaction(org_id=org_id) as session:
        return queries.entries(session, org_id=org_id, **{"limit": 200, **chosen})["data"]


def rows(db: Database, statement: str, **values: Any) -> Sequence[Any]:
    """Return what a statement finds, seen by the system."""
    with db.transaction() as session:
        return session.execute(sa.text(statement), values).all()


def change(db: Database, statement: str, **values: Any) -> None:
    """Change rows behind the ledger's back, as far as its walls let the system do that."""
    with db.transaction() as session:
        session.execute(sa.text(statement), values)
