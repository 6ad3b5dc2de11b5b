"""Adopting many results at once: the usual case, in a few statements however many they are.

That is an image which still is its claim's, alone in an open generation of a running job, with nothing to follow and no
result of more than itself, and no step of a staging session, which counts its results.
What is out of the ordinary is left to `recording`, one by one. One transaction, the jobs locked first, in the order of
their ids.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import calls, endings, known_analyses, metrics, recording
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.jobs import AT_WORK, GENERATION_ENDS, roll_up
from services.generation.operations import Answered, Spent, spent
from services.generation.recording import Recorded, StoredImage
from services.generation.staging_progress import is_step
from services.generation.telling import about, fallback_from, renewed_view
from services.generation.workflows import DoneOperation, last_result, workflow
from shared.database import once_committed
from shared.events import Event, GenerationCompleted, MadeImage, RenewedView, correlated
from shared.prepared import Prepared

log = structlog.get_logger(__name__)

Row = sa.Row[*tuple[Any, ...]]

_AT_WORK = ", ".join(f"'{status}'" for status in AT_WORK)
_ENDS = ", ".join(f"'{status}'" for status in sorted(GENERATION_ENDS))

_JOBS = Prepared(
    "lock_jobs_with_results",
    """
SELECT id, org_id, user_id, workflow, status, livemode, correlation_id, session_id, session_name, retry_of,
       waiting_reason, open_generations, created_at, clock_timestamp() AS now
FROM jobs WHERE id = ANY (:ids) ORDER BY id FOR UPDATE
""",
)
_HELD = Prepared(
    "lock_operations_with_results",
    f"""
SELECT o.id AS operation_id, o.fence, o.asked_first, o.provider, o.model_requested, o.model_used, o.prompt_version,
       o.cost_microusd, o.name, g.id, g.job_id, g.sku, g.amount, g.product_id, g.revision_id, g.style, g.room_type,
       g.view_type, g.settings, g.started_at, o.inputs -> 'sources' AS sources,
       (SELECT count(*) FROM operations other WHERE other.generation_id = g.id) AS operations
FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[])) AS asked (id, fence)
JOIN operations o ON o.id = asked.id AND o.fence = asked.fence
JOIN generations g ON g.id = o.generation_id
WHERE o.status IN ({_AT_WORK}) AND g.status NOT IN ({_ENDS}) AND o.makes_image
ORDER BY o.id FOR UPDATE OF o
""",
)
_KEEP = Prepared(
    "keep_results",
    f"""
WITH done AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:done AS jsonb)) AS done (
        id text, attempt integer, generation_id text, model text, cost_microusd bigint, prompt_tokens integer,
        completion_tokens integer, digest text, output jsonb, result jsonb, fallback_from text
    )
), made AS (
    SELECT * FROM jsonb_to_recordset(CAST(:images AS jsonb)) AS made (
        operation_id text, image_id text, key text, thumbnail_key text, content_type text, sha256 text, crc32 bigint,
        bytes bigint, width integer, height integer, provenance jsonb
    )
), logged AS (
    UPDATE attempts a SET status = 'succeeded', ended_at = :now,
        duration_ms = CAST(extract(epoch FROM :now - a.sent_at) * 1000 AS integer),
        error_code = NULL, error_detail = NULL, model_used = done.model, cost_microusd = done.cost_microusd,
        prompt_tokens = done.prompt_tokens, completion_tokens = done.completion_tokens, response_digest = done.digest
    FROM done WHERE a.operation_id = done.id AND a.attempt = done.attempt AND ({calls.OPEN_ATTEMPT})
), kept AS (
    UPDATE operations o SET status = 'succeeded', completed_at = :now, lease_until = NULL, poll_at = NULL,
        phase = NULL, queue_position = NULL, output = done.output,
        duration_ms = CAST(trunc(extract(epoch FROM :now - coalesce(o.started_at, :now)) * 1000) AS integer),
        model_used = coalesce(nullif(done.model, ''), o.model_used),
        cost_microusd = coalesce(o.cost_microusd + done.cost_microusd, o.cost_microusd, done.cost_microusd),
        prompt_tokens = coalesce(o.prompt_tokens + done.prompt_tokens, o.prompt_tokens, done.prompt_tokens),
        completion_tokens =
            coalesce(o.completion_tokens + done.completion_tokens, o.completion_tokens, done.completion_tokens)
    FROM done WHERE o.id = done.id
), completed AS (
    UPDATE generations g SET status = 'succeeded', finished_at = clock_timestamp(), charged = coalesce(g.amount, 0),
        result = done.result, fallback_from = done.fallback_from
    FROM done WHERE g.id = done.generation_id
)
INSERT INTO images (id, org_id, job_id, generation_id, operation_id, key, thumbnail_key, content_type, sha256, crc32,
                    bytes, width, height, seed, style, room_type, product_id, settings, provenance, livemode,
                    parent_id)
SELECT made.image_id, o.org_id, o.job_id, o.generation_id, o.id, made.key, made.thumbnail_key, made.content_type,
       made.sha256, made.crc32, made.bytes, made.width, made.height, o.seed, g.style, g.room_type, g.product_id,
       g.settings, made.provenance, o.livemode, g.settings ->> 'parent_image_id'
FROM made JOIN operations o ON o.id = made.operation_id JOIN generations g ON g.id = o.generation_id
""",
)
_ENDED = Prepared(
    "read_ended_jobs",
    """
SELECT job_id, id, status, sku, amount, charged, failure_reason, fallback_from FROM generations
WHERE job_id = ANY (:ids) ORDER BY job_id, number
""",
)
_COUNT_DOWN = Prepared(
    "count_down_jobs",
    """
UPDATE jobs j SET open_generations = j.open_generations - ended.count, progressed_at = clock_timestamp(),
    status = coalesce(ended.status, j.status),
    finished_at = CASE WHEN ended.status IS NULL THEN j.finished_at ELSE clock_timestamp() END,
    reserve_after = CASE WHEN ended.status IS NULL THEN j.reserve_after END,
    paused_at = CASE WHEN ended.status IS NULL THEN j.paused_at END
FROM unnest(CAST(:ids AS text[]), CAST(:counts AS integer[]), CAST(:statuses AS text[])) AS ended (id, count, status)
WHERE j.id = ended.id
""",
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """An operation's answer, whose images are in the store."""

    item: Claimed
    answer: Answered
    images: Sequence[StoredImage]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A result of the usual kind, with its rows and what it used up."""

    result: Result
    row: Row
    job: Row
    used: Spent


def adopt(session: Session, engine: Engine, results: Sequence[Result]) -> list[Recorded]:
    """Adopt stored results while their generations are open; late ones are logged with their cost, nothing more.

    Args:
        session: of the system role. Whoever has more to write in it has locked all the jobs before.
        engine: plans what follows.
        results: of different operations, of any jobs.

    Returns:
        For each, in order, whether it was adopted, and the events of that.
    """
    usual = _usual(session, results)
    unusual = [result for result in results if result.item.claim not in usual]
    if len(unusual) > 1:  # what only one has found out is locked when it is written
        known_analyses.lock_found_out(session, [each.item.id for each in unusual])
    recorded = {
        each.item.claim: recording.success(session, engine, each.item, answer=each.answer, images=each.images)
        for each in unusual
    }
    if unusual:
        session.flush()
        usual = _usual(session, [result for result in results if result.item.claim in usual])
    recorded.update(_kept(session, list(usual.values())))
    return [recorded[result.item.claim] for result in results]


def _usual(session: Session, results: Sequence[Result]) -> dict[tuple[str, int], _Kept]:
    """Lock jobs, then operations; return those that are of the usual kind."""
    if not results:
        return {}
    jobs = {job.id: job for job in _JOBS.execute(session, {"ids": sorted({each.item.job_id for each in results})})}
    claims = {"ids": [each.item.id for each in results], "fences": [each.item.fence for each in results]}
    rows = {(row.operation_id, row.fence): row for row in _HELD.execute(session, claims)}
    return {
        each.item.claim: _Kept(result=each, row=row, job=jobs[row.job_id], used=spent(each.answer))
        for each in results
        if (row := rows.get(each.item.claim)) is not None and _is_usual(each, row, jobs[row.job_id])
    }


def _is_usual(result: Result, row: Row, job: Row) -> bool:
    if job.status != "running" or job.waiting_reason is not None or row.operations > 1 or is_step(job.session_id):
        return False
    line = workflow(job.workflow)
    if line.result_of is not last_result:
        return False
    done = DoneOperation(
        name=row.name,
        result=result.answer.result,
        image_keys=tuple(image.key for image in result.images),
        image_ids=tuple(image.image_id for image in result.images),
        sources=tuple(row.sources),
    )
    return not line.follow_up(row.settings, [done])


def _kept(session: Session, usual: Sequence[_Kept]) -> dict[tuple[str, int], Recorded]:
    """Write the usual ones; return what was recorded, by claim."""
    if not usual:
        return {}
    now: datetime = max(each.job.now for each in usual)
    done = [_done(each) for each in usual]
    made = [_made(each, image) for each in usual for image in each.result.images]
    _KEEP.execute(session, {"done": _json(done), "images": _json(made), "now": now})
    for each in usual:
        once_committed(session, partial(_count_cost, each.row.provider, each.used.cost_microusd or 0))
    finished = _count_down(session, usual)
    recorded = {each.result.item.claim: Recorded(adopted=True, events=[_completed(each, now=now)]) for each in usual}
    for each in reversed(usual):  # the job's end is told after the last of its generations
        if each.job.id in finished:
            recorded[each.result.item.claim].events.append(finished.pop(each.job.id))
    return recorded


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()


def _done(each: _Kept) -> dict[str, Any]:
    answer = each.result.answer
    return {
        "id": each.row.operation_id,
        "attempt": each.result.item.attempt,
        "generation_id": each.row.id,
        **vars(each.used),
        "output": {"images": [image.image_id for image in each.result.images], "result": answer.result},
        "result": answer.result,
        "fallback_from": fallback_from([each.row]),
    }


def _made(each: _Kept, image: StoredImage) -> dict[str, Any]:
    answer = each.result.answer
    provenance: Mapping[str, Any] = {
        **answer.provenance,
        "provider": each.row.provider,
        "model": answer.model,
        "prompt_version": each.row.prompt_version,
        "livemode": each.job.livemode,
    }
    return {"operation_id": each.row.operation_id, **vars(image), "provenance": provenance}


def _count_cost(provider: str, cost_microusd: int) -> None:
    metrics.provider_cost_usd.labels(provider).inc(cost_microusd / 1_000_000)


def _completed(each: _Kept, *, now: datetime) -> GenerationCompleted:
    row, images = each.row, sorted(each.result.images, key=lambda image: image.image_id)
    return GenerationCompleted(
        **about(each.job, row),
        meta=correlated(each.job.correlation_id),
        amount=row.amount or 0,
        images=[
            MadeImage(image_id=one.image_id, sha256=one.sha256, bytes=one.bytes, width=one.width, height=one.height)
            for one in images
        ],
        provider=row.provider,
        model=each.used.model or row.model_used or row.model_requested,
        duration_ms=int((now - (row.started_at or now)).total_seconds() * 1000),
        provider_cost_microusd=(row.cost_microusd or 0) + (each.used.cost_microusd or 0),
        fallback_from=fallback_from([row]),
        renewed_view=_renewed_view(each, images[-1]) if images else None,
    )


def _renewed_view(each: _Kept, image: StoredImage) -> RenewedView | None:
    names = ("image_id", "key", "thumbnail_key", "content_type")
    return renewed_view(each.job, each.row, **{name: getattr(image, name) for name in names})


def _count_down(session: Session, usual: Sequence[_Kept]) -> dict[str, Event]:
    """Count the generations as ended, and end the jobs of which they were the last; return the events of that."""
    jobs = {each.job.id: each.job for each in usual}
    counts = Counter(each.job.id for each in usual)
    ending = [job_id for job_id, count in counts.items() if jobs[job_id].open_generations == count]
    lines: dict[str, list[Row]] = {}
    if ending:
        rows = _ENDED.execute(session, {"ids": ending})
        lines = {job_id: list(each) for job_id, each in groupby(rows, key=lambda row: row.job_id)}
    statuses = {job_id: roll_up([line.failure_reason for line in each]) for job_id, each in lines.items()}
    _COUNT_DOWN.execute(
        session,
        {
            "ids": list(counts),
            "counts": list(counts.values()),
            "statuses": [statuses.get(job_id) for job_id in counts],
        },
    )
    for job_id, status in statuses.items():
        endings.note_end(session, jobs[job_id], status=status)
    return {
        job_id: endings.finish_of(jobs[job_id], status=status, generations=lines[job_id])
        for job_id, status in statuses.items()
    }
