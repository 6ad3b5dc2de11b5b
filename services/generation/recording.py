"""Writing down what a provider's call came to: under the job's lock, only while the claim holds, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import calls, endings, metrics
from services.generation.claims import LEASE_SECONDS, Claimed, still_held
from services.generation.engine import Engine
from services.generation.jobs import GENERATION_ENDS
from services.generation.models import Generation, Image, Job, Operation
from services.generation.operations import Answered, GiveUp, Repeat, Spent, another_seed, spent
from services.generation.rows import insert_rows
from services.generation.submissions import operation_row
from services.generation.workflows import DoneOperation, workflow
from shared.database import once_committed
from shared.events import Event

log = structlog.get_logger(__name__)

_NOTHING = Spent()


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image that is safe in the object store; sizes in bytes and pixels."""

    image_id: str
    key: str
    thumbnail_key: str
    content_type: str
    sha256: str
    crc32: int
    bytes: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Whether a result was adopted, and the events it caused. What was not adopted has its bytes deleted."""

    adopted: bool
    events: list[Event]


def storing(session: Session, claimed: Claimed) -> bool:
    """Note that the provider has answered and the bytes are on their way to the store; False if the claim is lost."""
    changed = session.execute(
        sa.update(Operation)
        .where(
            Operation.id == claimed.id,
            Operation.fence == claimed.fence,
            Operation.status.in_(("running", "unknown")),
        )
        .values(
            status="storing",
            phase="storing",
            poll_at=None,
            lease_until=sa.func.clock_timestamp() + timedelta(seconds=LEASE_SECONDS),
        )
        .returning(Operation.id)
    )
    return changed.scalar_one_or_none() is not None


def success(
    session: Session, engine: Engine, claimed: Claimed, *, answer: Answered, images: Sequence[StoredImage]
) -> Recorded:
    """Adopt a stored result while its generation is open; a late one is logged with its cost and changes nothing."""
    job, operation = _locked(session, claimed)
    generation = session.get_one(Generation, claimed.generation_id)
    if operation is None or generation.status in GENERATION_ENDS:
        note_late(session, claimed, spent(answer))
        return Recorded(adopted=False, events=[])
    calls.end_attempt(session, claimed, status="succeeded", spent=spent(answer))
    now = endings.database_now(session)
    _end(operation, "succeeded", now=now)
    _note_spent(session, operation, spent(answer))
    operation.output = {"images": [image.image_id for image in images], "result": answer.result}
    session.add_all(_image_row(image, job, generation, operation, answer) for image in images)
    job.progressed_at = now
    session.flush()
    return Recorded(adopted=True, events=_go_on(session, engine, job, generation, now=now))


def repeat(session: Session, claimed: Claimed, *, decision: Repeat, used: Spent = _NOTHING) -> list[Event]:
    """Queue an operation again after the decision's pause; what is being cancelled ends instead.

    ``used`` is what the attempt has cost all the same.
    """
    job, operation = _locked(session, claimed)
    if operation is None:
        note_late(session, claimed, used, code=decision.code, detail=decision.detail)
        return []
    if job.status == "cancelling":
        return failure(session, claimed, decision=GiveUp(code="cancelled_running", detail=decision.detail), used=used)
    now = endings.database_now(session)
    calls.end_attempt(session, claimed, status="failed", spent=used, code=decision.code, detail=decision.detail)
    _note_spent(session, operation, used)
    operation.status, operation.lease_until, operation.worker = "queued", None, None
    operation.due_at = now + timedelta(seconds=decision.after_seconds)
    operation.error_code, operation.error_detail = decision.code, decision.detail
    # Nothing of it is at a provider any more: the next attempt is another request.
    operation.sent_at = operation.submitted_at = operation.external_id = operation.poll_at = None
    operation.phase = operation.queue_position = None
    if decision.new_seed:
        operation.seed = another_seed(operation.seed, attempt=claimed.attempt)
    if decision.provider and decision.model:
        operation.provider, operation.model_requested = decision.provider, decision.model
    log.info(
        "operation_repeats",
        operation_id=claimed.id,
        job_id=job.id,
        code=decision.code,
        attempt=claimed.attempt,
        again_in_seconds=decision.after_seconds,
        provider=operation.provider,
        model=operation.model_requested,
    )
    return []


def unknown(session: Session, claimed: Claimed, *, detail: str, after_seconds: float) -> list[Event]:
    """Note that nobody knows what became of an operation that was sent; after so long it is decided about.

    One that was ended meanwhile is looked for all the same, so that it is cancelled where it may be at work.
    """
    job, operation = _locked(session, claimed)
    if operation is None:
        calls.look_for_cancelled(session, claimed, after_seconds=after_seconds)
        return []
    if job.status == "cancelling":
        return failure(session, claimed, decision=GiveUp(code="cancelled_running", detail=detail), runs_on=True)
    now = endings.database_now(session)
    operation.status, operation.lease_until, operation.phase = "unknown", None, "unknown"
    operation.worker = None
    operation.poll_at = now + timedelta(seconds=after_seconds)
    operation.error_code, operation.error_detail = "outcome_unknown", detail
    calls.note_unknown(session, claimed)
    provider = operation.provider
    once_committed(session, lambda: metrics.operations_unknown.labels(provider).inc())
    log.warning("operation_outcome_unknown", operation_id=claimed.id, job_id=job.id, detail=detail)
    return []


def asked_for_again(session: Session, claimed: Claimed) -> list[Event]:
    """Go back to asking the provider for a result that a lost worker had and did not store."""
    _, operation = _locked(session, claimed)
    if operation is not None:
        now = endings.database_now(session)
        operation.status, operation.lease_until, operation.phase = "running", None, "running"
        operation.poll_at, operation.worker = now, None
    return []


def failure(
    session: Session, claimed: Claimed, *, decision: GiveUp, used: Spent = _NOTHING, runs_on: bool = False
) -> list[Event]:
    """End an operation for good, and its generation with it.

    ``used`` is what the attempt has cost all the same. Where it ``runs_on`` at the provider it is cancelled there.
    """
    job, operation = _locked(session, claimed)
    if operation is None:
        if not runs_on:
            note_late(session, claimed, used, code=decision.code, detail=decision.detail)
        return []
    now = endings.database_now(session)
    _end(operation, "failed", now=now)
    operation.error_code, operation.error_detail = decision.code, decision.detail
    _note_spent(session, operation, used)
    if runs_on:
        operation.poll_at, operation.worker = now, None
    else:
        calls.end_attempt(session, claimed, status="failed", spent=used, code=decision.code, detail=decision.detail)
    session.flush()
    log.warning("operation_failed", operation_id=claimed.id, job_id=job.id, code=decision.code, detail=decision.detail)
    generation = session.get_one(Generation, claimed.generation_id)
    if generation.status in GENERATION_ENDS:
        return []
    return endings.fail(session, job, [generation.id], code=decision.code, now=now)


def note_late(
    session: Session, claimed: Claimed, used: Spent, *, code: str | None = None, detail: str | None = None
) -> None:
    """Keep what an attempt cost that came to something after its generation had ended, or after its lease.

    Where somebody else is at the same attempt by now, what it came to is theirs to write down.
    """
    elsewhere = sa.select(Operation.id).where(
        Operation.id == claimed.id,
        Operation.attempt == claimed.attempt,
        Operation.status.in_(("running", "storing", "unknown")),
    )
    if session.scalars(elsewhere).one_or_none() is not None:
        log.info("result_left_to_another_worker", operation_id=claimed.id)
        return
    log.warning(
        "late_result_discarded",
        operation_id=claimed.id,
        job_id=claimed.job_id,
        cost_microusd=used.cost_microusd,
        model=used.model,
        code=code,
    )
    calls.end_attempt(session, claimed, status="late", spent=used, code=code, detail=detail)
    operation = session.scalars(
        sa.select(Operation)
        .where(
            Operation.id == claimed.id,
            Operation.fence == claimed.fence,
            Operation.status.in_(("cancelled", "failed")),
        )
        .with_for_update()
    ).one_or_none()
    if operation is not None:
        _note_spent(session, operation, used)
        operation.output, operation.poll_at = {"late": True}, None


def _end(operation: Operation, status: str, *, now: datetime) -> None:
    operation.status, operation.completed_at = status, now
    operation.lease_until = operation.poll_at = operation.phase = operation.queue_position = None
    operation.duration_ms = int((now - (operation.started_at or now)).total_seconds() * 1000)


def _note_spent(session: Session, operation: Operation, used: Spent) -> None:
    """Add what an attempt has used up to what the operation has: every attempt may be billed."""
    operation.model_used = used.model or operation.model_used
    for name in ("cost_microusd", "prompt_tokens", "completion_tokens"):
        more = getattr(used, name)
        if more is not None:
            setattr(operation, name, (getattr(operation, name) or 0) + more)
    provider, cost_usd = operation.provider, (used.cost_microusd or 0) / 1_000_000
    once_committed(session, lambda: metrics.provider_cost_usd.labels(provider).inc(cost_usd))


def _locked(session: Session, claimed: Claimed) -> tuple[Job, Operation | None]:
    """Lock the job, then the operation if it is still this claim's."""
    job = endings.lock_jobs(session, [claimed.job_id])[claimed.job_id]
    return job, still_held(session, claimed)


def _go_on(session: Session, engine: Engine, job: Job, generation: Generation, *, now: datetime) -> list[Event]:
    """Complete a generation whose operations are all done, unless its workflow plans more."""
    statement = sa.select(Operation).where(Operation.generation_id == generation.id).order_by(Operation.position)
    operations = list(session.scalars(statement))
    if job.status == "cancelling" and any(item.status != "succeeded" for item in operations):
        return endings.fail(session, job, [generation.id], code="cancelled_running", now=now)
    if any(item.status != "succeeded" for item in operations):
        return []
    done = [_done(session, item) for item in operations]
    planned = workflow(job.workflow).follow_up(generation.settings, done)
    if planned and job.status == "cancelling":
        return endings.fail(session, job, [generation.id], code="cancelled_running", now=now)
    if not planned:
        generation.result = operations[-1].output and operations[-1].output.get("result")
        return endings.complete(session, job, generation, now=now)
    about = {"org_id": job.org_id, "user_id": job.user_id, "id": job.id, "livemode": job.livemode}
    engine = engine.in_mode(livemode=job.livemode)
    rows = [
        operation_row(
            engine, item, position=len(operations) + number, job=about, generation_id=generation.id, due_at=now
        )
        for number, item in enumerate(planned)
    ]
    insert_rows(session, Operation, rows)
    return []


def _done(session: Session, operation: Operation) -> DoneOperation:
    keys = session.scalars(sa.select(Image.key).where(Image.operation_id == operation.id).order_by(Image.id))
    return DoneOperation(name=operation.name, result=(operation.output or {}).get("result"), image_keys=tuple(keys))


def _image_row(image: StoredImage, job: Job, generation: Generation, operation: Operation, answer: Answered) -> Image:
    provenance: Mapping[str, Any] = {
        **answer.provenance,
        "provider": operation.provider,
        "model": answer.model,
        "prompt_version": operation.prompt_version,
        "livemode": job.livemode,
    }
    return Image(
        id=image.image_id,
        org_id=job.org_id,
        job_id=job.id,
        generation_id=generation.id,
        operation_id=operation.id,
        key=image.key,
        thumbnail_key=image.thumbnail_key,
        content_type=image.content_type,
        sha256=image.sha256,
        crc32=image.crc32,
        bytes=image.bytes,
        width=image.width,
        height=image.height,
        seed=operation.seed,
        style=generation.style,
        room_type=generation.room_type,
        product_id=generation.product_id,
        settings=generation.settings,
        provenance=dict(provenance),
        livemode=job.livemode,
        parent_id=generation.settings.get("parent_image_id"),
    )
