"""The usual way: green threads that each take a row with SKIP LOCKED, call the provider, and commit objects of an ORM.

A thread is a place at the provider, so the limit holds as long as nobody starts another process. There are no turns, no
leases, no fences, no log of attempts and no limits of organizations: less work than the engine does.
"""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.contenders import plain_tables, slow_worker
from benchmarks.contenders.slow_provider import SlowProvider
from services.generation.models import Generation, Image, Job, Operation
from services.generation.operations import Answered, MadeImage
from services.generation.providers import Request
from shared import events, images
from shared.events import GenerationCompleted
from shared.ids import new_id
from shared.off_hub import off_hub
from shared.storage import ObjectStore, StoredObject

CONNECTIONS = 20
IDLE_SECONDS = 0.05

_NEXT = (
    sa.select(Operation)
    .where(Operation.status == "queued", Operation.due_at.is_not(None))
    .order_by(Operation.due_at, Operation.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)


def make(orders: dict[str, Any], provider: SlowProvider, store: ObjectStore) -> slow_worker.Work:
    """Return a loop of so many threads as there are places."""
    engine = sa.create_engine(
        orders["database_url"], pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60, query_cache_size=2000
    )

    def work(stopping: Callable[[], bool]) -> None:
        while not stopping():
            with Session(engine, expire_on_commit=False) as session, session.begin():
                operation = session.scalars(_NEXT).one_or_none()
                if operation is not None:
                    operation.status, operation.started_at = "running", datetime.now(UTC)
            if operation is None:
                time.sleep(IDLE_SECONDS)
            else:
                _bring_home(engine, provider, store, operation)

    def work_all(stopping: Callable[[], bool]) -> None:
        threads = [threading.Thread(target=work, args=(stopping,)) for _ in range(orders["slots"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return work_all


def _bring_home(engine: sa.Engine, provider: SlowProvider, store: ObjectStore, operation: Operation) -> None:
    sources = [b"".join(store.open(key)) for key in operation.inputs["sources"]]
    asked = Request(
        operation_id=operation.id,
        name=operation.name,
        prompt=operation.prompt,
        model=operation.model_requested,
        seed=operation.seed,
        sources=sources,
    )
    answer = provider.answer(asked)
    stored = [_stored(store, operation, image) for image in answer.images]
    with Session(engine) as session, session.begin():
        _record(session, operation.id, answer, stored)


def _stored(store: ObjectStore, operation: Operation, image: MadeImage) -> tuple[str, images.Preview, StoredObject]:
    seen = off_hub(images.preview, image.data)
    image_id = new_id("img")
    stem = f"images/{operation.org_id}/{image_id}/0"
    stored = store.put(key=f"{stem}.jpg", chunks=image.data, content_type="image/jpeg")
    store.put(key=f"{stem}.thumb.jpg", chunks=seen.thumbnail, content_type="image/jpeg")
    return image_id, seen, stored


def _record(
    session: Session, operation_id: str, answer: Answered, stored: list[tuple[str, images.Preview, StoredObject]]
) -> None:
    now = datetime.now(UTC)
    operation = session.get_one(Operation, operation_id)
    job = session.get_one(Job, operation.job_id, with_for_update=True)
    generation = session.get_one(Generation, operation.generation_id)
    operation.status, operation.completed_at = "succeeded", now
    operation.output = {"images": [image_id for image_id, _, _ in stored]}
    generation.status, generation.finished_at = "running", now
    generation.status, generation.charged = "succeeded", generation.amount
    if job.status == "queued":
        job.status = "running"
    job.open_generations -= 1
    if not job.open_generations:
        job.status, job.finished_at = "succeeded", now
    for image_id, seen, each in stored:
        session.add(
            Image(
                id=image_id,
                org_id=job.org_id,
                job_id=job.id,
                generation_id=generation.id,
                operation_id=operation.id,
                key=each.key,
                thumbnail_key=each.key.replace(".jpg", ".thumb.jpg"),
                content_type=each.content_type,
                sha256=each.sha256,
                crc32=each.crc32,
                bytes=each.bytes,
                width=seen.width,
                height=seen.height,
                seed=operation.seed,
                settings={},
                provenance={"model": answer.model},
                livemode=True,
            )
        )
    told = GenerationCompleted(
        job_id=job.id,
        generation_id=generation.id,
        line_id=generation.id,
        amount=10,
        org_id=job.org_id,
        user_id=None,
        workflow=job.workflow,
        session_id=None,
        product_id=None,
        revision_id=None,
        style=None,
        room_type=None,
        images=[],
        provider=operation.provider,
        model=answer.model,
        provider_cost_microusd=0,
        duration_ms=0,
    )
    session.add(
        plain_tables.Outbox(event_id=new_id("evt"), type=type(told).__name__, body=events.encode(told).decode())
    )


if __name__ == "__main__":
    slow_worker.run(make)
