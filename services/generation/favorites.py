"""Marking images as favorites: told once each time it changes."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import headshots, queries
from services.generation.models import Image, Job
from shared.database import Database
from shared.events import ImageFavorited
from shared.problems import Conflict


def mark_image(
    db: Database, *, org_id: str, livemode: bool, image_id: str, user_id: str | None, favorite: bool
) -> dict[str, object]:
    """Mark an image as a favorite, or take the mark off; a second time nothing changes. Return the image.

    Raises:
        NotFound: the organization has none of this id in this mode.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        queries.image(session, org_id=org_id, livemode=livemode, image_id=image_id)
        _mark(db, session, [image_id], user_id=user_id, favorite=favorite)
        return queries.image(session, org_id=org_id, livemode=livemode, image_id=image_id)


def mark_headshot(
    db: Database, *, org_id: str, livemode: bool, headshot_id: str, user_id: str | None, favorite: bool
) -> dict[str, object]:
    """Mark a headshot, which is to mark its image; return the headshot.

    Raises:
        NotFound: as `headshots.one`.
        Conflict: it has no image that could be one.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        shown = headshots.one(session, org_id=org_id, livemode=livemode, headshot_id=headshot_id)
        image_ids = [image["id"] for image in shown["images"]]
        if favorite and not image_ids:
            raise Conflict("This headshot has no image: only one that succeeded can be a favorite.")
        _mark(db, session, image_ids, user_id=user_id, favorite=favorite)
        return headshots.one(session, org_id=org_id, livemode=livemode, headshot_id=headshot_id)


def _mark(db: Database, session: Session, image_ids: list[str], *, user_id: str | None, favorite: bool) -> None:
    changed = session.execute(
        sa.update(Image)
        .where(
            Image.id.in_(image_ids),
            Image.deleted_at.is_(None),
            Image.favorite != favorite,
            Job.id == Image.job_id,
        )
        .values(favorite=favorite)
        .returning(
            Image.id, Image.generation_id, Image.job_id, Image.org_id, Image.style, Image.livemode, Job.workflow
        ),
        execution_options={"synchronize_session": False},
    ).all()
    session.expire_all()
    db.publish(
        session,
        [
            ImageFavorited(
                image_id=row.id,
                generation_id=row.generation_id,
                job_id=row.job_id,
                org_id=row.org_id,
                user_id=user_id,
                workflow=row.workflow,
                style=row.style,
                favorite=favorite,
                livemode=row.livemode,
            )
            for row in changed
        ],
    )
