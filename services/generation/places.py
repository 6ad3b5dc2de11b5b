"""Where jobs stand in their organization's queue, and what that means for who waits. Locks nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import standings
from services.generation.models import Job
from services.generation.standings import Standing

# Only so many operations of an organization are looked at: a job behind thousands is told a place that is too good,
# but nobody's order takes the longer the more is waiting.
MOST_AHEAD = 500
_JOBS_AHEAD = sa.text("""
WITH mine AS (SELECT id, org_id, livemode FROM jobs WHERE id = ANY (:job_ids)),
due AS (
    SELECT head.org_id, head.livemode, head.job_id, count(*) AS operations
    FROM (SELECT DISTINCT org_id, livemode FROM mine) AS asking
    CROSS JOIN LATERAL (
        SELECT o.org_id, o.livemode, o.job_id FROM operations AS o
        WHERE o.org_id = asking.org_id AND o.livemode = asking.livemode
          AND o.status = 'queued' AND o.due_at IS NOT NULL
        ORDER BY o.job_id LIMIT :most
    ) AS head
    GROUP BY head.org_id, head.livemode, head.job_id
)
SELECT mine.id, count(*) AS jobs, CAST(sum(due.operations) AS integer) AS operations FROM mine
JOIN due ON due.org_id = mine.org_id AND due.livemode = mine.livemode AND due.job_id < mine.id GROUP BY mine.id
""")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job stands in its organization's queue, and how it stands about what it does next."""

    jobs_ahead: int
    operations_ahead: int
    standing: Standing | None


def of(session: Session, rows: Sequence[Job]) -> dict[str, Place]:
    """Return where jobs stand, by id: of those that wait how much of their organization and mode is due before them."""
    waiting = [row.id for row in rows if row.status in {"awaiting_credit", "queued"}]
    begun = [row.id for row in rows if row.status in {"queued", "running"}]
    ahead = {}
    if waiting:
        found = session.execute(_JOBS_AHEAD, {"job_ids": waiting, "most": MOST_AHEAD})
        ahead = {job_id: (jobs, operations) for job_id, jobs, operations in found}
    known = standings.of(session, begun)
    places = {row.id: (*ahead.get(row.id, (0, 0)), known.get(row.id)) for row in rows}
    return {
        job_id: Place(jobs_ahead=jobs, operations_ahead=operations, standing=standing)
        for job_id, (jobs, operations, standing) in places.items()
    }


def eta_seconds(row: Job, place: Place, *, open_: int) -> int:
    """Return how long the rest of a job takes, as measured, or as it was estimated."""
    if place.standing is None:
        return row.estimated_seconds
    measured = standings.eta(place.standing, ahead=place.operations_ahead, remaining=open_)
    return row.estimated_seconds if measured is None else measured


def waiting_reason(row: Job, place: Place, *, queued: int) -> str | None:
    """Return what a job waits for of which so many generations are ``queued``; None where it waits for nothing."""
    if row.status == "awaiting_credit":
        return "holding_credits"
    if place.standing is None and queued and row.cacheable:
        return "same_analysis"
    if place.standing is None or not queued:
        return "free_worker" if row.status == "queued" else None
    return standings.waiting_reason(place.standing, ahead=place.operations_ahead)
