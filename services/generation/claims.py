"""Claiming operations: who may work on what, for how long. Leases use the database's time, fences rise with each claim.

A claim is one round trip. Turns go to the organization with the least at work, so that 2,000 images of one never stand
before the two of another.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import endings
from services.generation.jobs import GENERATION_ENDS, JOB_ENDS, TEST
from services.generation.models import Generation, Operation
from shared.events import Event, GenerationStarted, correlated

LEASE_SECONDS = 12.0
HEARTBEAT_SECONDS = 3.0
CLAIM_LOCK = 7_301_010


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """An operation that is this worker's until its lease ends; ``fence`` proves it at every write."""

    id: str
    org_id: str
    job_id: str
    generation_id: str
    name: str
    provider: str
    model_requested: str
    prompt: str
    seed: int
    inputs: Mapping[str, Any]
    makes_image: bool
    attempt: int
    fence: int
    lane: int = 0
    waited_seconds: float = 0.0


# The advisory lock makes the limits exact across workers. It is a statement of its own, though sent along: a statement
# counts what there was when it began, so one that waited for the lock would not see what was claimed meanwhile.
# `waiting` steps from organization to organization over the queue's index, so that its cost is that of the number of
# organizations, not of the backlog. `turn` counts what an organization has at work before and with each candidate.
# What test keys have asked for is counted apart, and comes after everything else that is due: one at a time of an
# organization, and together no more than half of what a provider may have at work, so that a live one finds a place.
_CLAIM = sa.text("""
SELECT pg_advisory_xact_lock(:lock);
WITH RECURSIVE waiting AS (
    (SELECT org_id FROM operations WHERE status = 'queued' AND due_at IS NOT NULL ORDER BY org_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.org_id FROM operations o
            WHERE o.status = 'queued' AND o.due_at IS NOT NULL AND o.org_id > waiting.org_id
            ORDER BY o.org_id LIMIT 1)
    FROM waiting WHERE waiting.org_id IS NOT NULL
), at_work AS (
    SELECT org_id, lane = :test_lane AS is_test, count(*) AS running FROM operations
    WHERE status IN ('running', 'storing', 'unknown') GROUP BY org_id, lane = :test_lane
), busy AS (
    SELECT provider, count(*) AS running, count(*) FILTER (WHERE lane = :test_lane) AS tests FROM operations
    WHERE status IN ('running', 'storing', 'unknown') GROUP BY provider
), candidates AS (
    SELECT next.*, coalesce(at_work.running, 0) + row_number() OVER (
               PARTITION BY next.org_id, next.is_test ORDER BY next.lane, next.due_at, next.id) AS turn
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT o.id, o.org_id, o.provider, o.lane, o.due_at, o.lane = :test_lane AS is_test FROM operations o
        WHERE o.status = 'queued' AND o.due_at <= clock_timestamp() AND o.org_id = waiting.org_id
        ORDER BY o.lane, o.due_at, o.id LIMIT :free
    ) AS next
    LEFT JOIN at_work ON at_work.org_id = next.org_id AND at_work.is_test = next.is_test
), allowed AS (
    SELECT candidates.id, candidates.is_test, candidates.turn, candidates.lane, candidates.due_at,
           coalesce(busy.running, 0) + row_number() OVER (
               PARTITION BY candidates.provider
               ORDER BY candidates.is_test, candidates.turn, candidates.lane, candidates.due_at
           ) AS place,
           coalesce(busy.tests, 0) + row_number() OVER (
               PARTITION BY candidates.provider, candidates.is_test ORDER BY candidates.due_at
           ) AS place_of_test,
           CAST(CAST(:limits AS jsonb) ->> candidates.provider AS integer) AS provider_limit
    FROM candidates LEFT JOIN busy ON busy.provider = candidates.provider
    WHERE candidates.turn <= CASE WHEN candidates.is_test THEN 1 ELSE :per_organization END
), chosen AS (
    SELECT o.id FROM operations o
    JOIN (
        SELECT id FROM allowed
        WHERE place <= provider_limit AND (NOT is_test OR place_of_test <= greatest(1, provider_limit / 2))
        ORDER BY is_test, turn, lane, due_at LIMIT :free
    ) AS pick ON pick.id = o.id
    WHERE o.status = 'queued'
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE operations o
SET status = 'running', worker = :worker, fence = o.fence + 1, attempt = o.attempt + 1,
    lease_until = clock_timestamp() + make_interval(secs => :lease), started_at = clock_timestamp(),
    error_code = NULL, error_detail = NULL
FROM chosen WHERE o.id = chosen.id
RETURNING o.id, o.org_id, o.job_id, o.generation_id, o.name, o.provider, o.model_requested, o.prompt, o.seed,
          o.inputs, o.makes_image, o.attempt, o.fence, o.lane,
          CAST(extract(epoch FROM o.started_at - o.due_at) AS double precision) AS waited_seconds
""")

_HEARTBEAT = sa.text("""
UPDATE operations SET lease_until = clock_timestamp() + make_interval(secs => :lease)
FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[])) AS held (id, fence)
WHERE operations.id = held.id AND operations.fence = held.fence AND operations.status IN ('running', 'storing')
RETURNING operations.id
""")

_EXPIRED = sa.text("""
SELECT id, org_id, job_id, generation_id, name, provider, model_requested, prompt, seed, inputs, makes_image,
       attempt, fence
FROM operations
WHERE status IN ('running', 'storing', 'unknown') AND lease_until < clock_timestamp()
ORDER BY lease_until LIMIT :most
""")


def claim(
    session: Session,
    *,
    worker: str,
    free: int,
    limits: Mapping[str, int],
    per_organization: int,
    lease_seconds: float = LEASE_SECONDS,
) -> list[Claimed]:
    """Claim at most ``free`` due operations: those of live keys, and where room is left, those of test keys.

    Args:
        session: of the system role: a claim spans organizations.
        worker: this worker's name, for operators.
        free: how many this worker can take on.
        limits: per provider, how many of its operations may be at work in the whole system; others are not claimed.
        per_organization: how many operations of one organization may be at work, and one of its test keys besides.
        lease_seconds: how long the claim holds without a heartbeat.
    """
    values = {
        "lock": CLAIM_LOCK,
        "test_lane": TEST,
        "worker": worker,
        "free": free,
        "limits": json.dumps(dict(limits)),
        "per_organization": per_organization,
        "lease": lease_seconds,
    }
    return [Claimed(**row) for row in session.execute(_CLAIM, values).mappings()]


def begin(session: Session, claimed: Sequence[Claimed]) -> tuple[list[Claimed], list[Event]]:
    """Move the jobs and generations of claimed operations on; return those still worth doing, and the events."""
    jobs = endings.lock_jobs(session, (item.job_id for item in claimed))
    statement = sa.select(Generation).where(Generation.id.in_({item.generation_id for item in claimed}))
    generations = {item.id: item for item in session.scalars(statement.order_by(Generation.id))}
    now = endings.database_now(session)
    live: list[Claimed] = []
    events: list[Event] = []
    for item in claimed:
        job, generation = jobs[item.job_id], generations[item.generation_id]
        if job.status in JOB_ENDS or generation.status in GENERATION_ENDS:
            continue
        if job.status == "queued":
            job.status = "running"
        if generation.status == "queued":
            generation.status = "running"
        if generation.started_at is None:
            generation.started_at = now
            events.append(
                GenerationStarted(
                    meta=correlated(job.correlation_id),
                    job_id=job.id,
                    generation_id=generation.id,
                    org_id=job.org_id,
                    workflow=job.workflow,
                    livemode=job.livemode,
                    session_id=job.session_id,
                )
            )
        job.progressed_at = now
        live.append(item)
    _release(session, [item.id for item in claimed if item not in live])
    return live, events


def heartbeat(session: Session, held: Collection[Claimed], *, lease_seconds: float = LEASE_SECONDS) -> set[str]:
    """Prolong the leases of ``held``; return the ids that are still this worker's."""
    values = {
        "lease": lease_seconds,
        "ids": [item.id for item in held],
        "fences": [item.fence for item in held],
    }
    return set(session.execute(_HEARTBEAT, values).scalars())


def expired(session: Session, *, most: int = 100) -> list[Claimed]:
    """Return operations whose worker has let its lease run out."""
    return [Claimed(**row) for row in session.execute(_EXPIRED, {"most": most}).mappings()]


def has_lapsed(session: Session, claimed: Claimed) -> bool:
    """Tell whether a claim's lease has run out, and nobody else has taken the operation since."""
    statement = sa.select(Operation.id).where(
        Operation.id == claimed.id,
        Operation.fence == claimed.fence,
        Operation.status.in_(("running", "storing", "unknown")),
        Operation.lease_until < sa.func.clock_timestamp(),
    )
    return session.scalars(statement).one_or_none() is not None


def still_held(session: Session, claimed: Claimed) -> Operation | None:
    """Lock and return the operation if the claim is still good, else None. The job is locked already."""
    statement = (
        sa.select(Operation)
        .where(
            Operation.id == claimed.id,
            Operation.fence == claimed.fence,
            Operation.status.in_(("running", "storing", "unknown")),
        )
        .with_for_update()
    )
    return session.scalars(statement).one_or_none()


def _release(session: Session, operation_ids: Sequence[str]) -> None:
    """Cancel claimed operations whose generation ended between planning and claim."""
    if operation_ids:
        session.execute(
            sa.update(Operation)
            .where(Operation.id.in_(operation_ids), Operation.status == "running")
            .values(status="cancelled", completed_at=sa.func.clock_timestamp())
        )
