"""Reads of the engine: jobs, generations and images as plain dicts in the contract's shapes; no lock, no event.

Each names the organization whose rows it may show, and the mode, live or test: row-level security is the second wall,
not the only one. An image carries storage keys in place of addresses: the gateway signs those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from services.generation import places
from services.generation.failures import NOT_BEGUN, reason
from services.generation.jobs import GENERATION_ENDS, JOB_ENDS
from services.generation.models import Generation, Image, Job
from services.generation.shown_jobs import job_as_dict
from shared import pages
from shared.problems import BadRequest, NotFound
from shared.times import rfc3339

FIRST_GENERATIONS = 50
# In a list, as many as a staging has at most: 200 jobs with 50 each would be a page of 10,000 images.
LISTED_GENERATIONS = 8


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


def job(session: Session, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
    """Return one job with its first 50 generations.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    return jobs_as_dicts(session, [job_row(session, org_id=org_id, livemode=livemode, job_id=job_id)])[0]


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
    rows = list(session.scalars(statement.limit(limit + 1)))
    show = partial(jobs_as_dicts, session, generations=generations)
    return pages.page_together(rows, limit=limit, show=show)


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
    job_row(session, org_id=org_id, livemode=livemode, job_id=job_id)
    statement = sa.select(Generation).where(Generation.job_id == job_id).order_by(Generation.number)
    if status:
        statement = statement.where(Generation.status == status)
    if after:
        last = sa.select(Generation.number).where(Generation.id == after, Generation.job_id == job_id).scalar_subquery()
        statement = statement.where(Generation.number > last)
    rows = list(session.scalars(statement.limit(limit + 1)))
    return pages.page_together(rows, limit=limit, show=partial(generations_as_dicts, session))


def image(session: Session, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
    """Return one image.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    row = session.get(Image, image_id)
    if row is None or (row.org_id, row.livemode) != (org_id, livemode) or row.deleted_at:
        raise NotFound("There is no such image.")
    return image_as_dict(row)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which images of an organization; None is whatever they are. Times are RFC 3339, the first included."""

    job_id: str | None = None
    workflow: str | None = None
    session_id: str | None = None
    product_id: str | None = None
    style: str | None = None
    room_type: str | None = None
    pinned: bool | None = None
    favorite: bool | None = None
    created_since: str | None = None
    created_before: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return what is true of the images that are wanted.

        Raises:
            BadRequest: a time is none.
        """
        fields = ("job_id", "product_id", "style", "room_type", "pinned", "favorite")
        given = [(getattr(Image, name), getattr(self, name)) for name in fields]
        found = [column == value for column, value in given if value is not None]
        of_job = [(Job.workflow, self.workflow), (Job.session_id, self.session_id)]
        of_job = [(column, value) for column, value in of_job if value is not None]
        if of_job:
            found.append(sa.exists().where(Job.id == Image.job_id, *(column == value for column, value in of_job)))
        if self.created_since is not None:
            found.append(Image.created_at >= _moment(self.created_since))
        if self.created_before is not None:
            found.append(Image.created_at < _moment(self.created_before))
        return found


def images(
    session: Session, *, org_id: str, livemode: bool, limit: int = pages.PAGE, after: str | None = None, **wanted: Any
) -> dict[str, Any]:
    """Return images, newest first, as a page; ``wanted`` says which (`Wanted`).

    Raises:
        BadRequest: a time is none, or the page has no such size.
    """
    pages.check_limit(limit)
    mine = sa.and_(Image.org_id == org_id, Image.livemode == livemode, Image.deleted_at.is_(None))
    statement = sa.select(Image).where(mine, *Wanted(**wanted).conditions()).order_by(Image.id.desc())
    if after:
        statement = statement.where(Image.id < after)
    rows = list(session.scalars(statement.limit(limit + 1)))
    return pages.page(rows, limit=limit, show=image_as_dict)


def jobs_as_dicts(
    session: Session, rows: Sequence[Job], *, generations: int = FIRST_GENERATIONS
) -> list[dict[str, Any]]:
    """Return jobs in the contract's shape, with at most seven queries however many they are."""
    totals = _totals(session, rows)
    first = _first_generations(session, rows, most=generations) if generations else {}
    now = session.execute(_NOW).scalar_one()
    queue = places.of(session, rows)
    return [job_as_dict(row, totals[row.id], first.get(row.id, []), now=now, place=queue[row.id]) for row in rows]


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
        "created_at": rfc3339(row.created_at, precision="auto"),
        "livemode": row.livemode,
        "provenance": row.provenance,
    }


def job_row(session: Session, *, org_id: str, livemode: bool, job_id: str) -> Job:
    """Return the row of one job.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
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


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{text[:40]!r} is no time: write it as 2026-01-31T12:00:00Z.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
