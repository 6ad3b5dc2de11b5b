"""Photos, and asking what is to be seen on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from services.generation import handlers
from services.generation.engine import Engine
from services.generation.models import Analysis, Attempt, Operation
from services.generation.submissions import Submission
from shared.database import Database
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission


@dataclass(frozen=True)
class Photo:
    """An upload, as the catalog tells of it."""

    id: str
    key: str
    sha256: str


def a_photo(store: ObjectStore, data: bytes = b"a photo") -> Photo:
    upload_id = new_id("ast")
    store.put(key=f"assets/org/{upload_id}.jpg", chunks=data, content_type="image/jpeg")
    return Photo(id=upload_id, key=f"assets/org/{upload_id}.jpg", sha256=sha256(data).hexdigest())


def an_analysis(photos: Sequence[Photo], *, org_id: str, kind: str = "look", **more: Any) -> Submission:
    return a_submission(
        org_id=org_id,
        workflow=more.pop("workflow", "photo_analysis"),
        inputs={"upload_ids": [photo.id for photo in photos], "kind": kind},
        assets={photo.id: {"key": photo.key, "sha256": photo.sha256} for photo in photos},
        **more,
    )


def asked_for(db: Database, engine: Engine, asked: Submission) -> dict[str, Any]:
    """Submit, and return the job as it is in the answer."""
    job: dict[str, Any] = handlers.submit(db, HoldingCredits(), engine, asked)["job"]
    return job


def operations_of(db: Database, job_id: str) -> list[Operation]:
    with db.transaction() as session:
        return list(
            session.scalars(
                sa.select(Operation)
                .where(Operation.job_id == job_id)
                .order_by(Operation.generation_id, Operation.position)
            )
        )


def attempts(db: Database) -> int:
    with db.transaction() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Attempt)) or 0


def kept(db: Database) -> list[Analysis]:
    with db.transaction() as session:
        return list(session.scalars(sa.select(Analysis).order_by(Analysis.created_at)))
