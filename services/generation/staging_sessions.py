"""Commands of staging sessions: beginning one, choosing, selecting, locking, the paid steps, deleting.

Whatever is refused is refused twice: when it is asked for, and under the session's lock.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import (
    cancelling,
    endings,
    handlers,
    queries,
    saved_styles,
    sources,
    staging_admission,
    staging_histories,
)
from services.generation import staging_steps as steps
from services.generation.engine import Engine
from services.generation.holding import Credits
from services.generation.models import Image, Job, StagingResult, StagingSession
from services.generation.staging_progress import changed, lock, standing, told
from services.generation.submissions import Submission
from shared.database import Database
from shared.events import Event
from shared.problems import Conflict, NotFound, PreconditionFailed

log = structlog.get_logger(__name__)

_NO_SESSION = "There is no such staging session."
# More would take longer than whoever deletes a session waits.
CANCELLED_AT_ONCE = 20
_OF_AN_IMAGE = ("key", "sha256", "content_type", "bytes", "width", "height")


def create(
    db: Database,
    *,
    session_id: str,
    org_id: str,
    livemode: bool,
    asset: Mapping[str, Any],
    **given: Any,
) -> dict[str, Any]:
    """Begin a session on an upload, whose snapshot is ``asset``; idempotent by ``session_id``.

    ``given`` are ``user_id``, ``room_state``, ``name``, ``style`` and ``room_type``.

    Raises:
        BadRequest: the style is none of ours, and none that was saved.
        Conflict: there is a session of this id that is not the organization's.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        saved_styles.require(session, given.get("style"), org_id=org_id, livemode=livemode)
        new = {"id": session_id, "org_id": org_id, "livemode": livemode, "upload_id": asset["id"], "asset": dict(asset)}
        statement = insert(StagingSession).values(**new, **given, status="draft").on_conflict_do_nothing()
        added = session.execute(statement.returning(StagingSession.id)).scalar_one_or_none()
        row = session.get(StagingSession, session_id)
        if row is None:
            raise Conflict("This id is taken.")
        if added:
            log.info("staging_session_created", session_id=session_id, org_id=org_id, room_state=row.room_state)
            db.publish(session, [told(row, "created")])
        return staging_histories.shown(session, row)


def change(
    db: Database, *, only_versions: Collection[str] | None = None, given: Mapping[str, Any], **owner: Any
) -> dict[str, Any]:
    """Change ``given`` of a session: name, style, room type, and before its first generation the room state.

    Args:
        db: of this service.
        only_versions: if it still is one of these; None: whatever it is.
        given: what to change.
        owner: ``org_id``, ``livemode`` and ``session_id``.

    Raises:
        NotFound: there is no such session in this mode.
        PreconditionFailed: it is another version by now.
        StepNotAllowed: the room state is settled.
        BadRequest: the style is none of ours, and none that was saved.
    """

    def apply(session: Session, row: StagingSession) -> list[Event]:
        saved_styles.require(session, given.get("style"), org_id=row.org_id, livemode=row.livemode)
        different = {name: value for name, value in given.items() if getattr(row, name) != value}
        if not different:
            return []
        if "room_state" in different:
            steps.require(steps.CHOOSE_ROOM_STATE, standing(row))
        for name, value in different.items():
            setattr(row, name, value)
        return [changed(row, "changed")]

    return _changed(db, apply, only_versions=only_versions, **owner)


def select(
    db: Database, *, image_id: str, only_versions: Collection[str] | None = None, **owner: Any
) -> dict[str, Any]:
    """Select the empty room that is to be staged, among all versions of the session; selecting it again does nothing.

    Raises:
        NotFound: there is no such session or image, or this is none of the session's empty rooms.
        PreconditionFailed: as `change`.
        StepNotAllowed: another one is locked, or there is none to select.
    """

    def apply(session: Session, row: StagingSession) -> list[Event]:
        queries.image(session, org_id=row.org_id, livemode=row.livemode, image_id=image_id)
        is_another = row.selected_image_id != image_id
        if is_another:
            steps.require(steps.SELECT, standing(row))
        _require_empty_room(session, row, image_id)
        if not is_another:
            return []
        row.selected_image_id = image_id
        return [changed(row, "selected")]

    return _changed(db, apply, only_versions=only_versions, **owner)


def lock_empty_room(db: Database, *, only_versions: Collection[str] | None = None, **owner: Any) -> dict[str, Any]:
    """Settle the selected empty room: no further ones are made, and staging may begin. Locking again does nothing.

    Raises:
        NotFound: there is no such session, or its empty room was deleted since.
        PreconditionFailed: as `change`.
        StepNotAllowed: none is selected, or one is being generated.
    """

    def apply(session: Session, row: StagingSession) -> list[Event]:
        if row.locked_at:
            return []
        steps.require(steps.LOCK, standing(row))
        _require_empty_room(session, row, row.selected_image_id or "")
        row.locked_at = endings.database_now(session)
        row.status = steps.status_of(standing(row), ())
        return [changed(row, "locked")]

    return _changed(db, apply, only_versions=only_versions, **owner)


def generate_empty_room(
    db: Database, credits_service: Credits, engine: Engine, *, retry_number: int, order: Mapping[str, Any]
) -> dict[str, Any]:
    """Submit the job of a session's next attempt at its empty room; retries 1 and 2 are free.

    Args:
        db: of this service.
        credits_service: holds what it costs.
        engine: plans it.
        retry_number: 0 for the first; one more than the last that succeeded, and no other.
        order: ``session_id``, and of the job what `Submission` has beside its workflow, inputs and assets.

    Returns:
        As `handlers.submit`; idempotent by ``job_id``, as that.

    Raises:
        NotFound: there is no such session in this mode.
        StepNotAllowed: it is not its turn; nothing was written or held.
        SourceGone: its photo was deleted.
        HoldRefused, Unavailable, …: as `handlers.submit`.
    """
    with db.transaction(org_id=order["org_id"], livemode=order["livemode"]) as session:
        row = _row(session, **_owner(order))
        _require_step(session, row, order, workflow=steps.EMPTY_ROOM, retry_number=retry_number, generations=1)
        assets = {row.upload_id: row.asset}
        sources.require_there(session, assets)
        asked = Submission(
            **order,
            workflow=steps.EMPTY_ROOM,
            inputs={"upload_id": row.upload_id},
            assets=assets,
            session_name=row.name,
            retry_number=retry_number,
        )
    return handlers.submit(db, credits_service, engine, asked)


def stage(
    db: Database, credits_service: Credits, engine: Engine, *, inputs: Mapping[str, Any], order: Mapping[str, Any]
) -> dict[str, Any]:
    """Submit a job that stages a session's room: the locked empty one, or the photo of one that was empty already.

    Args:
        db: of this service.
        credits_service: holds what it costs.
        engine: plans it.
        inputs: ``style``, ``room_type``, ``variants``.
        order: as of `generate_empty_room`.

    Returns:
        As `handlers.submit`; idempotent by ``job_id``, as that.

    Raises:
        NotFound: there is no such session in this mode.
        StepNotAllowed: nothing is locked yet; nothing was written or held.
        SourceGone: its photo, that of a room that was empty already, was deleted.
        LimitExceeded: the session would have too many generations.
        HoldRefused, Unavailable, BadRequest, …: as `handlers.submit`.
    """
    with db.transaction(org_id=order["org_id"], livemode=order["livemode"]) as session:
        row = _row(session, **_owner(order))
        _require_step(session, row, order, workflow=steps.STAGING, generations=inputs["variants"])
        assets = {row.upload_id: _source(session, row)}
        sources.require_there(session, assets)
        asked = Submission(
            **order,
            workflow=steps.STAGING,
            inputs={**inputs, "upload_id": row.upload_id},
            assets=assets,
            session_name=row.name,
        )
    return handlers.submit(db, credits_service, engine, asked)


def delete(
    db: Database, *, org_id: str, livemode: bool, session_id: str, only_versions: Collection[str] | None = None
) -> None:
    """Delete a session, and cancel what it has at work; its images stay. What is cancelled is given back.

    Of more than 20 jobs at work the sweeper cancels the others, and all of them where this process dies.

    Raises:
        NotFound: there is no such session in this mode.
        PreconditionFailed: it is another version by now.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        lock(session, [session_id])
        row = _row(session, org_id=org_id, livemode=livemode, session_id=session_id)
        _require_version(row, only_versions)
        row.deleted_at = endings.database_now(session)
        db.publish(session, [changed(row, "deleted")])
        open_jobs = sa.select(Job.id).where(Job.session_id == session_id, Job.finished_at.is_(None))
        at_work = list(session.scalars(open_jobs.order_by(Job.id)))
    for job_id in at_work[:CANCELLED_AT_ONCE]:
        cancelling.cancel(db, org_id=org_id, livemode=livemode, job_id=job_id)


def _changed(
    db: Database,
    apply: Callable[[Session, StagingSession], list[Event]],
    *,
    only_versions: Collection[str] | None,
    **owner: Any,
) -> dict[str, Any]:
    """Change a session under its lock, and show it as it is then."""
    with db.transaction(org_id=owner["org_id"], livemode=owner["livemode"]) as session:
        lock(session, [owner["session_id"]])
        row = _row(session, **owner)
        _require_version(row, only_versions)
        db.publish(session, apply(session, row))
        session.flush()
        session.refresh(row)
        return staging_histories.shown(session, row)


def _row(session: Session, *, org_id: str, livemode: bool, session_id: str) -> StagingSession:
    row = session.get(StagingSession, session_id)
    if row is None or (row.org_id, row.livemode) != (org_id, livemode) or row.deleted_at:
        raise NotFound(_NO_SESSION)
    return row


def _owner(order: Mapping[str, Any]) -> dict[str, Any]:
    return {name: order[name] for name in ("org_id", "livemode", "session_id")}


def _require_step(session: Session, row: StagingSession, order: Mapping[str, Any], **step: Any) -> None:
    """Refuse early what would be refused under the lock; a job that is there already has taken its step."""
    if session.get(Job, order["job_id"]) is None:
        staging_admission.require_step(session, row, **{"retry_number": None, **step})


def _require_version(row: StagingSession, only_versions: Collection[str] | None) -> None:
    if only_versions is not None and str(row.version) not in only_versions:
        raise PreconditionFailed


def _require_empty_room(session: Session, row: StagingSession, image_id: str) -> Image:
    found = session.scalars(
        sa.select(Image)
        .join(StagingResult, StagingResult.generation_id == Image.generation_id)
        .where(
            StagingResult.session_id == row.id,
            StagingResult.workflow == steps.EMPTY_ROOM,
            Image.id == image_id,
            Image.deleted_at.is_(None),
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such empty room in this session.")
    return found


def _source(session: Session, row: StagingSession) -> dict[str, Any]:
    """Return the snapshot of what is to be staged, in the place of the upload's."""
    if row.selected_image_id is None:
        return row.asset
    image = _require_empty_room(session, row, row.selected_image_id)
    return {**{name: getattr(image, name) for name in _OF_AN_IMAGE}, "id": row.upload_id, "image_id": image.id}
