"""Steps of an operation's way, one function each, as the tests of the engine take them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from services.generation import claims, handlers, queries, recording
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Job
from services.generation.operations import Answered
from services.generation.recording import StoredImage
from services.generation.scheduler import Scheduler
from shared.database import Database
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits
from tests.polling import until
from tests.service.generation.conftest import a_submission
from tests.service.generation.test_submitting import published

SOURCE = "assets/org/a.jpg"


def submitted(db: Database, engine: Engine, *, variants: int = 2, org_id: str | None = None) -> str:
    asked = a_submission(org_id=org_id or new_id("org"))
    asked = replace(asked, inputs={**asked.inputs, "variants": variants})
    handlers.submit(db, HoldingCredits(), engine, asked)
    return asked.job_id


def claim(db: Database, *, free: int = 10, per_organization: int = 20, limit: int = 100) -> list[Claimed]:
    with db.transaction() as session:
        return claims.claim(session, worker="w", free=free, limits={"local": limit}, per_organization=per_organization)


def begun(db: Database, claimed: Sequence[Claimed]) -> list[Claimed]:
    with db.transaction() as session:
        live, events = claims.begin(session, claimed)
        db.publish(session, events)
        return live


def lapse(db: Database) -> None:
    """Let every lease run out."""
    with db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE operations SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL"
            )
        )


def lapsed(db: Database) -> list[Claimed]:
    with db.transaction() as session:
        return claims.expired(session)


def a_stored_image(item: Claimed) -> StoredImage:
    image_id = new_id("img")
    return StoredImage(
        image_id=image_id,
        key=f"images/{item.org_id}/{image_id}/{item.fence}.jpg",
        thumbnail_key=f"images/{item.org_id}/{image_id}/{item.fence}.thumb.jpg",
        content_type="image/jpeg",
        sha256="0" * 64,
        crc32=1,
        bytes=10,
        width=64,
        height=48,
    )


def a_claim(*, fence: int) -> Claimed:
    return Claimed(
        id="op_1",
        org_id="org",
        job_id="job",
        generation_id="gen",
        name="image.stage",
        provider="local",
        model_requested="m",
        prompt="",
        seed=1,
        inputs={},
        makes_image=True,
        attempt=1,
        fence=fence,
    )


def adopt(db: Database, engine: Engine, item: Claimed) -> bool:
    with db.transaction() as session:
        recorded = recording.success(
            session, engine, item, answer=Answered(model="scripted-1", cost_microusd=5), images=[a_stored_image(item)]
        )
        db.publish(session, recorded.events)
        return recorded.adopted


@contextmanager
def at_work(db: Database, store: ObjectStore, engine: Engine) -> Iterator[None]:
    """Run a scheduler in the background."""
    stop = threading.Event()
    scheduler = Scheduler(db, store, engine, worker="w", slots=4, per_organization=20)
    thread = threading.Thread(target=scheduler.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def job_of(db: Database, job_id: str) -> dict[str, object]:
    with db.transaction() as session:
        return queries.job(session, org_id=session.get_one(Job, job_id).org_id, job_id=job_id)


def ended(db: Database, job_id: str) -> dict[str, object]:
    return until(lambda: job if (job := job_of(db, job_id))["finished_at"] else None, what="the job's end")


def names(db: Database) -> list[str]:
    return [type(item).__name__ for item in published(db)]
