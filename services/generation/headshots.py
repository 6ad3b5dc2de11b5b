"""Reads of headshots: the history of an organization's, one of them, and what there is to count. No lock.

A headshot is a generation of the workflow `headshot`; keys stand in place of addresses, as in queries.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import queries, sources
from services.generation.jobs import GENERATION_ENDS
from services.generation.models import Generation, Image, Job, Operation
from services.generation.sources import Original
from services.generation.workflows.headshot import SKU
from shared import pages
from shared.problems import NotFound
from shared.times import rfc3339

# How far a headshot is, in percent, for those who show a bar.
_PROGRESS = {"queued": 0, "running": 50, "storing": 90, "succeeded": 100, "failed": 100}
# "You've generated X headshots": what people may look forward to.
MILESTONES = (1, 10, 50, 100, 500, 1000)
_OF_HEADSHOT = sa.exists().where(Generation.id == Image.generation_id, Generation.sku == SKU)
_LEFT_OUT = ("product_id", "room_type", "view_type", "result", "number", "seed")


def is_headshot(org_id: str, *, livemode: bool) -> sa.ColumnElement[bool]:
    """Return what is true of an organization's headshots in a mode."""
    return sa.and_(Generation.org_id == org_id, Generation.livemode == livemode, Generation.sku == SKU)


def page(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    favorite: bool | None = None,
    style: str | None = None,
    status: str | None = None,
    limit: int = pages.PAGE,
    after: str | None = None,
) -> dict[str, Any]:
    """Return headshots, newest first, as a page; those of jobs that were refused were never begun, and are left out."""
    pages.check_limit(limit)
    statement = _there(org_id, livemode=livemode)
    if favorite is not None:
        statement = statement.where(_is_favorite() if favorite else ~_is_favorite())
    if style:
        statement = statement.where(Generation.style == style)
    if status:
        statement = statement.where(Generation.status == status)
    if after:
        statement = statement.where(Generation.id < after)
    rows = session.execute(statement.order_by(Generation.id.desc()).limit(limit + 1))
    found = [(row, job) for row, job in rows]
    shown = dict(zip([row.id for row, _ in found], _shown(session, found), strict=True))
    return pages.page(found, limit=limit, show=lambda pair: shown[pair[0].id])


def one(session: Session, *, org_id: str, livemode: bool, headshot_id: str) -> dict[str, Any]:
    """Return one headshot.

    Raises:
        NotFound: the organization has none of this id in this mode, or it was deleted.
    """
    rows = session.execute(_there(org_id, livemode=livemode).where(Generation.id == headshot_id))
    found = [(row, job) for row, job in rows]
    if not found:
        raise NotFound("There is no such headshot.")
    return _shown(session, found)[0]


def stats(session: Session, *, org_id: str, livemode: bool, user_id: str | None) -> dict[str, Any]:
    """Count an organization's headshots, and those of one of its people; what was deleted since was made all the same.

    Returns:
        ``{generated, failed, open, credits_spent, favorites, by_style: [{style, generated, failed}], mine, milestone:
        {reached, next}, text}``; ``mine`` is ``{generated, credits_spent}``, or None where no person asks.
    """
    counted = _counted(session, is_headshot(org_id, livemode=livemode))
    styles = _by_style(session, is_headshot(org_id, livemode=livemode))
    favorites = sa.select(sa.func.count()).where(
        Image.org_id == org_id, Image.livemode == livemode, Image.favorite, Image.deleted_at.is_(None), _OF_HEADSHOT
    )
    mine = user_id and _counted(session, sa.and_(is_headshot(org_id, livemode=livemode), Job.user_id == user_id))
    made = counted["generated"]
    return {
        **counted,
        "favorites": session.scalar(favorites) or 0,
        "by_style": styles,
        "mine": {name: mine[name] for name in ("generated", "credits_spent")} if mine else None,
        "milestone": {
            "reached": max((each for each in MILESTONES if each <= made), default=None),
            "next": min((each for each in MILESTONES if each > made), default=None),
        },
        "text": f"You've generated {made} headshot{'' if made == 1 else 's'}",
    }


def _there(org_id: str, *, livemode: bool) -> sa.Select[Generation, Job]:
    return (
        sa.select(Generation, Job)
        .join(Job, Job.id == Generation.job_id)
        .where(is_headshot(org_id, livemode=livemode), Generation.deleted_at.is_(None), Job.status != "rejected")
    )


def _is_favorite() -> sa.ColumnElement[bool]:
    return sa.exists().where(Image.generation_id == Generation.id, Image.favorite, Image.deleted_at.is_(None))


def _counted(session: Session, which: sa.ColumnElement[bool]) -> dict[str, int]:
    state = Generation.status
    row = session.execute(
        sa.select(
            sa.func.count().filter(state == "succeeded").label("generated"),
            sa.func.count().filter(state == "failed").label("failed"),
            sa.func.count().filter(state.not_in(GENERATION_ENDS)).label("open"),
            sa.func.coalesce(sa.func.sum(Generation.charged), 0).label("credits_spent"),
        )
        .join(Job, Job.id == Generation.job_id)
        .where(which, Job.status != "rejected")
    ).one()
    return {name: int(count) for name, count in row._mapping.items()}  # noqa: SLF001  the documented way to a mapping


def _by_style(session: Session, which: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    made = sa.func.count().filter(Generation.status == "succeeded")
    rows = session.execute(
        sa.select(Generation.style, made, sa.func.count().filter(Generation.status == "failed"))
        .join(Job, Job.id == Generation.job_id)
        .where(which, Job.status != "rejected")
        .group_by(Generation.style)
        .order_by(made.desc(), Generation.style)
    )
    return [{"style": style, "generated": generated, "failed": failed} for style, generated, failed in rows]


def _shown(session: Session, found: Sequence[tuple[Generation, Job]]) -> list[dict[str, Any]]:
    rows = [row for row, _ in found]
    made = queries.generations_as_dicts(session, rows)
    operations = _last_operations(session, [row.id for row in rows])
    originals = sources.originals(session, [_upload_of(row, job) for row, job in found])
    return [
        _headshot(row, job, generation, operations.get(row.id), originals[row.settings["upload_id"]])
        for (row, job), generation in zip(found, made, strict=True)
    ]


def _upload_of(row: Generation, job: Job) -> tuple[str, Mapping[str, Any]]:
    upload_id = row.settings["upload_id"]
    return upload_id, job.assets[upload_id]


def _last_operations(session: Session, generation_ids: Sequence[str]) -> dict[str, Operation]:
    in_order = sa.select(Operation).where(Operation.generation_id.in_(generation_ids)).order_by(Operation.position)
    return {row.generation_id: row for row in session.scalars(in_order)}


def _headshot(
    row: Generation, job: Job, generation: Mapping[str, Any], operation: Operation | None, original: Original
) -> dict[str, Any]:
    shown = {name: value for name, value in generation.items() if name not in _LEFT_OUT}
    return {
        **shown,
        "job_id": job.id,
        "user_id": job.user_id,
        "progress": _PROGRESS[row.status],
        "aspect_ratio": row.settings["aspect_ratio"],
        "quality": row.settings["quality"],
        "favorite": any(image["favorite"] for image in generation["images"]),
        "retry_of": job.retry_of,
        "retry_count": job.retry_count,
        "original": original.as_dict(),
        "metadata": _metadata(row, operation),
        "created_at": rfc3339(job.created_at, precision="microseconds"),
        "finished_at": row.finished_at and rfc3339(row.finished_at, precision="microseconds"),
        "livemode": job.livemode,
    }


def _metadata(row: Generation, operation: Operation | None) -> dict[str, Any]:
    """Return what it took: ``processing_time_ms`` is from the beginning to the end, all attempts included."""
    begun, ended = row.started_at, row.finished_at
    return {
        "cost": row.charged,
        "processing_time_ms": round((ended - begun).total_seconds() * 1000) if begun and ended else None,
        "provider": operation.provider if operation else None,
        "model": (operation.model_used or operation.model_requested) if operation else None,
        "prompt_version": operation.prompt_version if operation else None,
        "quality": row.settings["quality"],
        "attempts": operation.attempt if operation else 0,
    }
