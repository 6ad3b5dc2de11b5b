"""Writing down what a provider's call came to: under the job's lock, only while the claim holds, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import asking, calls, endings, known_analyses, metrics, tech_pack_results
from services.generation.claims import LEASE_SECONDS, Claimed, still_held
from services.generation.engine import Engine
from services.generation.jobs import GENERATION_ENDS, charge
from services.generation.known_analyses import Found
from services.generation.models import Attempt, Generation, Image, Job, Operation
from services.generation.operations import Answered, GiveUp, Repeat, Spent, another_seed, spent
from services.generation.planning import digests_of
from services.generation.rows import insert_rows
from services.generation.submissions import operation_row
from services.generation.workflows import DoneOperation, PlannedOperation, workflow
from shared.database import once_committed
from shared.events import Event, GenerationStarted, correlated
from shared.prepared import Prepared
from shared.problems import Unavailable

log = structlog.get_logger(__name__)

_NOTHING = Spent()

# In the one order of ids, as everywhere where several operations are locked. "storing" is what this wrote already,
# where the answer to its commit was lost.
_STORING = Prepared(
    "note_storing",
    """
WITH held AS MATERIALIZED (
    SELECT o.id FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[])) AS held (id, fence)
    JOIN operations o ON o.id = held.id AND o.fence = held.fence
    WHERE o.status IN ('running', 'unknown', 'storing') ORDER BY o.id FOR UPDATE OF o
)
UPDATE operations o SET status = 'storing', phase = 'storing', poll_at = NULL,
    lease_until = clock_timestamp() + make_interval(secs => :lease)
FROM held WHERE o.id = held.id
RETURNING o.id, o.fence, EXISTS (
    SELECT FROM circuits c WHERE c.provider = o.provider AND c.model = o.model_requested
      AND (c.failures > 0 OR c.state <> 'closed')
) AS was_in_trouble
""",
)


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


def storing(session: Session, several: Sequence[Claimed]) -> dict[tuple[str, int], bool]:
    """Note that providers have answered and the bytes are on their way to the store.

    Returns:
        The claims that hold, each with whether something was wrong with its model before it answered well.
    """
    values = {
        "ids": [claimed.id for claimed in several],
        "fences": [claimed.fence for claimed in several],
        "lease": LEASE_SECONDS,
    }
    return {(row.id, row.fence): row.was_in_trouble for row in _STORING.execute(session, values)}


def success(
    session: Session, engine: Engine, claimed: Claimed, *, answer: Answered, images: Sequence[StoredImage]
) -> Recorded:
    """Adopt a stored result while its generation is open; a late one is logged with its cost and changes nothing.

    Whatever there is to be thought of; the usual case is dealt with in `adopting`, for many at once.
    """
    job, operation = _locked(session, claimed)
    if operation is None and _is_recorded(session, claimed):
        return Recorded(adopted=True, events=[])
    generation = session.get_one(Generation, claimed.generation_id)
    used = spent(answer)
    if operation is None or generation.status in GENERATION_ENDS:
        note_late(session, claimed, used)
        return Recorded(adopted=False, events=[])
    calls.end_attempt(session, claimed, status="succeeded", spent=used)
    now = endings.database_now(session)
    _end(operation, "succeeded", now=now)
    _note_spent(session, operation, used)
    operation.output = {"images": [image.image_id for image in images], "result": answer.result}
    known_analyses.keep(session, operation, answer)
    session.add_all(_image_row(image, job, generation, operation, answer) for image in images)
    job.progressed_at = now
    session.flush()
    return Recorded(adopted=True, events=_go_on(session, engine, job, generation, now=now))


def taken(
    session: Session, engine: Engine, job: Job, operation: Operation, *, found: Found, now: datetime
) -> list[Event]:
    """Let an operation that waits take an analysis that is known, as if its provider had given it: it costs nothing.

    Job and operation are locked; both are open.
    """
    generation = session.get_one(Generation, operation.generation_id)
    events = _begun(job, generation, now=now)
    operation.provider, operation.model_used, operation.taken_from = found.provider, found.model, found.operation_id
    operation.started_at = now
    operation.prompt_tokens = operation.completion_tokens = operation.cost_microusd = 0
    operation.output = {"images": [], "result": found.result}
    _end(operation, "succeeded", now=now)
    job.from_cache += 1
    job.progressed_at = now
    session.flush()
    return [*events, *_go_on(session, engine, job, generation, now=now)]


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
        asking.look_for_cancelled(session, claimed, after_seconds=after_seconds)
        return []
    if job.status == "cancelling":
        return failure(session, claimed, decision=GiveUp(code="cancelled_running", detail=detail), runs_on=True)
    now = endings.database_now(session)
    operation.status, operation.lease_until, operation.phase = "unknown", None, "unknown"
    operation.worker = None
    operation.poll_at = now + timedelta(seconds=after_seconds)
    operation.error_code, operation.error_detail = "outcome_unknown", detail
    calls.note_unknown(session, claimed)
    _count_unknown(session, operation)
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
    if decision.code == "outcome_unknown" and operation.status != "unknown":
        _count_unknown(session, operation)
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
    ended_now = calls.end_attempt(session, claimed, status="late", spent=used, code=code, detail=detail)
    if not ended_now and session.get(Attempt, (claimed.id, claimed.attempt)) is not None:
        return  # what it cost has been counted
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


def _count_unknown(session: Session, operation: Operation) -> None:
    """Count a request of which nobody knows whether it arrived: once, whatever is found out about it later."""
    provider = operation.provider
    once_committed(session, lambda: metrics.operations_unknown.labels(provider).inc())


def _begun(job: Job, generation: Generation, *, now: datetime) -> list[Event]:
    """Let a job and a generation begin that have not: without being claimed, nobody else does it."""
    if job.status == "queued":
        job.status = "running"
    if generation.status == "queued":
        generation.status = "running"
    if generation.started_at is not None:
        return []
    generation.started_at = now
    return [
        GenerationStarted(
            meta=correlated(job.correlation_id),
            job_id=job.id,
            generation_id=generation.id,
            org_id=job.org_id,
            workflow=job.workflow,
            livemode=job.livemode,
            session_id=job.session_id,
            user_id=job.user_id,
            style=generation.style,
        )
    ]


def _note_spent(session: Session, operation: Operation, used: Spent) -> None:
    """Add what an attempt has used up to what the operation has: every attempt may be billed."""
    operation.model_used = used.model or operation.model_used
    for name in ("cost_microusd", "prompt_tokens", "completion_tokens"):
        more = getattr(used, name)
        if more is not None:
            setattr(operation, name, (getattr(operation, name) or 0) + more)
    provider, cost_usd = operation.provider, (used.cost_microusd or 0) / 1_000_000
    once_committed(session, lambda: metrics.provider_cost_usd.labels(provider).inc(cost_usd))


def _is_recorded(session: Session, claimed: Claimed) -> bool:
    """Tell whether this very claim has recorded its success before: the answer to that commit was lost."""
    statement = sa.select(Operation.id).where(
        Operation.id == claimed.id, Operation.fence == claimed.fence, Operation.status == "succeeded"
    )
    return session.scalars(statement).one_or_none() is not None


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
    line = workflow(job.workflow)
    planned = line.follow_up(generation.settings, done)
    if planned and job.status == "cancelling":
        return endings.fail(session, job, [generation.id], code="cancelled_running", now=now)
    if not planned:
        result = line.result_of(generation.settings, done)
        generation.result = None if result is None else dict(result)
        return _complete(session, job, generation, operations, now=now)
    about = {
        "org_id": job.org_id,
        "user_id": job.user_id,
        "id": job.id,
        "livemode": job.livemode,
        "fresh": job.fresh,
    }
    digests = _digests(session, job, planned)
    engine = engine.in_mode(livemode=job.livemode)
    try:
        rows = [
            operation_row(
                engine,
                item,
                position=len(operations) + number,
                job=about,
                generation_id=generation.id,
                due_at=now,
                digests=digests,
            )
            for number, item in enumerate(planned)
        ]
    except Unavailable:
        # The last provider for what follows has gone since it was planned: nothing that is waited for will bring it.
        return endings.fail(session, job, [generation.id], code="internal_error", now=now)
    insert_rows(session, Operation, rows)
    job.cacheable += sum("digests" in row["inputs"] for row in rows)
    return []


def _complete(
    session: Session, job: Job, generation: Generation, operations: Sequence[Operation], *, now: datetime
) -> list[Event]:
    """End a generation that has its result, well unless that does not fit what it was asked for any more."""
    outdated = tech_pack_results.keep(session, job, generation, operations)
    if outdated:
        return endings.fail(session, job, [generation.id], code="invalid_input", message=outdated, now=now)
    return endings.complete(session, job, generation, now=now, charged=_charged(generation, operations))


def _charged(generation: Generation, operations: Sequence[Operation]) -> int:
    return charge(
        generation.amount or 0,
        operations=len(operations),
        from_cache=sum(item.taken_from is not None for item in operations),
        parts=generation.parts,
    )


def _digests(session: Session, job: Job, planned: Sequence[PlannedOperation]) -> dict[str, str]:
    """Return the digests of the pictures that planned analyses look at: uploads, and images made before."""
    known = digests_of(job.assets)
    made = {source for item in planned if not item.makes_image for source in item.sources} - set(known)
    if made:
        found = session.execute(sa.select(Image.key, Image.sha256).where(Image.job_id == job.id, Image.key.in_(made)))
        known |= {row.key: row.sha256 for row in found}
    return known


def _done(session: Session, operation: Operation) -> DoneOperation:
    found = session.execute(sa.select(Image.id, Image.key).where(Image.operation_id == operation.id).order_by(Image.id))
    images = found.all()
    return DoneOperation(
        name=operation.name,
        result=(operation.output or {}).get("result"),
        image_keys=tuple(image.key for image in images),
        image_ids=tuple(image.id for image in images),
        sources=tuple(operation.inputs["sources"]),
    )


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
