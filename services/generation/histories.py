"""Reads of what happened: attempts, a job's timeline, and the AI operation log of operators. No bytes, no secrets."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from services.generation.models import Attempt, Generation, Operation
from services.generation.queries import job_row
from shared.problems import BadRequest
from shared.times import rfc3339

_MOMENT = "%Y%m%d%H%M%S%f"
_RUNNING = ("sent", "submitted", "unknown")
_WHAT_HAPPENED = {"sent": "is being asked", "submitted": "is at work", "unknown": "has not answered"}


def attempts(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    job_id: str,
    live: bool = False,
    limit: int = 200,
    after: str | None = None,
) -> dict[str, Any]:
    """Return a job's attempts in the order in which they were sent, as a page; ``live``: those at a provider now.

    Of what is internal (costs, prompts, ids at the provider) a client is told nothing.

    Raises:
        NotFound: the organization has no such job in this mode.
    """
    job_row(session, org_id=org_id, livemode=livemode, job_id=job_id)
    key = sa.func.concat(Attempt.operation_id, "/", sa.func.lpad(sa.cast(Attempt.attempt, sa.Text), 6, "0"))
    statement = (
        sa.select(Attempt, Operation, key.label("cursor"))
        .join(Operation, Operation.id == Attempt.operation_id)
        .where(Attempt.job_id == job_id)
        .order_by(key)
    )
    if live:
        statement = statement.where(Attempt.status.in_(_RUNNING))
    if after:
        statement = statement.where(key > after)
    rows = session.execute(statement.limit(limit + 1)).all()
    kept = rows[:limit]
    return {
        "data": [_attempt(attempt, operation) for attempt, operation, _ in kept],
        "has_more": len(rows) > limit,
        "next_cursor": kept[-1].cursor if len(rows) > limit else None,
    }


def timeline(session: Session, *, org_id: str, livemode: bool, job_id: str, most: int = 1000) -> dict[str, Any]:
    """Return what happened to a job, in its order: ``{data: [{at, what, generation_id, detail}]}``.

    Raises:
        NotFound: the organization has no such job in this mode.
    """
    job = job_row(session, org_id=org_id, livemode=livemode, job_id=job_id)
    steps: list[tuple[datetime | None, str, str | None, str | None]] = [
        (job.created_at, "job_accepted", None, None),
        (job.stalled_at, "job_stalled", None, None),
    ]
    generations = sa.select(Generation).where(Generation.job_id == job_id).order_by(Generation.number).limit(most)
    for row in session.scalars(generations):
        steps.append((row.started_at, "generation_started", row.id, None))
        steps.append((row.finished_at, f"generation_{row.status}", row.id, row.failure_reason))
    attempts = sa.select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.sent_at).limit(most)
    for sent in session.scalars(attempts):
        steps.append((sent.sent_at, "attempt_sent", sent.generation_id, sent.provider))
        steps.append((sent.submitted_at, "attempt_taken", sent.generation_id, sent.provider))
        steps.append((sent.ended_at, f"attempt_{sent.status}", sent.generation_id, sent.error_code))
    steps.append((job.finished_at, f"job_{job.status}", None, None))
    happened = [(at, what, generation_id, detail) for at, what, generation_id, detail in steps if at is not None]
    happened.sort(key=lambda step: step[0])
    return {
        "data": [
            {"at": rfc3339(at, precision="auto"), "what": what, "generation_id": generation_id, "detail": detail}
            for at, what, generation_id, detail in happened
        ]
    }


def operation_log(
    session: Session,
    *,
    org_id: str | None = None,
    job_id: str | None = None,
    provider: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
    before: str | None = None,
) -> dict[str, Any]:
    """Return the AI operation log for operators, newest first, as a page: one entry per sending, failures included.

    Raises:
        BadRequest: ``before`` is no cursor of this list.
    """
    newest = sa.select(Attempt).order_by(Attempt.sent_at.desc(), Attempt.operation_id.desc(), Attempt.attempt.desc())
    filters: Sequence[tuple[Any, Any]] = (
        (Attempt.org_id, org_id),
        (Attempt.job_id, job_id),
        (Attempt.provider, provider),
        (Attempt.status, status),
    )
    for column, value in filters:
        if value is not None:
            newest = newest.where(column == value)
    if since is not None:
        newest = newest.where(Attempt.sent_at >= since)
    if before:
        place = sa.tuple_(Attempt.sent_at, Attempt.operation_id, Attempt.attempt)
        newest = newest.where(place < sa.tuple_(*(sa.literal(one) for one in _place_of(before))))
    # Cut to the page before operations are looked at: there are a million of each, and theirs are large.
    sent = aliased(Attempt, newest.limit(limit + 1).subquery())
    statement = (
        sa.select(sent, Operation)
        .join(Operation, Operation.id == sent.operation_id)
        .order_by(sent.sent_at.desc(), sent.operation_id.desc(), sent.attempt.desc())
    )
    rows = session.execute(statement).all()
    kept = rows[:limit]
    return {
        "data": [_entry(attempt, operation) for attempt, operation in kept],
        "has_more": len(rows) > limit,
        "next_cursor": _cursor(kept[-1][0]) if len(rows) > limit else None,
    }


def _cursor(last: Attempt) -> str:
    return f"{last.sent_at.astimezone(UTC):{_MOMENT}}/{last.operation_id}/{last.attempt}"


def _place_of(cursor: str) -> tuple[datetime, str, int]:
    """Return the place in the log that a cursor of ours stands for.

    Raises:
        BadRequest: it is none of ours.
    """
    try:
        moment, operation_id, attempt = cursor.split("/")
        return datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC), operation_id, int(attempt)
    except ValueError as error:
        raise BadRequest("This is no place in the log: take next_cursor of the page before as it is.") from error


def _attempt(attempt: Attempt, operation: Operation) -> dict[str, Any]:
    running = attempt.status in _RUNNING
    return {
        "operation_id": attempt.operation_id,
        "generation_id": attempt.generation_id,
        "operation": operation.name,
        "attempt": attempt.attempt,
        "status": attempt.status,
        "phase": (operation.phase or _WHAT_HAPPENED[attempt.status]) if running else None,
        "queue_position": operation.queue_position if running else None,
        "provider": attempt.provider,
        "model_requested": attempt.model_requested,
        "model_used": attempt.model_used,
        "seed": attempt.seed,
        "reason": attempt.error_code,
        "sent_at": rfc3339(attempt.sent_at, precision="auto"),
        "ended_at": attempt.ended_at and rfc3339(attempt.ended_at, precision="auto"),
        "duration_ms": attempt.duration_ms,
    }


def _entry(attempt: Attempt, operation: Operation) -> dict[str, Any]:
    """Return an entry with every field of the product document, and what it cost."""
    tokens = [count for count in (attempt.prompt_tokens, attempt.completion_tokens) if count is not None]
    ended = {"succeeded": "completed", "failed": "failed", "late": "failed"}
    return {
        "operation_id": attempt.operation_id,
        "attempt": attempt.attempt,
        "operation_name": operation.name,
        "model": attempt.model_used or attempt.model_requested,
        "model_requested": attempt.model_requested,
        "provider": attempt.provider,
        "type": "image" if operation.makes_image else "analysis",
        "org_id": attempt.org_id,
        "user_id": operation.user_id,
        "job_id": attempt.job_id,
        "generation_id": attempt.generation_id,
        "livemode": attempt.livemode,
        "input": {"prompt": operation.prompt, **operation.inputs},
        "prompt_version": operation.prompt_version,
        "output": operation.output if attempt.status == "succeeded" else None,
        "context": {"seed": attempt.seed, "worker": attempt.worker, "external_id": attempt.external_id},
        "prompt_tokens": attempt.prompt_tokens,
        "completion_tokens": attempt.completion_tokens,
        "total_tokens": sum(tokens) if tokens else None,
        "cost_microusd": attempt.cost_microusd,
        "processing_time_ms": attempt.duration_ms,
        "status": ended.get(attempt.status, "pending"),
        "outcome": attempt.status,
        "error_code": attempt.error_code,
        "error_detail": attempt.error_detail,
        "request_digest": attempt.request_digest,
        "response_digest": attempt.response_digest,
        "created_at": rfc3339(attempt.sent_at, precision="auto"),
        "completed_at": attempt.ended_at and rfc3339(attempt.ended_at, precision="auto"),
    }
