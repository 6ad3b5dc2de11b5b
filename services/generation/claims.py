"""Claiming operations: who may work on what, for how long. Leases use the database's time, fences rise with each claim.

A claim is one round trip. Turns go round the organizations, first to those with the least at work, so that 2,000 images
of one never stand before the two of another.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.breaker import burst
from services.generation.jobs import AGES_AFTER_SECONDS, AT_WORK, GENERATION_ENDS, INTERACTIVE, JOB_ENDS, STANDARD, TEST
from services.generation.models import Operation
from shared.events import Event, GenerationStarted, correlated
from shared.prepared import Prepared

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

    @property
    def claim(self) -> tuple[str, int]:
        """What tells this claim from any other of the same operation."""
        return self.id, self.fence


_AT_WORK = ", ".join(f"'{status}'" for status in AT_WORK)
# So many organizations are looked at by one claim, in all lines together, and so many operations of them.
WINDOW = 64
LEAST_OF_A_LINE = 8
BREADTH = 64
# One in so many of a provider's places is for organizations that have nothing at work: they need not wait until one of
# those that fill all the others ends. A provider with fewer places keeps none.
KEPT_FREE = 50

# The advisory lock makes the limits exact across workers. It is a statement of its own, though sent along: a statement
# counts what there was when it began, so one that waited for the lock would not see what was claimed meanwhile. The
# just-in-time compiler would take longer over all this than it takes.
#
# What is due is queued up in lines, one for each model of a provider and mode, and a line that is closed or full holds
# up no other. `visited` goes round a line, organization by organization, on from the last that was served: over the
# queue's index, and over so many at most that the cost is bounded, however many wait. Of those the least served
# have their turn first, by weight. `own_place` orders what is one organization's own: standard work that has waited
# long goes before interactive work, but no more than one in four, so that a large backlog never holds up everything;
# beside the work of others it counts as interactive, no more, so that turns still go round.
# What test keys have asked for is counted apart, and comes after everything else that is due: one at a time of an
# organization, and together no more than half of what a provider may have at work, so that a live one finds a place.
#
# The time is read once: compared with a volatile function, `due_at` would not be looked up in the index.
CLAIM_STATEMENTS = (
    "SELECT set_config('jit', 'off', true), pg_advisory_xact_lock(:lock)",
    f"""
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), at_work AS MATERIALIZED (
    SELECT id, fence, org_id, provider, lane, status FROM operations WHERE status IN ({_AT_WORK})
), busy AS (
    -- What is being stored has its answer: the provider is no longer at it. Nor is it at what this worker is about to
    -- note down so.
    SELECT provider, count(*) AS running, count(*) FILTER (WHERE lane = :test) AS tests
    FROM at_work
    LEFT JOIN unnest(CAST(:answered_ids AS text[]), CAST(:answered_fences AS bigint[])) AS answered (id, fence)
        ON answered.id = at_work.id AND answered.fence = at_work.fence
    WHERE status <> 'storing' AND answered.id IS NULL
    GROUP BY provider
), served AS MATERIALIZED (
    SELECT org_id, lane <> :test AS livemode, count(*) AS running,
           count(*) FILTER (WHERE lane = :interactive) AS interactive,
           count(*) FILTER (WHERE lane = :standard) AS standard
    FROM at_work GROUP BY org_id, lane <> :test
), providers AS MATERIALIZED (
    SELECT given.provider, given.most, given.per_minute,
           coalesce(busy.running, 0) AS running, coalesce(busy.tests, 0) AS tests,
           least(given.burst, coalesce(
               loads.tokens + given.per_minute / 60.0
                   * greatest(0, extract(epoch FROM (SELECT now FROM clock) - loads.refilled_at)),
               given.burst
           )) AS tokens
    FROM jsonb_to_recordset(CAST(:limits AS jsonb))
        AS given (provider text, most integer, per_minute integer, burst double precision)
    LEFT JOIN busy ON busy.provider = given.provider
    -- A clock that was put back must not leave a bucket empty until it gets there again.
    LEFT JOIN loads ON loads.provider = given.provider
        AND loads.refilled_at <= (SELECT now FROM clock) + interval '1 minute'
), lines AS (
    (SELECT provider, model_requested AS model, livemode FROM operations
     WHERE status = 'queued' AND due_at IS NOT NULL ORDER BY provider, model_requested, livemode LIMIT 1)
    UNION ALL
    SELECT next.* FROM lines CROSS JOIN LATERAL (
        SELECT o.provider, o.model_requested, o.livemode FROM operations o
        WHERE o.status = 'queued' AND o.due_at IS NOT NULL
          AND (o.provider, o.model_requested, o.livemode) > (lines.provider, lines.model, lines.livemode)
        ORDER BY o.provider, o.model_requested, o.livemode LIMIT 1
    ) AS next
), bearing AS MATERIALIZED (
    SELECT lines.*, coalesce(CASE WHEN lines.livemode THEN c.last_served ELSE c.last_tested END, '') AS last,
           CASE WHEN coalesce(c.state, 'closed') = 'closed'
               THEN least(p.most - p.running, coalesce(floor(p.tokens), p.most)) ELSE 1 END AS room
    FROM lines
    JOIN providers p ON p.provider = lines.provider AND p.running < p.most AND coalesce(p.tokens, 1) >= 1
    LEFT JOIN circuits c ON c.provider = lines.provider AND c.model = lines.model
    WHERE (c.paused_until IS NULL OR c.paused_until <= (SELECT now FROM clock))
      AND (c.state IS NULL OR c.state = 'closed' OR (
          c.probe_at <= (SELECT now FROM clock) AND NOT EXISTS (SELECT FROM at_work WHERE at_work.id = c.probe_id)
      ))
), span AS MATERIALIZED (
    SELECT greatest(:least_of_a_line, :window / greatest(1, count(*))) AS steps FROM bearing
), visited AS (
    SELECT bearing.*, first.org_id, first.wrapped, 1 AS step FROM bearing CROSS JOIN LATERAL (
        (SELECT o.org_id, false AS wrapped FROM operations o
         WHERE o.status = 'queued' AND o.due_at <= (SELECT now FROM clock) AND o.provider = bearing.provider
           AND o.model_requested = bearing.model AND o.livemode = bearing.livemode AND o.org_id > bearing.last
         ORDER BY o.org_id LIMIT 1)
        UNION ALL
        (SELECT o.org_id, true FROM operations o
         WHERE o.status = 'queued' AND o.due_at <= (SELECT now FROM clock) AND o.provider = bearing.provider
           AND o.model_requested = bearing.model AND o.livemode = bearing.livemode
         ORDER BY o.org_id LIMIT 1)
        LIMIT 1
    ) AS first
    UNION ALL
    SELECT v.provider, v.model, v.livemode, v.last, v.room, next.org_id, next.wrapped, v.step + 1
    FROM visited v CROSS JOIN LATERAL (
        (SELECT o.org_id, v.wrapped FROM operations o
         WHERE o.status = 'queued' AND o.due_at <= (SELECT now FROM clock) AND o.provider = v.provider
           AND o.model_requested = v.model AND o.livemode = v.livemode AND o.org_id > v.org_id
         ORDER BY o.org_id LIMIT 1)
        UNION ALL
        (SELECT o.org_id, true FROM operations o
         WHERE NOT v.wrapped AND o.status = 'queued' AND o.due_at <= (SELECT now FROM clock)
           AND o.provider = v.provider AND o.model_requested = v.model AND o.livemode = v.livemode
         ORDER BY o.org_id LIMIT 1)
        LIMIT 1
    ) AS next
    WHERE v.step < (SELECT steps FROM span) AND NOT (next.wrapped AND next.org_id > v.last)
), candidates AS (
    SELECT v.provider, v.model, v.livemode, v.room, v.org_id, v.step, next.*,
           coalesce(served.running, 0) AS running, coalesce(served.interactive, 0) AS interactive,
           coalesce(served.standard, 0) AS standard, coalesce(shares.weight, 1) AS weight,
           CASE WHEN v.livemode THEN coalesce(shares.operations_at_work, :per_organization) ELSE 1 END AS most,
           next.lane = :standard AND next.due_at <= (SELECT now FROM clock) - make_interval(secs => :ageing) AS aged,
           row_number() OVER (PARTITION BY v.org_id, next.lane ORDER BY next.due_at, next.id) AS nth
    FROM visited v
    CROSS JOIN (VALUES (:interactive), (:standard), (:test)) AS lanes (lane)
    CROSS JOIN LATERAL (
        SELECT o.id, o.lane, o.due_at FROM operations o
        WHERE o.status = 'queued' AND o.due_at <= (SELECT now FROM clock) AND o.provider = v.provider
          AND o.model_requested = v.model AND o.livemode = v.livemode AND o.org_id = v.org_id AND o.lane = lanes.lane
        ORDER BY o.due_at, o.id
        LIMIT CAST(
            least(v.room, CAST(:free AS bigint), (SELECT ceil(CAST(:breadth AS float) / count(*)) FROM visited))
            AS bigint
        )
    ) AS next
    LEFT JOIN served ON served.org_id = v.org_id AND served.livemode = v.livemode
    LEFT JOIN shares ON shares.org_id = v.org_id
    WHERE (lanes.lane = :test) <> v.livemode
), ordered AS (
    SELECT *, running + row_number() OVER (
        PARTITION BY org_id, livemode
        ORDER BY lane = :standard AND NOT aged,
                 CASE WHEN aged THEN 3 * (standard + nth - 1) ELSE interactive + nth END, aged, due_at, id
    ) AS own_place
    FROM candidates
), in_turn AS (
    SELECT *, row_number() OVER (
        ORDER BY NOT livemode, CAST(own_place AS float) / weight, CASE WHEN aged THEN :interactive ELSE lane END, step,
                 due_at, id
    ) AS turn
    FROM ordered WHERE own_place <= most
), fitting AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY provider, model ORDER BY turn) AS place FROM in_turn
    ) AS line WHERE place <= room
), allowed AS (
    SELECT f.id, f.turn, f.livemode, p.tests, p.most,
           CASE WHEN f.own_place = 1 THEN p.most ELSE p.most - p.most / :kept_free END AS open,
           p.running + row_number() OVER (PARTITION BY f.provider ORDER BY f.turn) AS place,
           p.tests + row_number() OVER (PARTITION BY f.provider, f.livemode ORDER BY f.turn) AS place_of_test,
           p.running + coalesce(floor(p.tokens), p.most) AS bearable
    FROM fitting f JOIN providers p ON p.provider = f.provider
), picked AS (
    SELECT id FROM allowed
    WHERE place <= open AND place <= bearable AND (livemode OR place_of_test <= greatest(1, most / 2))
    ORDER BY turn LIMIT CAST(:free AS bigint)
), chosen AS (
    SELECT o.id FROM operations o WHERE o.id IN (SELECT id FROM picked) AND o.status = 'queued'
    FOR UPDATE OF o SKIP LOCKED
), taken AS (
    SELECT f.id, f.provider, f.model, f.livemode, f.org_id, f.step FROM fitting f JOIN chosen ON chosen.id = f.id
), borne AS (
    INSERT INTO loads AS l (provider, tokens, refilled_at, at_work, most, per_organization, per_minute)
    SELECT p.provider, coalesce(p.tokens - count(*), 0), (SELECT now FROM clock), p.running + count(*), p.most,
           :per_organization, p.per_minute
    FROM taken JOIN providers p ON p.provider = taken.provider
    GROUP BY p.provider, p.tokens, p.running, p.most, p.per_minute
    ON CONFLICT (provider) DO UPDATE SET
        tokens = excluded.tokens, refilled_at = excluded.refilled_at, at_work = excluded.at_work, most = excluded.most,
        per_organization = excluded.per_organization, per_minute = excluded.per_minute
), passed AS (
    SELECT provider, model, livemode, org_id, step, id FROM taken
    UNION ALL
    -- Nobody here could be served: the next claim looks further on.
    SELECT provider, model, livemode, org_id, step, NULL FROM visited v
    WHERE step = (SELECT steps FROM span) AND NOT EXISTS (
        SELECT FROM taken t WHERE t.provider = v.provider AND t.model = v.model AND t.livemode = v.livemode
    )
), gone_round AS (
    INSERT INTO circuits AS c (provider, model, last_served, last_tested, probe_id)
    SELECT provider, model, (array_agg(org_id ORDER BY step DESC) FILTER (WHERE livemode))[1],
           (array_agg(org_id ORDER BY step DESC) FILTER (WHERE NOT livemode))[1], min(id)
    FROM passed GROUP BY provider, model
    ON CONFLICT (provider, model) DO UPDATE SET
        last_served = coalesce(excluded.last_served, c.last_served),
        last_tested = coalesce(excluded.last_tested, c.last_tested),
        state = CASE WHEN c.state = 'open' AND excluded.probe_id IS NOT NULL THEN 'half_open' ELSE c.state END,
        probe_id = CASE WHEN c.state <> 'closed' THEN coalesce(excluded.probe_id, c.probe_id) END
)
UPDATE operations o
SET status = 'running', worker = :worker, fence = o.fence + 1, attempt = o.attempt + 1,
    lease_until = clock_timestamp() + make_interval(secs => :lease), started_at = clock_timestamp(),
    error_code = NULL, error_detail = NULL
FROM chosen WHERE o.id = chosen.id
RETURNING o.id, o.org_id, o.job_id, o.generation_id, o.name, o.provider, o.model_requested, o.prompt, o.seed,
          o.inputs, o.makes_image, o.attempt, o.fence, o.lane,
          CAST(extract(epoch FROM o.started_at - o.due_at) AS double precision) AS waited_seconds
""",
)
_CLAIM = Prepared("claim_operations", CLAIM_STATEMENTS[1], first=CLAIM_STATEMENTS[0])

# Rows are locked in the one order of ids: workers that send, and who cancels, lock several of them too. What its
# provider has taken meanwhile is held by nobody: it is not lost, and is not to be held again.
_HEARTBEAT = Prepared(
    "prolong_leases",
    """
WITH kept AS MATERIALIZED (
    SELECT o.id FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[])) AS held (id, fence)
    JOIN operations o ON o.id = held.id AND o.fence = held.fence
    WHERE o.status IN ('running', 'storing') ORDER BY o.id FOR UPDATE OF o
)
UPDATE operations o
SET lease_until = CASE WHEN o.lease_until IS NOT NULL THEN clock_timestamp() + make_interval(secs => :lease) END
FROM kept WHERE o.id = kept.id
RETURNING o.id
""",
)

_EXPIRED = sa.text(f"""
SELECT id, org_id, job_id, generation_id, name, provider, model_requested, prompt, seed, inputs, makes_image,
       attempt, fence
FROM operations
WHERE status IN ({_AT_WORK}) AND lease_until < clock_timestamp()
ORDER BY lease_until LIMIT :most
""")


_JOB_ENDS = ", ".join(f"'{status}'" for status in sorted(JOB_ENDS))
_GENERATION_ENDS = ", ".join(f"'{status}'" for status in sorted(GENERATION_ENDS))

# Two statements, sent together: the second sees what whoever held the locks before has written. A job that is begun
# says when anything of it has moved; what is running already goes on running.
_BEGIN = Prepared(
    "begin_generations",
    f"""
WITH open AS MATERIALIZED (
    SELECT g.id, g.job_id, g.style, j.org_id, j.user_id, j.workflow, j.livemode, j.correlation_id, j.session_id,
           g.status = 'queued' OR g.started_at IS NULL AS waits, g.started_at IS NULL AS is_new
    FROM generations g JOIN jobs j ON j.id = g.job_id
    WHERE g.id = ANY (:ids) AND g.status NOT IN ({_GENERATION_ENDS}) AND j.status NOT IN ({_JOB_ENDS})
), begun AS (
    UPDATE generations g SET status = 'running', started_at = coalesce(g.started_at, clock_timestamp())
    FROM open WHERE g.id = open.id AND open.waits
), moved AS (
    UPDATE jobs SET status = CASE WHEN status = 'queued' THEN 'running' ELSE status END,
        progressed_at = clock_timestamp()
    WHERE id = ANY (SELECT job_id FROM open)
)
SELECT * FROM open ORDER BY id
""",
    first="SELECT id FROM jobs WHERE id = ANY (:job_ids) ORDER BY id FOR UPDATE",
)


def claim(
    session: Session,
    *,
    worker: str,
    free: int,
    limits: Mapping[str, int],
    per_organization: int,
    rates: Mapping[str, int | None] | None = None,
    answered: Collection[Claimed] = (),
    lease_seconds: float = LEASE_SECONDS,
) -> list[Claimed]:
    """Claim at most ``free`` due operations: those of live keys, and where room is left, those of test keys.

    Args:
        session: of the system role: a claim spans organizations.
        worker: this worker's name, for operators.
        free: how many this worker can take on.
        limits: per provider, how many of its operations may be at work in the whole system; others are not claimed.
        per_organization: how many operations of one organization may be at work, and one of its test keys besides;
            an organization's own share may say otherwise.
        rates: per provider, how many operations may be sent to it in a minute by the whole system; None: no limit.
        answered: what this worker has the provider's answer to although the rows may not say so yet.
        lease_seconds: how long the claim holds without a heartbeat.
    """
    values = {
        "lock": CLAIM_LOCK,
        "kept_free": KEPT_FREE,
        "interactive": INTERACTIVE,
        "standard": STANDARD,
        "test": TEST,
        "worker": worker,
        "free": free,
        "limits": json.dumps(provider_limits(limits, rates or {})),
        "per_organization": per_organization,
        "ageing": AGES_AFTER_SECONDS,
        "window": WINDOW,
        "least_of_a_line": LEAST_OF_A_LINE,
        "breadth": max(BREADTH, free),
        "lease": lease_seconds,
        "answered_ids": [item.id for item in answered],
        "answered_fences": [item.fence for item in answered],
    }
    return [Claimed(**row) for row in _CLAIM.execute(session, values).mappings()]


def provider_limits(limits: Mapping[str, int], rates: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Return what a claim is told of each provider: how many at work, how many a minute, how many at a stroke."""
    return [
        {"provider": name, "most": most, "per_minute": rates.get(name), "burst": burst(rates.get(name))}
        for name, most in limits.items()
    ]


def begin(session: Session, claimed: Sequence[Claimed]) -> tuple[list[Claimed], list[Event]]:
    """Move the jobs and generations of claimed operations on; return those still worth doing, and the events.

    What has begun already, at an earlier attempt, is left as it is.
    """
    values = {"job_ids": sorted({item.job_id for item in claimed}), "ids": [item.generation_id for item in claimed]}
    generations = {row.id: row for row in _BEGIN.execute(session, values)}
    live = [item for item in claimed if item.generation_id in generations]
    _release(session, sorted({item.id for item in claimed}.difference(item.id for item in live)))
    return live, [_started(row) for row in generations.values() if row.is_new]


def _started(generation: sa.Row[*tuple[Any, ...]]) -> GenerationStarted:
    return GenerationStarted(
        meta=correlated(generation.correlation_id),
        job_id=generation.job_id,
        generation_id=generation.id,
        org_id=generation.org_id,
        workflow=generation.workflow,
        livemode=generation.livemode,
        session_id=generation.session_id,
        user_id=generation.user_id,
        style=generation.style,
    )


def lock(session: Session, operation_ids: Sequence[str]) -> None:
    """Lock operations in the one order of ids, as heartbeats do: several are written one after another then."""
    session.execute(
        sa.text("SELECT id FROM operations WHERE id = ANY (:ids) ORDER BY id FOR UPDATE"), {"ids": list(operation_ids)}
    )


def heartbeat(session: Session, held: Collection[Claimed], *, lease_seconds: float = LEASE_SECONDS) -> set[str]:
    """Prolong the leases of ``held``; return the ids that are still this worker's."""
    values = {
        "lease": lease_seconds,
        "ids": [item.id for item in held],
        "fences": [item.fence for item in held],
    }
    return set(_HEARTBEAT.execute(session, values).scalars())


def expired(session: Session, *, most: int = 100) -> list[Claimed]:
    """Return operations whose worker has let its lease run out."""
    return [Claimed(**row) for row in session.execute(_EXPIRED, {"most": most}).mappings()]


def has_lapsed(session: Session, claimed: Claimed) -> bool:
    """Tell whether a claim's lease has run out, and nobody else has taken the operation since."""
    statement = sa.select(Operation.id).where(
        Operation.id == claimed.id,
        Operation.fence == claimed.fence,
        Operation.status.in_(AT_WORK),
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
            Operation.status.in_(AT_WORK),
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
