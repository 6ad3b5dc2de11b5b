"""Writing down what a provider's call came to: under the job's lock, only while the claim holds, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import endings, metrics
from services.generation.claims import Claimed, still_held
from services.generation.engine import Engine
from services.generation.jobs import GENERATION_ENDS
from services.generation.models import Generation, Image, Job, Operation
from services.generation.operations import Answered, GiveUp, Repeat
from services.generation.rows import insert_rows
from services.generation.submissions import operation_row
from services.generation.workflows import DoneOperation, workflow
from shared.database import once_committed
from shared.events import Event

log = structlog.get_logger(__name__)


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
        .where(Operation.id == claimed.id, Operation.fence == claimed.fence, Operation.status == "running")
        .values(status="storing")
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
        _note_late(session, claimed, answer)
        return Recorded(adopted=False, events=[])
    now = endings.database_now(session)
    operation.status, operation.completed_at, operation.lease_until = "succeeded", now, None
    operation.model_used, operation.cost_microusd = answer.model, answer.cost_microusd
    operation.duration_ms = int((now - (operation.started_at or now)).total_seconds() * 1000)
    provider, cost_usd = operation.provider, answer.cost_microusd / 1_000_000
    once_committed(session, lambda: metrics.provider_cost_usd.labels(provider).inc(cost_usd))
    operation.output = {"images": [image.image_id for image in images], "result": answer.result}
    session.add_all(_image_row(image, job, generation, operation, answer) for image in images)
    job.progressed_at = now
    session.flush()
    return Recorded(adopted=True, events=_go_on(session, engine, job, generation, now=now))


def repeat(session: Session, claimed: Claimed, *, decision: Repeat) -> list[Event]:
    """Queue an operation again after the decision's pause."""
    job, operation = _locked(session, claimed)
    if operation is None:
        return []
    now = endings.database_now(session)
    operation.status, operation.lease_until, operation.worker = "queued", None, None
    operation.due_at = now + timedelta(seconds=decision.after_seconds)
    operation.error_code, operation.error_detail = decision.code, decision.detail
    log.info(
        "operation_repeats",
        operation_id=claimed.id,
        job_id=job.id,
        code=decision.code,
        attempt=claimed.attempt,
        again_in_seconds=decision.after_seconds,
    )
    return []


def failure(session: Session, claimed: Claimed, *, decision: GiveUp) -> list[Event]:
    """End an operation for good, and its generation with it."""
    job, operation = _locked(session, claimed)
    if operation is None:
        return []
    now = endings.database_now(session)
    operation.status, operation.completed_at, operation.lease_until = "failed", now, None
    operation.error_code, operation.error_detail = decision.code, decision.detail
    operation.duration_ms = int((now - (operation.started_at or now)).total_seconds() * 1000)
    session.flush()
    log.warning("operation_failed", operation_id=claimed.id, job_id=job.id, code=decision.code, detail=decision.detail)
    generation = session.get_one(Generation, claimed.generation_id)
    if generation.status in GENERATION_ENDS:
        return []
    return endings.fail(session, job, [generation.id], code=decision.code, now=now)


def _locked(session: Session, claimed: Claimed) -> tuple[Job, Operation | None]:
    """Lock the job, then the operation if it is still this claim's."""
    job = endings.lock_jobs(session, [claimed.job_id])[claimed.job_id]
    return job, still_held(session, claimed)


def _go_on(session: Session, engine: Engine, job: Job, generation: Generation, *, now: datetime) -> list[Event]:
    """Complete a generation whose operations are all done, unless its workflow plans more."""
    statement = sa.select(Operation).where(Operation.generation_id == generation.id).order_by(Operation.position)
    operations = list(session.scalars(statement))
    if any(item.status != "succeeded" for item in operations):
        return []
    done = [_done(session, item) for item in operations]
    planned = workflow(job.workflow).follow_up(generation.settings, done)
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
    )


def _note_late(session: Session, claimed: Claimed, answer: Answered) -> None:
    """Keep what a result cost that came after its generation had ended."""
    log.warning(
        "late_result_discarded",
        operation_id=claimed.id,
        job_id=claimed.job_id,
        cost_microusd=answer.cost_microusd,
        model=answer.model,
    )
    session.execute(
        sa.update(Operation)
        .where(Operation.id == claimed.id, Operation.fence == claimed.fence)
        .values(cost_microusd=answer.cost_microusd, model_used=answer.model, output={"late": True})
    )
