"""Reads of staging sessions: all there is to restore one, what may be done next, and the list of them. No lock.

Each names the organization and the mode whose rows it may show, as queries.py; keys stand in place of addresses.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import queries, sources, staging_steps
from services.generation.models import Generation, Job, StagingResult, StagingSession
from services.generation.sources import Original
from services.generation.staging_progress import standing
from services.generation.staging_steps import EMPTY_ROOM, STAGING
from shared import pages
from shared.problems import NotFound
from shared.times import rfc3339

# In a list, of each session the newest attempts of each kind; one session is shown with all it has.
LISTED_ATTEMPTS = 8
_SHOWN = ("id", "name", "status", "room_state", "upload_id", "style", "room_type", "selected_image_id", "version")
_ADDRESSES = {
    staging_steps.CHOOSE_ROOM_STATE: ("PATCH", ""),
    staging_steps.GENERATE_EMPTY_ROOM: ("POST", "/empty-rooms"),
    staging_steps.SELECT: ("PUT", "/selection"),
    staging_steps.LOCK: ("POST", "/lock"),
    staging_steps.STAGE: ("POST", "/stagings"),
}


def one(session: Session, *, org_id: str, livemode: bool, session_id: str) -> dict[str, Any]:
    """Return one session with all its attempts and its next actions.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    row = session.get(StagingSession, session_id)
    if row is None or (row.org_id, row.livemode) != (org_id, livemode) or row.deleted_at:
        raise NotFound("There is no such staging session.")
    return shown(session, row)


def page(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    status: str | None = None,
    attempts: int = LISTED_ATTEMPTS,
    limit: int = pages.PAGE,
    after: str | None = None,
) -> dict[str, Any]:
    """Return sessions, newest first, as a page, each with the newest ``attempts`` of each kind."""
    mine = sa.and_(StagingSession.org_id == org_id, StagingSession.livemode == livemode)
    statement = sa.select(StagingSession).where(mine, StagingSession.deleted_at.is_(None))
    if status:
        statement = statement.where(StagingSession.status == status)
    if after:
        statement = statement.where(StagingSession.id < after)
    rows = list(session.scalars(statement.order_by(StagingSession.id.desc()).limit(limit + 1)))
    return pages.page_together(rows, limit=limit, show=partial(_all_shown, session, newest=attempts))


def shown(session: Session, row: StagingSession) -> dict[str, Any]:
    """Return a session in the contract's shape, with all its attempts."""
    return _all_shown(session, [row], newest=staging_steps.MOST_GENERATIONS)[0]


def next_actions(
    row: StagingSession, photo: Original, empty_rooms: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what may be done next, as it is asked for: ``[{action, method, path, body, free}]``.

    ``free`` says of a paid step that this time it costs nothing. What is to be chosen has a proposal. Nothing is to be
    made of a ``photo`` that is deleted.
    """
    bodies: Mapping[str, dict[str, Any]] = {
        staging_steps.CHOOSE_ROOM_STATE: {"room_state": _other(row.room_state)},
        staging_steps.GENERATE_EMPTY_ROOM: {"retry_number": row.empty_rooms},
        staging_steps.SELECT: {"image_id": _newest_image(empty_rooms)},
        staging_steps.LOCK: {},
        staging_steps.STAGE: {"style": row.style, "room_type": row.room_type, "variants": 2},
    }
    return [
        {
            "action": step,
            "method": _ADDRESSES[step][0],
            "path": f"/v1/staging-sessions/{row.id}{_ADDRESSES[step][1]}",
            "body": bodies[step],
            "free": step == staging_steps.GENERATE_EMPTY_ROOM and staging_steps.is_free(row.empty_rooms),
        }
        for step in staging_steps.allowed(standing(row))
        if photo.available or step not in _made_of_photo(row)
    ]


def _all_shown(session: Session, rows: Sequence[StagingSession], *, newest: int) -> list[dict[str, Any]]:
    attempts = _attempts(session, [row.id for row in rows], newest=newest)
    photos = sources.originals(session, [(row.upload_id, row.asset) for row in rows])
    return [_shown(row, photos[row.upload_id], attempts[row.id, EMPTY_ROOM], attempts[row.id, STAGING]) for row in rows]


def _shown(
    row: StagingSession, photo: Original, empty_rooms: list[dict[str, Any]], stagings: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in _SHOWN},
        "original_key": row.asset["key"],
        "original": photo.as_dict(),
        "user_id": row.user_id,
        "locked_at": row.locked_at and rfc3339(row.locked_at, precision="microseconds"),
        "next_retry_number": row.empty_rooms,
        "free_retries_left": staging_steps.free_retries_left(row.empty_rooms),
        "counts": {"empty_rooms": row.empty_rooms, "stagings": row.variants},
        "empty_rooms": empty_rooms,
        "stagings": stagings,
        "next_actions": next_actions(row, photo, empty_rooms),
        "livemode": row.livemode,
        "created_at": rfc3339(row.created_at, precision="microseconds"),
        "updated_at": rfc3339(row.updated_at, precision="microseconds"),
    }


def _attempts(
    session: Session, session_ids: Sequence[str], *, newest: int
) -> defaultdict[tuple[str, str], list[dict[str, Any]]]:
    """Return the generations of sessions by session and workflow, oldest first; rejected jobs are left out."""
    place = sa.func.row_number().over(
        partition_by=(Job.session_id, Job.workflow), order_by=(Job.id.desc(), Generation.number.desc())
    )
    ranked = (
        sa.select(Generation.id, Job.session_id, Job.workflow, Job.retry_number, place.label("place"))
        .join(Job, Job.id == Generation.job_id)
        .where(Job.session_id.in_(session_ids), Job.status != "rejected")
        .subquery()
    )
    statement = (
        sa.select(Generation, ranked.c.session_id, ranked.c.workflow, ranked.c.retry_number, StagingResult.number)
        .join(ranked, ranked.c.id == Generation.id)
        .outerjoin(StagingResult, StagingResult.generation_id == Generation.id)
        .where(ranked.c.place <= newest)
        .order_by(Generation.job_id, Generation.number)
    )
    found = session.execute(statement).all() if session_ids and newest else []
    made = queries.generations_as_dicts(session, [each[0] for each in found])
    attempts: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for (row, session_id, workflow, retry_number, number), generation in zip(found, made, strict=True):
        numbered = {"retry_number": retry_number} if workflow == EMPTY_ROOM else {"number": number}
        counted = {name: value for name, value in generation.items() if name != "number"}
        attempts[session_id, workflow].append({**counted, "job_id": row.job_id, **numbered})
    return attempts


def _made_of_photo(row: StagingSession) -> tuple[str, ...]:
    """Return the steps that work on a session's photo; what is selected is a picture of its own."""
    return (staging_steps.GENERATE_EMPTY_ROOM, *(() if row.selected_image_id else (staging_steps.STAGE,)))


def _newest_image(empty_rooms: Sequence[Mapping[str, Any]]) -> str | None:
    images = [image["id"] for attempt in empty_rooms for image in attempt["images"]]
    return images[-1] if images else None


def _other(room_state: str) -> str:
    return next(other for other in staging_steps.ROOM_STATES if other != room_state)
