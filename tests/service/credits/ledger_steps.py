"""What the ledger's tests do and look at, again and again."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits import accounts, audit, handlers, ledger, queries, usage
from services.credits.history import entries
from services.credits.movements import Outcome, Request, Reserved, Returned, Settled
from shared import events
from shared.database import Batch, Database
from shared.events import Event, GenerationCompleted, GenerationFailed, JobFinished
from shared.ids import new_id
from shared.problems import Problem
from tests.builders import HeldJob

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
        return entries(session, org_id=org_id, **{"limit": 200, **chosen})["data"]


def rows(db: Database, statement: str, **values: Any) -> Sequence[Any]:
    """Return what a statement finds, seen by the system."""
    with db.transaction() as session:
        return session.execute(sa.text(statement), values).all()


def change(db: Database, statement: str, **values: Any) -> None:
    """Change rows behind the ledger's back, as far as its walls let the system do that."""
    with db.transaction() as session:
        session.execute(sa.text(statement), values)


def at(text: str) -> datetime:
    """Read a time in UTC, such as 2031-11-30T23:59:59.999."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def all_at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls, as many in parallel as there are connections; return each one's result or exception."""
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.exception() or future.result() for future in futures]


def give(db: Database, org_id: str, amount: int, grant_id: str, *, days: int | None = None, **fields: Any) -> None:
    """Give credits that are good for so many days, or for good."""
    expires_at = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    known = {"kind": "purchased", "reason": "invoice 7", "actor": "admin Ada", "expires_at": expires_at}
    accounts.grant(db, grant_id=grant_id, org_id=org_id, amount=amount, **{**known, **fields})


def left_in_grants(db: Database, org_id: str, *, unit: str = "credits") -> dict[str, int]:
    """Return what remains of each grant, by its id."""
    found = rows(db, "SELECT id, remaining FROM grants WHERE org_id = :org AND unit = :unit", org=org_id, unit=unit)
    return {row.id: row.remaining for row in found}


def request(org_id: str, *skus: str, job_id: str | None = None, prefix: str = "gen", **fields: Any) -> Request:
    """Ask for one line per SKU; their ids are numbered."""
    lines = {f"{prefix}_{number:03}": sku for number, sku in enumerate(skus)}
    deadline = datetime.now(UTC) + timedelta(hours=1)
    return Request(org_id=org_id, job_id=job_id or new_id("job"), deadline_at=deadline, lines=lines, **fields)


def ask(db: Database, *requests: Request, now: datetime | None = None) -> list[Reserved | Problem]:
    """Ask for holds, at a moment or now, as the organization of the first request would."""
    with db.transaction(org_id=requests[0].org_id, livemode=True) as session:
        return ledger.reserve(session, requests, now=now)


def held_at(db: Database, org_id: str, *skus: str, now: datetime) -> HeldJob:
    """Hold one line per SKU at a moment."""
    asked = request(org_id, *skus)
    (outcome,) = ask(db, asked, now=now)
    assert isinstance(outcome, Reserved), outcome
    return HeldJob(job_id=asked.job_id, org_id=org_id, line_ids=list(asked.lines))


def settled_at(
    db: Database, job: HeldJob, *line_ids: str, now: datetime, amount: int = 0, reason: str = "provider_error"
) -> list[Settled]:
    """End lines, all of the job unless named, at a moment: capture ``amount`` of each and give the rest back."""
    outcomes = [
        Outcome(job_id=job.job_id, line_id=line_id, org_id=job.org_id, amount=amount, reason=reason)
        for line_id in line_ids or job.line_ids
    ]
    with db.transaction() as session:
        settled = ledger.settle(session, outcomes, now=now)
        usage.add(session, [usage.of_charge(line, workflow="staging") for line in settled])
    return settled


def returned_at(db: Database, job: HeldJob, *, now: datetime, line_id: str | None = None) -> list[Returned]:
    """Give a charge back at a moment, as an administrator."""
    with db.transaction() as session:
        returned = ledger.return_lines(
            session, job_id=job.job_id, line_id=line_id, reason="blurred", actor="admin Ada", now=now
        )
        usage.add(session, [usage.of_return(line) for line in returned if line.version is not None])
    return returned
