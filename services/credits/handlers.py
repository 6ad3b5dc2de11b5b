"""What credits does for jobs: holds what one may cost, settles each line as its generation ended, gives charges back.

Each function returns or publishes the events it caused. Never decides how a job ended: only generation does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.credits import announcements, ledger, metrics, queries, usage
from services.credits.moments import moment
from services.credits.movements import CACHE_HIT, Outcome, Request, Reserved, rounds
from shared import logs
from shared.crash import crash_point
from shared.database import Database, undo
from shared.events import (
    Event,
    GenerationCompleted,
    GenerationFailed,
    JobFinished,
    ReservationOverdue,
    correlated,
    with_meta,
)
from shared.gathering import Gathering
from shared.problems import Problem
from shared.rpc_batches import Call

log = structlog.get_logger(__name__)
E = TypeVar("E", GenerationCompleted, GenerationFailed, JobFinished)

OVERDUE_AFTER = timedelta(minutes=10)
OVERDUE_AGAIN_AFTER = timedelta(minutes=5)

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


def reserve(db: Database, *, dry_run: bool = False, **asked: Any) -> dict[str, Any]:
    """Hold the price of a job's lines, all or nothing unless ``partial``; a repeat answers alike and adds nothing.

    Args:
        db: the database of credits.
        dry_run: find out how it would end, and leave everything as it is.
        asked: ``org_id``, ``job_id``, ``deadline_at`` (RFC 3339), ``lines`` of ``{line_id, sku, cost_microusd?}``, and
            what else `Request` has; with ``partial`` as many of the lines are held, in their order, as can be.

    Returns:
        ``{reservation_id, lines: [{line_id, sku, unit, amount}], shortfall, available, held, version}``; no reservation
        where all lines are free of charge. The balance is the one in credits; ``shortfall`` says as
        ``{code, detail, ...}`` why a partial request lacks lines.

    Raises:
        HoldRefused: as `InsufficientCredits`, `QuotaExceeded` or `DailyCapReached`; nothing was written.
        JobClosed: the job has ended, or is known under another organization.
        UnknownSku: a line has no price.
        NotFound, QuoteExpired, QuoteUsed, QuoteMismatch: the quote is no good for this job.
        BadRequest: a time is no time.
    """
    request = request_of(**asked)
    return _shown(_try_to_hold(db, request) if dry_run else _hold_with_others(db, request))


def reserve_many(db: Database, several: "Sequence[Asked]") -> list[dict[str, Any] | Exception]:
    """Hold what several jobs, of any organizations, may cost: one round trip, one commit.

    Returns:
        For each, in order, what `reserve` returns, or the refusal it raises.
    """
    outcomes: dict[int, Reserved | Problem] = {}
    for places in rounds([each.request for each in several]):
        together = [several[place] for place in places]
        organizations = {each.request.org_id for each in together}
        only = organizations.pop() if len(organizations) == 1 else None
        outcomes.update(zip(places, hold((db, only), together), strict=True))
    return [one if isinstance(one, Problem) else _shown(one) for _, one in sorted(outcomes.items())]


def _shown(outcome: Reserved) -> dict[str, Any]:
    return {
        "reservation_id": outcome.reservation_id,
        "lines": [
            {"line_id": line.line_id, "sku": line.sku, "unit": line.unit, "amount": line.amount}
            for line in outcome.lines
        ],
        "shortfall": outcome.shortfall and outcome.shortfall.as_dict(),
        "available": outcome.wallet.available,
        "held": outcome.wallet.held,
        "version": outcome.wallet.version,
    }


def capture_completed_generations(session: Session, events: Sequence[GenerationCompleted]) -> list[Event]:
    """Spend what each result costs; what was held beyond that goes back, since the cache had a part of it."""
    events = _live(events)
    outcomes = [
        Outcome(job_id=event.job_id, line_id=event.line_id, org_id=event.org_id, amount=event.amount)
        for event in events
        if event.line_id
    ]
    return _settle(session, outcomes, events, made=[usage.of_result(event) for event in events])


def refund_failed_generations(session: Session, events: Sequence[GenerationFailed]) -> list[Event]:
    """Give back what was held for generations that ended without a result."""
    events = _live(events)
    outcomes = [
        Outcome(job_id=event.job_id, line_id=event.line_id, org_id=event.org_id, amount=0, reason=event.reason)
        for event in events
        if event.line_id
    ]
    return _settle(session, outcomes, events, made=[usage.of_failure(event) for event in events])


def close_finished_jobs(session: Session, events: Sequence[JobFinished]) -> list[Event]:
    """Take no further line for these jobs, and settle exactly the lines they list, where that is still to be done."""
    events = _live(events)
    ledger.close_jobs(session, {event.job_id: event.org_id for event in events})
    outcomes = [
        Outcome(
            job_id=event.job_id,
            line_id=line.line_id,
            org_id=event.org_id,
            amount=line.amount if line.outcome == "captured" else 0,
            reason=line.reason or (CACHE_HIT if line.outcome == "captured" else event.status),
        )
        for event in events
        for line in event.lines
    ]
    return _settle(session, outcomes, events)


def refund(db: Database, *, job_id: str, reason: str, actor: str, generation_id: str | None = None) -> dict[str, Any]:
    """Give back what a job, or one generation of it, was charged; a repeat gives nothing more and answers alike.

    Returns:
        ``{job_id, org_id, refunded: [{generation_id, unit, amount}], amount}``.

    Raises:
        NotFound: nothing was ever held for it.
        Conflict: nothing was charged, or its credits are still held.
    """
    with db.transaction() as session:
        returned = ledger.return_lines(session, job_id=job_id, line_id=generation_id, reason=reason, actor=actor)
        new = [line for line in returned if line.version is not None]
        usage.add(session, [usage.of_return(line) for line in new])
        db.publish(session, [announcements.of_return(line, job_id=job_id, reason=reason) for line in new])
    for line in new:
        log.info("charge_given_back", job_id=job_id, line_id=line.line_id, amount=line.amount, actor=actor)
    return {
        "job_id": job_id,
        "org_id": returned[0].org_id,
        "refunded": [{"generation_id": line.line_id, "unit": line.unit, "amount": line.amount} for line in returned],
        "amount": sum(line.amount for line in returned),
    }


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


def request_of(
    *, lines: Sequence[Mapping[str, Any]], deadline_at: str, accepted_at: str | None = None, **asked: Any
) -> Request:
    """Read what the command `reserve` was asked for.

    Raises:
        BadRequest: a time is no time.
    """
    return Request(
        deadline_at=moment(deadline_at),
        accepted_at=moment(accepted_at) if accepted_at else None,
        lines={line["line_id"]: line["sku"] for line in lines},
        costs={line["line_id"]: line["cost_microusd"] for line in lines if line.get("cost_microusd")},
        **asked,
    )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, and the story it is part of."""

    request: Request
    correlation_id: str | None
    causation_id: str | None


def asked_by(call: Call) -> Asked:
    """Read one of many calls of the command `reserve`.

    Raises:
        BadRequest: a time is no time.
    """
    return Asked(request=request_of(**call.arguments), correlation_id=call.correlation_id, causation_id=None)


def _hold_with_others(db: Database, request: Request) -> Reserved:
    correlation_id, causation_id = logs.correlation()
    asked = Asked(request=request, correlation_id=correlation_id, causation_id=causation_id)
    return _hold_together((db, request.org_id), asked)


def hold(owner: tuple[Database, str | None], asked: Sequence[Asked]) -> Sequence[Reserved | Problem]:
    """Hold what was asked for at the same time by one organization, or by several: one round trip, one commit."""
    db, org_id = owner
    # Only what live keys ask for is ever held: a quote that a test key was given is not there.
    with db.transaction(org_id=org_id, livemode=True) as session:
        outcomes = ledger.reserve(session, [each.request for each in asked])
        events = [
            with_meta(event, correlated(each.correlation_id, causation_id=each.causation_id))
            for each, outcome in zip(asked, outcomes, strict=True)
            if isinstance(outcome, Reserved)
            for event in announcements.of_hold(each.request, outcome)
        ]
        db.publish(session, events)
    crash_point("credits.reserved")
    return outcomes


# While a hold of an organization is at work, its next ones gather and go together: its wallet is one row, and each of
# them alone would wait for all before it. A request of very many lines goes alone, so that its time is its own.
_hold_together: Gathering[tuple[Database, str | None], Asked, Reserved] = Gathering(
    hold, size=lambda asked: len(asked.request.lines)
)


def _try_to_hold(db: Database, request: Request) -> Reserved:
    with db.transaction(org_id=request.org_id, livemode=True) as session:
        (outcome,) = ledger.reserve(session, [request])
        undo(session)
    if not isinstance(outcome, Reserved):
        raise outcome
    return outcome


def _live(events: Sequence[E]) -> list[E]:
    """Return the events of live keys' jobs: what a test key asked for is neither paid for nor counted."""
    return [event for event in events if event.livemode]


def _settle(
    session: Session, outcomes: Sequence[Outcome], events: Sequence[Any], *, made: Sequence[usage.Usage] = ()
) -> list[Event]:
    settled = ledger.settle(session, outcomes)
    workflows = {event.job_id: event.workflow for event in events}
    charged = [usage.of_charge(line, workflow=workflows[line.job_id]) for line in settled if line.captured]
    # After the lines and wallets, as everywhere: two that took these rows in opposite order would wait in a circle.
    usage.add(session, [*made, *charged])
    crash_point("credits.settled")
    return [event for line in settled for event in announcements.of_settlement(line)]
