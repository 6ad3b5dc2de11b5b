"""Steps of an operation's way, one function each, as the tests of the engine take them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.generation import claims, endings, handlers, queries, recording, sweeper
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Job
from services.generation.operations import Answered, GiveUp
from services.generation.recording import StoredImage
from services.generation.scheduler import Scheduler
from shared.database import Database
from shared.events import CreditReserved, Event, HeldLine, correlated, decode
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits
from tests.polling import until
from tests.service.generation.conftest import a_submission

SOURCE = "assets/org/a.jpg"


def submitted(
    db: Database,
    engine: Engine,
    *,
    variants: int = 2,
    org_id: str | None = None,
    credits_service: HoldingCredits | None = None,
    **more: Any,
) -> str:
    asked = a_submission(org_id=org_id or new_id("org"), **more)
    asked = replace(asked, inputs={**asked.inputs, "variants": variants})
    handlers.submit(db, credits_service or HoldingCredits(), engine, asked)
    return asked.job_id


def ask_again(db: Database, credits_service: HoldingCredits) -> None:
    """Let the time come for every job that has credits to ask for, and ask."""
    with db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET reserve_after = clock_timestamp() WHERE reserve_after IS NOT NULL"))
    sweeper.reserve_again(db, credits_service)


def seconds_until_asked(db: Database, job_id: str) -> float:
    asked_at = _reserve_after(db, job_id)
    assert asked_at is not None
    with db.transaction() as session:
        return (asked_at - endings.database_now(session)).total_seconds()


def _reserve_after(db: Database, job_id: str) -> datetime | None:
    with db.transaction() as session:
        return session.get_one(Job, job_id).reserve_after


def reserved(job_id: str, line_ids: Sequence[str], *, org_id: str = "org") -> CreditReserved:
    return CreditReserved(
        meta=correlated("cor_1"),
        reservation_id="rsv_1",
        job_id=job_id,
        org_id=org_id,
        amount=10 * len(line_ids),
        unit="credits",
        lines=[HeldLine(line_id=one, sku="staging.variant", unit="credits", amount=10) for one in line_ids],
        available=0,
        version=1,
    )


def told(db: Database, event: CreditReserved) -> list[Event]:
    """Hand one event of credits to the engine; return its answers, which are published too."""
    with db.transaction() as session:
        answers = handlers.queue_paid_jobs(session, [event])
        db.publish(session, answers)
    return answers


def claim(
    db: Database, *, free: int = 10, per_organization: int = 20, limit: int = 100, answered: Sequence[Claimed] = ()
) -> list[Claimed]:
    with db.transaction() as session:
        return claims.claim(
            session,
            worker="w",
            free=free,
            limits={"local": limit},
            per_organization=per_organization,
            answered=answered,
        )


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
def at_work(db: Database, store: ObjectStore, engine: Engine, *, slots: int = 4) -> Iterator[None]:
    """Run a scheduler in the background."""
    stop = threading.Event()
    scheduler = Scheduler(db, store, engine, worker="w", slots=slots, per_organization=20)
    thread = threading.Thread(target=scheduler.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def fail_one(db: Database, item: Claimed, code: str = "invalid_input") -> None:
    with db.transaction() as session:
        db.publish(session, recording.failure(session, item, decision=GiveUp(code=code, detail="no")))


def job_of(db: Database, job_id: str) -> dict[str, Any]:
    with db.transaction() as session:
        row = session.get_one(Job, job_id)
        return queries.job(session, org_id=row.org_id, livemode=row.livemode, job_id=job_id)


def ended(db: Database, job_id: str, *, seconds: float = 10) -> dict[str, Any]:
    return until(
        lambda: job if (job := job_of(db, job_id))["finished_at"] else None, seconds=seconds, what="the job's end"
    )


def published(db: Database) -> list[Event]:
    with db.transaction() as session:
        bodies = session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars()
        return [decode(body.encode()) for body in bodies]


def names(db: Database) -> list[str]:
    return [type(item).__name__ for item in published(db)]
