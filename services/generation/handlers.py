"""Commands and events of the engine: taking jobs in, and what credits has to say about them.

How a job is planned, written down and paid for stands in planning.py, submissions.py and holding.py.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy.orm import Session

from services.generation import endings, holding, planning, queries, rehearsal, submissions
from services.generation.engine import Engine
from services.generation.holding import Credits
from services.generation.models import Job
from services.generation.submissions import Submission
from shared.crash import crash_point
from shared.database import Database
from shared.events import (
    CreditReserved,
    CreditsAdjusted,
    CreditsGranted,
    Event,
    JobFinished,
    PlanChanged,
    RefundIssued,
    ReservationOverdue,
    SettledLine,
    caused_by,
)
from shared.problems import NotFound

log = structlog.get_logger(__name__)

_SHORT_OF = {"credits": ("insufficient_credits",), "plan_generations": ("quota_exceeded",)}
# What comes back to the wallet is no longer counted against the cap of a key either.
_SHORT_OF_BEFORE_REFUND = {**_SHORT_OF, "credits": ("insufficient_credits", "key_cap_reached")}


def submit(db: Database, credits_service: Credits, engine: Engine, asked: Submission) -> dict[str, Any]:
    """Take a job in, hold its credits, and queue it. Idempotent by ``job_id``. A dry run does nothing of it.

    Returns:
        ``{job, balance}``: the job as clients see it, and the wallet after the hold or None; a job that may wait for
        credits is there even if nothing was held. Of a dry run: see `rehearsal.rehearse`.

    Raises:
        BadRequest: the inputs do not fit the workflow.
        HoldRefused, QuoteExpired, QuoteUsed, QuoteMismatch, NotFound: what credits said; nothing was held, and the job
            ended as ``rejected``.
        Unavailable: credits did not answer; asking again with the same ``job_id`` goes on from here.
    """
    plan = planning.plan(engine, workflow_name=asked.workflow, inputs=asked.inputs, assets=asked.assets)
    if asked.dry_run:
        return rehearsal.rehearse(credits_service, engine, asked, plan)
    with db.transaction() as session:
        db.publish(session, submissions.take_in(session, engine, asked, plan))
        job = session.get_one(Job, asked.job_id)
        _same_organization(job, asked.org_id)
        question = holding.question(session, job) if job.status == "awaiting_credit" else None
    crash_point("submit.after_job")
    balance = holding.hold(db, credits_service, question) if question else None
    with db.transaction(org_id=asked.org_id) as session:
        return {"job": queries.job(session, org_id=asked.org_id, job_id=asked.job_id), "balance": balance}


def queue_paid_jobs(session: Session, events: Sequence[CreditReserved]) -> list[Event]:
    """Queue what credits are held for; what has ended is told once more, so that credits gives its lines back."""
    jobs = endings.lock_jobs(session, (event.job_id for event in events))
    answers: list[Event] = []
    for event in events:
        job = jobs.get(event.job_id)
        if job is None:
            answers.append(_unknown_job(event, [line.line_id for line in event.lines]))
        else:
            answers += holding.record_event(session, job, {line.line_id: line.amount for line in event.lines})
    return answers


def answer_overdue(session: Session, events: Sequence[ReservationOverdue]) -> list[Event]:
    """Tell credits how the jobs of its overdue lines ended; say nothing while a job runs or is paused."""
    jobs = endings.lock_jobs(session, (event.job_id for event in events))
    answers: list[Event] = []
    for event in events:
        job = jobs.get(event.job_id)
        if job is None:
            answers.append(_unknown_job(event, event.line_ids))
        else:
            answers += holding.still_held(session, job, event.line_ids)
    return answers


def ask_for_waiting_jobs(
    session: Session, events: Sequence[PlanChanged | CreditsGranted | CreditsAdjusted | RefundIssued]
) -> list[Event]:
    """Let credits be asked again for the jobs that wait for what an organization may have more of now.

    Nothing that happens here moves the day's limit: those that wait for it ask when it is time to.
    """
    causes = {(event.org_id, code) for event in events for code in _may_wait_no_longer(event)}
    if causes:
        holding.ask_now(session, causes)
    return []


def _may_wait_no_longer(event: PlanChanged | CreditsGranted | CreditsAdjusted | RefundIssued) -> Sequence[str]:
    """Return why jobs waited that may be paid for now; nothing where there is not more of anything."""
    if isinstance(event, PlanChanged):
        return ("quota_exceeded",)
    codes = _SHORT_OF_BEFORE_REFUND if isinstance(event, RefundIssued) else _SHORT_OF
    return codes.get(event.unit, ()) if event.amount > 0 else ()


def _unknown_job(event: CreditReserved | ReservationOverdue, line_ids: Sequence[str]) -> JobFinished:
    """Credits are held for a job nobody here knows: say that it was rejected, so that they are given back."""
    log.warning("reservation_of_unknown_job", job_id=event.job_id)
    return JobFinished(
        meta=caused_by(event),
        job_id=event.job_id,
        org_id=event.org_id,
        user_id=None,
        workflow="unknown",
        status="rejected",
        succeeded=0,
        failed=len(line_ids),
        lines=[
            SettledLine(line_id=line_id, outcome="refunded", amount=0, reason="internal_error") for line_id in line_ids
        ],
    )


def _same_organization(job: Job, org_id: str) -> None:
    if job.org_id != org_id:
        raise NotFound("There is no such job.")
