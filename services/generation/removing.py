"""Deleting headshots for good: out of sight in one transaction, their bytes at once, or as soon as the store answers.

A crash between the two leaves images whose bytes are owed; `purge_due` takes them up. Deleting bytes twice is harmless.
"""

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import headshots
from services.generation.jobs import GENERATION_ENDS
from services.generation.models import Generation, Image, Job
from shared.database import Database
from shared.events import ImageDeleted
from shared.problems import Conflict, NotFound
from shared.removal import Due, sweep
from shared.storage import ObjectStore

log = structlog.get_logger(__name__)


def delete_headshot(
    db: Database, store: ObjectStore, *, org_id: str, livemode: bool, headshot_id: str, user_id: str | None
) -> None:
    """Delete a headshot and its bytes; what it cost, and that it was, stays on record.

    Raises:
        NotFound: the organization has none of this id in this mode, or it is deleted already.
        Conflict: it is being made.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        which = sa.and_(headshots.is_headshot(org_id, livemode=livemode), Generation.id == headshot_id)
        row = session.scalar(sa.select(Generation).where(which).with_for_update())
        if row is None or row.deleted_at:
            raise NotFound("There is no such headshot.")
        if row.status not in GENERATION_ENDS:
            raise Conflict("This headshot is being made: cancel its job first, or wait for its end.")
        row.deleted_at = sa.func.now()
        _take_out_of_sight(db, session, row, user_id=user_id)
    purge_due(db, store, generation_id=headshot_id)


def purge_due(db: Database, store: ObjectStore, *, generation_id: str | None = None) -> int:
    """Remove the bytes of deleted images whose time has come, or of those of one generation; return of how many.

    Every replica may run this at once.
    """
    of_these = sa.true() if generation_id is None else Image.generation_id == generation_id
    wanted = sa.and_(Image.purge_after <= sa.func.now(), Image.purged_at.is_(None), of_these)
    statement = sa.select(Image.id, Image.key, Image.thumbnail_key).where(wanted).order_by(sa.func.random())

    def due(limit: int) -> list[Due]:
        with db.transaction() as session:
            return [(row.id, (row.key, row.thumbnail_key)) for row in session.execute(statement.limit(limit))]

    def record(image_ids: list[str]) -> None:
        with db.transaction() as session:
            gone = sa.and_(Image.id.in_(image_ids), Image.purged_at.is_(None))
            session.execute(sa.update(Image).where(gone).values(purged_at=sa.func.now()))
        log.info("images_purged", image_ids=image_ids)

    return sweep(store, due=due, record=record, what="image")


def _take_out_of_sight(db: Database, session: Session, row: Generation, *, user_id: str | None) -> None:
    workflow = session.scalars(sa.select(Job.workflow).where(Job.id == row.job_id)).one()
    images = session.scalars(
        sa.update(Image)
        .where(Image.generation_id == row.id, Image.deleted_at.is_(None))
        .values(deleted_at=sa.func.now(), purge_after=sa.func.now())
        .returning(Image.id)
    ).all()
    db.publish(
        session,
        [
            ImageDeleted(
                image_id=image_id,
                generation_id=row.id,
                job_id=row.job_id,
                org_id=row.org_id,
                user_id=user_id,
                workflow=workflow,
                style=row.style,
                livemode=row.livemode,
            )
            for image_id in images
        ],
    )
