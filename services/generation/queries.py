"""Reads of the engine: jobs, generations and images as plain dicts in the contract's shapes; no lock, no event.

Each names the organization whose rows it may show, and the mode, live or test: row-level security is the second wall,
not the only one. An image carries storage keys in place of addresses: the gateway signs those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from services.generation import standings
from services.generation.failures import NOT_BEGUN, reason
from services.generation.jobs import GENERATION_ENDS, JOB_ENDS, STALLED_AFTER, progress
from services.generation.models import Generation, Image, Job
from services.generation.standings import Standing
from shared.problems import NotFound

FIRST_GENERATIONS = 50
MOST_AHEAD = 500
# In a list, as many as a staging has at most: 200 jobs with 50 each would be a page of 10,000 images.
LISTED_GENERATIONS = 8
_PHASES = {
    "awaiting_credit": "Holding the credits",
    "queued": "Waiting for a free worker",
    "running": "Making the images",
    "paused": "Waiting until the rest can be paid for",
    "cancelling": "Cancelling",
    "succeeded": "Done",
    "partially_succeeded": "Done, with failures",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "expired": "Ended at its deadline",
    "rejected": "Not started",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job stands in its organization's queue, and how it stands about what it does next."""

    jobs_ahead: int
    operations_ahead: int
    standing: Standing | None


def _among(column: Any, name: str) -> Any:
    return column == sa.any_(sa.bindparam(name, type_=ARRAY(sa.Text)))


def _select_totals() -> Any:
    state, amount = Generation.status, sa.func.coalesce(Generation.amount, 0)
    charged = sa.func.coalesce(Generation.charged, 0)
    is_open = state.in_(("queued", "running", "storing"))
    return (
        sa.select(
            Generation.job_id,
            sa.func.count().filter(state == "queued").label("queued"),
            sa.func.count().filter(state.in_(("running", "storing"))).label("running"),
            sa.func.count().filter(state == "succeeded").label("succeeded"),
            sa.func.count().filter(state == "failed").label("failed"),
            sa.func.count(Generation.fallback_from).label("fallbacks"),
            sa.func.coalesce(sa.func.sum(charged), 0).label("charged"),
            sa.func.coalesce(sa.func.sum(amount - charged).filter(state.in_(GENERATION_ENDS)), 0).label("refunded"),
            sa.func.coalesce(sa.func.sum(amount).filter(is_open), 0).label("reserved"),
            sa.func.count().filter(is_open, Generation.sku.is_not(None), Generation.amount.is_(None)).label("waiting"),
        )
        .where(_among(Generation.job_id, "job_ids"))
        .group_by(Generation.job_id)
    )


def _select_not_begun() -> Any:
    """Select, per job, how many generations failed since credits held nothing for them, by reason."""
    return (
        sa.select(Generation.job_id, Generation.failure_reason, sa.func.count())
        .where(_among(Generation.job_id, "job_ids"), _among(Generation.failure_reason, "codes"))
        .group_by(Generation.job_id, Generation.failure_reason)
        .order_by(Generation.job_id, Generation.failure_reason)
    )


# Made once: every job that is taken in is shown, and putting these together would take longer than asking them.
_NOW = sa.select(sa.func.clock_timestamp())
_JOBS = sa.select(Job).where(_among(Job.id, "job_ids")).order_by(Job.id)
_TOTALS = _select_totals()
_NOT_BEGUN = _select_not_begun()
_FIRST_GENERATIONS = (
    sa.select(Generation)
    .where(_among(Generation.job_id, "job_ids"), Generation.number <= sa.bindparam("most", type_=sa.Integer))
    .order_by(Generation.job_id, Generation.number)
)
_IMAGES = (
    sa.select(Image).where(_among(Image.generation_id, "generation_ids"), Image.deleted_at.is_(None)).order_by(Image.id)
)
# Only so many operations of an organization are looked at: a job behind thousands is told a place that is too good,
# but nobody's order takes the longer the more is waiting.
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


def job(session: Session, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
    """Return one job with its first 50 generations.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    return jobs_as_dicts(session, [_job_of(session, org_id=org_id, livemode=livemode, job_id=job_id)])[0]


def jobs_by_id(session: Session, wanted: Mapping[str, tuple[str, bool]]) -> dict[str, dict[str, Any]]:
    """Return jobs by id; ``wanted`` maps each to the organization and mode it must be of, others are left out."""
    found = session.scalars(_JOBS, {"job_ids": list(wanted)})
    rows = [row for row in found if (row.org_id, row.livemode) == wanted[row.id]]
    return {shown["id"]: shown for shown in jobs_as_dicts(session, rows)}


def jobs(  # noqa: PLR0913  each says which part of the list
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    workflow: str | None = None,
    status: str | None = None,
    active: bool = False,
    generations: int = LISTED_GENERATIONS,
    limit: int = 50,
    after: str | None = None,
) -> dict[str, Any]:
    """Return jobs, newest first, as a page, each with at most its first ``generations``; ``active``: not ended yet."""
    statement = sa.select(Job).where(Job.org_id == org_id, Job.livemode == livemode).order_by(Job.id.desc())
    if active:
        statement = statement.where(Job.status.not_in(JOB_ENDS))
    if workflow:
        statement = statement.where(Job.workflow == workflow)
    if status:
        statement = statement.where(Job.status == status)
    if after:
        statement = statement.where(Job.id < after)
    found = list(session.scalars(statement.limit(limit + 1)))
    return _page(found, limit, lambda rows: jobs_as_dicts(session, rows, generations=generations))


def has_jobs(session: Session, *, org_id: str, livemode: bool) -> bool:
    """Tell whether an organization has ever asked for a job."""
    return bool(session.scalar(sa.select(sa.exists().where(Job.org_id == org_id, Job.livemode == livemode))))


def job_generations(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    job_id: str,
    status: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> dict[str, Any]:
    """Return a job's generations by number, as a page.

    Raises:
        NotFound: the organization has no such job in this mode.
    """
    _job_of(session, org_id=org_id, livemode=livemode, job_id=job_id)
    statement = sa.select(Generation).where(Generation.job_id == job_id).order_by(Generation.number)
    if status:
        statement = statement.where(Generation.status == status)
    if after:
        last = sa.select(Generation.number).where(Generation.id == after, Generation.job_id == job_id).scalar_subquery()
        statement = statement.where(Generation.number > last)
    rows = list(session.scalars(statement.limit(limit + 1)))
    return _page(rows, limit, lambda some: generations_as_dicts(session, some))


def image(session: Session, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
    """Return one image.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    row = session.get(Image, image_id)
    if row is None or (row.org_id, row.livemode) != (org_id, livemode) or row.deleted_at:
        raise NotFound("There is no such image.")
    return image_as_dict(row)


def images(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    job_id: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> dict[str, Any]:
    """Return images, newest first, as a page."""
    mine = sa.and_(Image.org_id == org_id, Image.livemode == livemode, Image.deleted_at.is_(None))
    statement = sa.select(Image).where(mine).order_by(Image.id.desc())
    if job_id:
        statement = statement.where(Image.job_id == job_id)
    if after:
        statement = statement.where(Image.id < after)
    rows = list(session.scalars(statement.limit(limit + 1)))
    return _page(rows, limit, lambda some: [image_as_dict(row) for row in some])


def jobs_as_dicts(
    session: Session, rows: Sequence[Job], *, generations: int = FIRST_GENERATIONS
) -> list[dict[str, Any]]:
    """Return jobs in the contract's shape, with at most seven queries however many they are."""
    totals = _totals(session, rows)
    first = _first_generations(session, rows, most=generations) if generations else {}
    now = session.execute(_NOW).scalar_one()
    queue = _queue(session, rows)
    return [_job_as_dict(row, totals[row.id], first.get(row.id, []), now=now, place=queue[row.id]) for row in rows]


def generations_as_dicts(session: Session, rows: Sequence[Generation]) -> list[dict[str, Any]]:
    """Return generations in the contract's shape, each with its images."""
    made: dict[str, list[dict[str, Any]]] = {}
    begun = [row.id for row in rows if row.started_at or row.status != "queued"]
    if begun:
        for item in session.scalars(_IMAGES, {"generation_ids": begun}):
            made.setdefault(item.generation_id, []).append(image_as_dict(item))
    return [_generation_as_dict(row, made.get(row.id, [])) for row in rows]


def image_as_dict(row: Image) -> dict[str, Any]:
    """Return an image in the contract's shape, with keys in place of addresses."""
    return {
        "id": row.id,
        "key": row.key,
        "thumbnail_key": row.thumbnail_key,
        "width": row.width,
        "height": row.height,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "content_type": row.content_type,
        "seed": row.seed,
        "style": row.style,
        "room_type": row.room_type,
        "product_id": row.product_id,
        "settings": row.settings,
        "pinned": row.pinned,
        "favorite": row.favorite,
        "parent_id": row.parent_id,
        "job_id": row.job_id,
        "generation_id": row.generation_id,
        "created_at": _time(row.created_at),
        "livemode": row.livemode,
        "provenance": row.provenance,
    }


def _job_of(session: Session, *, org_id: str, livemode: bool, job_id: str) -> Job:
    row = session.get(Job, job_id)
    if row is None or (row.org_id, row.livemode) != (org_id, livemode):
        raise NotFound("There is no such job.")
    return row


def _generation_as_dict(row: Generation, made: list[dict[str, Any]]) -> dict[str, Any]:
    failure = row.failure_reason and {
        "reason": row.failure_reason,
        "message": row.failure_message,
        "retryable": reason(row.failure_reason).retryable,
    }
    return {
        "id": row.id,
        "number": row.number,
        "status": row.status,
        "failure": failure or None,
        "product_id": row.product_id,
        "style": row.style,
        "room_type": row.room_type,
        "view_type": row.view_type,
        "seed": row.seed,
        "result": row.result,
        "images": made,
        "charged": row.charged or 0,
        "entries_url": f"/v1/credits/entries?generation={row.id}",
    }


def _job_as_dict(
    row: Job, totals: Mapping[str, Any], first: list[dict[str, Any]], *, now: datetime, place: Place
) -> dict[str, Any]:
    ended = totals["succeeded"] + totals["failed"]
    open_ = row.total - ended
    waiting = row.status in {"awaiting_credit", "queued"}
    return {
        "id": row.id,
        "workflow": row.workflow,
        "status": row.status,
        "phase": _PHASES[row.status],
        "progress": progress(total=row.total, ended=ended),
        "counts": {
            "total": row.total,
            "queued": totals["queued"],
            "running": totals["running"],
            "succeeded": totals["succeeded"],
            "failed": totals["failed"],
        },
        "charged": totals["charged"],
        "refunded": totals["refunded"],
        "reserved": totals["reserved"],
        "generations": first,
        "created_at": _time(row.created_at),
        "finished_at": row.finished_at and _time(row.finished_at),
        "deadline_at": _time(row.deadline_at),
        "session_id": row.session_id,
        "retry_of": row.retry_of,
        "retry_count": row.retry_count,
        "queue_position": place.jobs_ahead + 1 if waiting else None,
        "eta_seconds": None if row.status in {"paused", *JOB_ENDS} else _eta_seconds(row, place, open_=open_),
        "waiting_reason": row.waiting_reason or _waiting_reason(row, place, queued=totals["queued"]),
        "stalled": row.status not in {"paused", *JOB_ENDS} and now - row.progressed_at > STALLED_AFTER,
        "livemode": row.livemode,
        "cache": _cache(row),
        "warnings": _warnings(row, totals),
    }


def _cache(row: Job) -> dict[str, Any] | None:
    """Return how many of a job's operations might have been known, and how many were; None where none can be."""
    if not row.cacheable:
        return None
    return {"operations": row.cacheable, "hits": row.from_cache, "fresh": row.fresh}


def _warnings(row: Job, totals: Mapping[str, Any]) -> list[dict[str, str]]:
    """Say how many generations were not begun, or are not yet, and why; of a rejected job its refusal has said it.

    Say too how many were made by others than were asked.
    """
    told = []
    if row.waiting_reason and totals["waiting"]:
        told.append(("generations_wait", totals["waiting"], "wait", row.waiting_reason))
    if row.status != "rejected":
        told += [("generations_not_begun", count, "were not begun", code) for code, count in totals["not_begun"]]
    warnings = [
        {"code": code, "detail": f"{count} of {row.total} generations {verb}: {reason(why).message}"}
        for code, count, verb, why in told
    ]
    if totals["fallbacks"]:
        detail = (
            f"{totals['fallbacks']} of {row.total} generations were made by another AI service than was asked first."
        )
        warnings.append({"code": "fallback", "detail": detail})
    return warnings


def _totals(session: Session, rows: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Count each job's generations by state, and add up what is charged, refunded and still held."""
    found = session.execute(_TOTALS, {"job_ids": [row.id for row in rows]}).mappings()
    totals = {row["job_id"]: {**row, "not_begun": []} for row in found}
    failed = [job_id for job_id, counted in totals.items() if counted["failed"]]
    if failed:
        for job_id, code, count in session.execute(_NOT_BEGUN, {"job_ids": failed, "codes": list(NOT_BEGUN)}):
            totals[job_id]["not_begun"].append((code, count))
    return totals


def _first_generations(session: Session, rows: Sequence[Job], *, most: int) -> dict[str, list[dict[str, Any]]]:
    found = list(session.scalars(_FIRST_GENERATIONS, {"job_ids": [row.id for row in rows], "most": most}))
    by_job: dict[str, list[dict[str, Any]]] = {}
    for row, shown in zip(found, generations_as_dicts(session, found), strict=True):
        by_job.setdefault(row.job_id, []).append(shown)
    return by_job


def _queue(session: Session, rows: Sequence[Job]) -> dict[str, Place]:
    """Return where jobs stand: of those that wait how much of their organization's, and mode's, is due before them."""
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


def _eta_seconds(row: Job, place: Place, *, open_: int) -> int:
    """Return how long the rest of a job takes, as measured, or as it was estimated."""
    if place.standing is None:
        return row.estimated_seconds
    measured = standings.eta(place.standing, ahead=place.operations_ahead, remaining=open_)
    return row.estimated_seconds if measured is None else measured


def _waiting_reason(row: Job, place: Place, *, queued: int) -> str | None:
    if row.status == "awaiting_credit":
        return "holding_credits"
    if place.standing is None and queued and row.cacheable:
        return "same_analysis"
    if place.standing is None or not queued:
        return "free_worker" if row.status == "queued" else None
    return standings.waiting_reason(place.standing, ahead=place.operations_ahead)


def _page(rows: Sequence[Any], limit: int, shown: Any) -> dict[str, Any]:
    has_more = len(rows) > limit
    kept = rows[:limit]
    return {"data": shown(kept), "has_more": has_more, "next_cursor": kept[-1].id if has_more else None}


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
