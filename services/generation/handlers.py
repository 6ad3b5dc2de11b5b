"""Commands and events of the engine: taking jobs in, and what credits has to say about them."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
import structlog
from marshmallow import ValidationError
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import endings, queries
from services.generation.engine import Engine
from services.generation.jobs import JOB_ENDS, deadline
from services.generation.models import Generation, Job, Operation
from services.generation.providers import route
from services.generation.workflows import PlannedGeneration, PlannedOperation, Workflow, workflow
from shared import logs
from shared.crash import crash_point
from shared.database import Database
from shared.events import CreditReserved, Event, JobAccepted, JobFinished, ReservationOverdue, SettledLine, caused_by
from shared.ids import new_id
from shared.problems import BadRequest, InsufficientCredits, JobClosed, NotFound, Unavailable

log = structlog.get_logger(__name__)

OPERATIONS_CHANNEL = "operations"
RESERVE_AGAIN = timedelta(seconds=10)
GIVE_UP_RESERVING = timedelta(seconds=60)
_SEED_LIMIT = 2**31


class Credits(Protocol):
    """The one call the engine makes to another service."""

    def reserve(self, *, org_id: str, job_id: str, deadline_at: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Hold the price of ``lines``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as the gateway hands it over: ids from the credential, assets resolved to snapshots."""

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    inputs: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]
    livemode: bool = True
    deadline_seconds: float | None = None


def submit(db: Database, credits_service: Credits, engine: Engine, asked: Submission) -> dict[str, Any]:
    """Take a job in, hold its credits, and queue it. Idempotent by ``job_id``.

    Returns:
        ``{job, balance}``: the job as clients see it, and the wallet after the hold or None.

    Raises:
        BadRequest: the inputs do not fit the workflow.
        InsufficientCredits: nothing was held; the job ended as ``rejected``.
        Unavailable: credits did not answer; asking again with the same ``job_id`` goes on from here.
    """
    line = workflow(asked.workflow)
    inputs = checked_inputs(line, asked.inputs)
    with db.transaction() as session:
        db.publish(session, take_in(session, engine, line, asked, inputs=inputs))
        job = session.get_one(Job, asked.job_id)
        _same_organization(job, asked.org_id)
        request = reservation_request(session, job) if job.status == "awaiting_credit" else None
    crash_point("submit.after_job")
    balance = hold(db, credits_service, request) if request else None
    with db.transaction(org_id=asked.org_id) as session:
        return {"job": queries.job(session, org_id=asked.org_id, job_id=asked.job_id), "balance": balance}


def checked_inputs(line: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs as the workflow's schema reads them.

    Raises:
        BadRequest: with a JSON pointer per mistake.
    """
    try:
        loaded: dict[str, Any] = line.inputs().load(inputs)
    except ValidationError as error:
        raise BadRequest(
            f"The inputs do not fit the workflow {line.name}.",
            errors=[
                {"pointer": f"/inputs/{pointer}", "code": "invalid", "detail": text}
                for pointer, text in _pointers(error.messages)
            ],
        ) from error
    return loaded


def take_in(
    session: Session, engine: Engine, line: Workflow, asked: Submission, *, inputs: Mapping[str, Any]
) -> list[Event]:
    """Write a new job with its generations and operations; return nothing if the job is there already."""
    now = endings.database_now(session)
    planned = list(line.plan(inputs, asked.assets, secrets.randbelow(_SEED_LIMIT)))
    free = all(item.sku is None for item in planned)
    ends = deadline(now, estimated_seconds=line.estimated_seconds, asked_seconds=asked.deadline_seconds)
    row = {
        "id": asked.job_id,
        "org_id": asked.org_id,
        "user_id": asked.user_id,
        "workflow": line.name,
        "inputs": dict(inputs),
        "assets": {name: dict(value) for name, value in asked.assets.items()},
        "status": "queued" if free else "awaiting_credit",
        "livemode": asked.livemode,
        "correlation_id": logs.correlation()[0],
        "total": len(planned),
        "open_generations": len(planned),
        "estimated_seconds": line.estimated_seconds,
        "created_at": now,
        "deadline_at": ends,
        "reserve_after": None if free else now + RESERVE_AGAIN,
    }
    added = session.execute(insert(Job).values(row).on_conflict_do_nothing().returning(Job.id)).scalar_one_or_none()
    if added is None:
        return []
    _plan_rows(session, engine, planned, job=row, due_at=now if free else None)
    return [
        JobAccepted(
            job_id=asked.job_id,
            org_id=asked.org_id,
            user_id=asked.user_id,
            workflow=line.name,
            generations=len(planned),
            deadline_at=ends.isoformat(),
        )
    ]


def reservation_request(session: Session, job: Job) -> dict[str, Any]:
    """Return the arguments of ``credits.reserve`` for a job: one line per generation that has a price."""
    statement = sa.select(Generation.id, Generation.sku).where(Generation.job_id == job.id, Generation.sku.is_not(None))
    return {
        "org_id": job.org_id,
        "job_id": job.id,
        "deadline_at": job.deadline_at.isoformat(),
        "lines": [
            {"line_id": line_id, "sku": sku} for line_id, sku in session.execute(statement.order_by(Generation.id))
        ],
    }


def hold(db: Database, credits_service: Credits, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ask credits to hold a job's price, and act on the answer. No transaction is open during the call.

    Returns:
        the wallet ``{available, held, version}``, or None when the job had ended meanwhile.
    """
    try:
        answer = credits_service.reserve(**request)
    except JobClosed:
        return None
    except InsufficientCredits:
        with db.transaction() as session:
            job = endings.lock_jobs(session, [request["job_id"]])[request["job_id"]]
            db.publish(session, endings.reject(session, job, now=endings.database_now(session)))
        raise
    crash_point("submit.after_reserve")
    with db.transaction() as session:
        jobs = endings.lock_jobs(session, [request["job_id"]])
        if queue(session, jobs[request["job_id"]], {line["line_id"]: line["amount"] for line in answer["lines"]}):
            db.notify(session, OPERATIONS_CHANNEL)
    return {name: answer[name] for name in ("available", "held", "version")}


def queue(session: Session, job: Job, amounts: Mapping[str, int]) -> bool:
    """Make a paid job's operations due; return False for a job that is past that."""
    if job.status != "awaiting_credit":
        return False
    job.status, job.reserve_after = "queued", None
    for generation in endings.open_generations(session, job):
        generation.amount = amounts.get(generation.id, 0)
    session.flush()
    session.execute(
        sa.update(Operation)
        .where(Operation.job_id == job.id, Operation.status == "queued")
        .values(due_at=sa.func.clock_timestamp())
    )
    return True


def queue_paid_jobs(session: Session, events: Sequence[CreditReserved]) -> list[Event]:
    """Queue jobs whose credits are held; one that has ended is told once more, so that credits gives them back."""
    jobs = endings.lock_jobs(session, (event.job_id for event in events))
    answers: list[Event] = []
    for event in events:
        job = jobs.get(event.job_id)
        if job is None:
            answers.append(_unknown_job(event, [line.line_id for line in event.lines]))
        elif job.status in JOB_ENDS:
            answers.append(endings.finished(session, job))
        else:
            queue(session, job, {line.line_id: line.amount for line in event.lines})
    return answers


def answer_overdue(session: Session, events: Sequence[ReservationOverdue]) -> list[Event]:
    """Tell credits how the jobs of its overdue lines ended; say nothing while a job runs or is paused."""
    jobs = endings.lock_jobs(session, (event.job_id for event in events))
    answers: list[Event] = []
    for event in events:
        job = jobs.get(event.job_id)
        if job is None:
            answers.append(_unknown_job(event, event.line_ids))
        elif job.status in JOB_ENDS:
            answers.append(endings.finished(session, job))
    return answers


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


def _plan_rows(
    session: Session,
    engine: Engine,
    planned: Sequence[PlannedGeneration],
    *,
    job: Mapping[str, Any],
    due_at: datetime | None,
) -> None:
    generations, operations = [], []
    for number, item in enumerate(planned, start=1):
        generation = {
            "id": new_id("gen"),
            "org_id": job["org_id"],
            "job_id": job["id"],
            "number": number,
            "status": "queued",
            "sku": item.sku,
            "seed": item.seed,
            "style": item.style,
            "room_type": item.room_type,
            "settings": item.settings,
        }
        generations.append(generation)
        operations += [
            operation_row(engine, one, position=position, job=job, generation_id=generation["id"], due_at=due_at)
            for position, one in enumerate(item.operations)
        ]
    session.execute(sa.insert(Generation), generations)
    session.execute(sa.insert(Operation), operations)


def operation_row(
    engine: Engine,
    planned: PlannedOperation,
    *,
    position: int,
    job: Mapping[str, Any],
    generation_id: str,
    due_at: datetime | None,
) -> dict[str, Any]:
    """Return the row of a planned operation, with the provider its route leads to.

    Raises:
        Unavailable: no provider that is set up does this operation.
    """
    try:
        provider = route(planned.name, routes=engine.routes, providers=engine.providers)
    except LookupError as error:
        log.exception("operation_without_provider", operation=planned.name)
        raise Unavailable("No AI provider for this operation is set up. Tell the operator.") from error
    return {
        "id": new_id("op"),
        "org_id": job["org_id"],
        "user_id": job["user_id"],
        "job_id": job["id"],
        "generation_id": generation_id,
        "position": position,
        "name": planned.name,
        "status": "queued",
        "lane": 0,
        "provider": provider.name,
        "model_requested": provider.model,
        "prompt": planned.prompt,
        "prompt_version": planned.prompt_version,
        "inputs": {"sources": list(planned.sources), "parameters": planned.parameters},
        "seed": planned.seed,
        "makes_image": planned.makes_image,
        "due_at": due_at,
    }


def _same_organization(job: Job, org_id: str) -> None:
    if job.org_id != org_id:
        raise NotFound("There is no such job.")


def _pointers(messages: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Turn marshmallow's nested messages into ``(pointer, text)`` pairs."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _pointers(inner, f"{prefix}/{name}" if prefix else str(name))
    else:
        for text in messages:
            yield prefix, str(text)
