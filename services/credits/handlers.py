"""What credits does: holds what a job may cost, settles each line as its generation ended, opens and fills accounts.

Each function returns or publishes the events it caused. Never decides how a job ended: only generation does.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.credits import announcements, ledger, metrics, queries
from services.credits.models import CREDITS, UNITS, Account, Grant, OrganizationPlan, Plan
from services.credits.movements import CACHE_HIT, Outcome, Request, Reserved
from shared.crash import crash_point
from shared.database import Database
from shared.events import Event, GenerationCompleted, GenerationFailed, JobFinished, ReservationOverdue
from shared.problems import BadRequest

log = structlog.get_logger(__name__)

OVERDUE_AFTER = timedelta(minutes=10)
OVERDUE_AGAIN_AFTER = timedelta(minutes=5)
GRANT_KINDS = ("purchased", "promotional", "compensation", "monthly")

# A claim: of any number of replicas one gets a row, and gets it again only when the question went unanswered.
_OVERDUE = sa.text(
    "WITH due AS ("
    "  SELECT r.job_id FROM reservations r"
    "  WHERE r.job_id IN (SELECT job_id FROM lines WHERE status = 'held')"
    "    AND r.deadline_at < now() - CAST(:after AS interval)"
    "    AND (r.overdue_at IS NULL OR r.overdue_at < now() - CAST(:again_after AS interval))"
    "  ORDER BY r.job_id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"
    ") UPDATE reservations r SET overdue_at = now() FROM due WHERE r.job_id = due.job_id"
    " RETURNING r.id, r.job_id, r.org_id,"
    "  ARRAY(SELECT line_id FROM lines WHERE job_id = r.job_id AND status = 'held' ORDER BY line_id) AS line_ids"
)


def reserve(
    db: Database, *, org_id: str, job_id: str, deadline_at: str, lines: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Hold the price of ``lines`` for a job, all or nothing; a repeat answers alike and holds nothing more.

    Args:
        db: the database of credits.
        org_id: who pays.
        job_id: what for; later calls may add lines to the same job.
        deadline_at: when the job will have ended at the latest, RFC 3339.
        lines: ``{line_id, sku}`` each.

    Returns:
        ``{reservation_id, lines: [{line_id, sku, unit, amount}], available, held, version}``; no reservation where
        all lines are free of charge. The balance is the one in credits.

    Raises:
        InsufficientCredits: the wallet holds less; nothing was written.
        JobClosed: the job has ended, or is known under another organization.
        UnknownSku: a line has no price.
        BadRequest: the deadline is no time.
    """
    request = Request(
        org_id=org_id,
        job_id=job_id,
        deadline_at=_moment(deadline_at),
        lines={line["line_id"]: line["sku"] for line in lines},
    )
    with db.transaction(org_id=org_id) as session:
        (outcome,) = ledger.reserve(session, [request])
        if not isinstance(outcome, Reserved):
            raise outcome
        db.publish(session, announcements.of_hold(request, outcome))
    crash_point("credits.reserved")
    return {
        "reservation_id": outcome.reservation_id,
        "lines": [
            {"line_id": line.line_id, "sku": line.sku, "unit": line.unit, "amount": line.amount}
            for line in outcome.lines
        ],
        "available": outcome.wallet.available,
        "held": outcome.wallet.held,
        "version": outcome.wallet.version,
    }


def capture_completed_generations(session: Session, events: Sequence[GenerationCompleted]) -> list[Event]:
    """Spend what each result costs; what was held beyond that goes back, since the cache had a part of it."""
    return _settle(
        session,
        [
            Outcome(job_id=event.job_id, line_id=event.line_id, org_id=event.org_id, amount=event.amount)
            for event in events
            if event.line_id
        ],
    )


def refund_failed_generations(session: Session, events: Sequence[GenerationFailed]) -> list[Event]:
    """Give back what was held for generations that ended without a result."""
    return _settle(
        session,
        [
            Outcome(job_id=event.job_id, line_id=event.line_id, org_id=event.org_id, amount=0, reason=event.reason)
            for event in events
            if event.line_id
        ],
    )


def close_finished_jobs(session: Session, events: Sequence[JobFinished]) -> list[Event]:
    """Take no further line for these jobs, and settle exactly the lines they list, where that is still to be done."""
    ledger.close_jobs(session, {event.job_id: event.org_id for event in events})
    return _settle(
        session,
        [
            Outcome(
                job_id=event.job_id,
                line_id=line.line_id,
                org_id=event.org_id,
                amount=line.amount if line.outcome == "captured" else 0,
                reason=line.reason or (CACHE_HIT if line.outcome == "captured" else event.status),
            )
            for event in events
            for line in event.lines
        ],
    )


def open_account(db: Database, *, org_id: str, plan: str, amount: int = 0) -> dict[str, Any]:
    """Open an organization's account on a plan, with a first grant of ``amount`` credits; a repeat changes nothing.

    Returns:
        ``{available, held, version}``.

    Raises:
        BadRequest: there is no such plan, or the amount is negative.
    """
    if amount < 0:
        raise BadRequest(f"The first grant of an account is 0 or more credits, not {amount}.")
    with db.transaction() as session:
        _check_plan(session, plan)
        added = insert(OrganizationPlan).values(org_id=org_id, plan=plan).on_conflict_do_nothing()
        if session.scalar(added.returning(OrganizationPlan.org_id)):
            accounts = [{"org_id": org_id, "unit": unit, "kind": kind} for unit in UNITS for kind in ("wallet", "held")]
            session.execute(sa.insert(Account), accounts)
            if amount:
                opening = Grant(
                    id=f"{org_id}/opening",
                    org_id=org_id,
                    unit=CREDITS,
                    amount=amount,
                    kind="promotional",
                    reason="opening balance",
                    actor="gateway",
                )
                _give(db, session, opening)
            log.info("account_opened", org_id=org_id, plan=plan, amount=amount)
        return queries.wallet(session, org_id=org_id)


def grant(
    db: Database, *, grant_id: str, org_id: str, amount: int, kind: str, reason: str, actor: str
) -> dict[str, Any]:
    """Give credits to an organization, once per ``grant_id``; a repeat answers with today's balance.

    Returns:
        ``{available, held, version}``.

    Raises:
        BadRequest: the amount is not positive, or the kind unknown.
        Conflict: the grant id was used for something else.
        NotFound: the organization has no account.
    """
    if amount <= 0 or kind not in GRANT_KINDS:
        raise BadRequest(f"A grant is a positive amount of one of the kinds {', '.join(GRANT_KINDS)}.")
    asked = Grant(id=grant_id, org_id=org_id, unit=CREDITS, amount=amount, kind=kind, reason=reason, actor=actor)
    with db.transaction() as session:
        _give(db, session, asked)
        return queries.wallet(session, org_id=org_id)


def report_overdue(
    db: Database,
    *,
    after: timedelta = OVERDUE_AFTER,
    again_after: timedelta = OVERDUE_AGAIN_AFTER,
    limit: int = 200,
) -> int:
    """Ask how jobs ended that hold credits ``after`` their deadline; ask again until they are settled.

    Any number of replicas may run it at once; times are the database's. Also measures how many jobs hold credits.

    Returns:
        How many jobs were asked about.
    """
    with db.transaction() as session:
        rows = session.execute(_OVERDUE, {"after": after, "again_after": again_after, "limit": limit}).all()
        db.publish(
            session,
            [
                ReservationOverdue(reservation_id=row.id, job_id=row.job_id, org_id=row.org_id, line_ids=row.line_ids)
                for row in rows
            ],
        )
        metrics.reservations_open.set(queries.open_reservations(session))
    for row in rows:
        log.warning("reservation_overdue", job_id=row.job_id, org_id=row.org_id, lines=len(row.line_ids))
    return len(rows)


def _settle(session: Session, outcomes: Sequence[Outcome]) -> list[Event]:
    settled = ledger.settle(session, outcomes)
    crash_point("credits.settled")
    return [event for line in settled for event in announcements.of_settlement(line)]


def _give(db: Database, session: Session, given: Grant) -> None:
    wallet = ledger.give(session, given)
    if wallet is not None:
        available, version = wallet
        db.publish(session, [announcements.of_grant(given, available=available, version=version)])


def _check_plan(session: Session, plan: str) -> None:
    names = session.scalars(sa.select(Plan.name).order_by(Plan.price_usd_cents)).all()
    if plan not in names:
        raise BadRequest(f"There is no plan {plan!r}; the plans are {', '.join(names)}.")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{text!r} is no RFC 3339 time, such as 2031-05-01T12:00:00Z.") from error
    if moment.tzinfo is None:
        raise BadRequest(f"{text!r} does not say its time zone; end it with Z for UTC.")
    return moment
