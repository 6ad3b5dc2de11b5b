"""A database that is cut off just after a commit: the worker repeats a write that is there, whichever it was."""

from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa

from services.generation.engine import Engine
from services.generation.models import Image
from services.generation.poller import Poller
from services.generation.scheduler import Scheduler
from services.generation.settling import Settlement
from shared.database import Database
from shared.storage import ObjectStore
from tests.fakes import ForgetfulDatabase, ScriptedProvider, TakingProvider
from tests.service.generation.steps import SOURCE, job_of, submitted
from tests.service.generation.worker_steps import Worker, attempts_of, execute, operation_of

NEVER = 99


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


@pytest.fixture
def forgetful(generation_db: Database) -> Iterator[ForgetfulDatabase]:
    database = ForgetfulDatabase(generation_db.url.render_as_string(hide_password=False), nth=NEVER)
    yield database
    database.engine.dispose()


def a_forgetful_worker(worker: Worker, forgetful: ForgetfulDatabase, store: ObjectStore) -> Worker:
    """Return a worker that claims on a database that is there, and does everything else on one that is cut off."""
    made = Worker(worker.db, store, worker.engine, name=worker.name)
    made.scheduler = Scheduler(forgetful, store, worker.engine, worker=worker.name, slots=4, per_organization=20)
    made.poller = Poller(
        forgetful, worker.engine, Settlement(forgetful, store, worker.engine, held={}), worker=worker.name
    )
    return made


def go_on(worker: Worker) -> None:
    """Do whatever is due, as if its time had come; what breaks off is somebody else's after its lease."""
    execute(worker.db, "UPDATE operations SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    for item in worker.claim():
        try:
            worker.scheduler.carry(item)
        except psycopg2.OperationalError:
            worker.recover()
    for due in worker.due():
        try:
            worker.poller.follow(due)
        except psycopg2.OperationalError:
            worker.recover()


def test_there_are_so_many_commits_on_the_way_of_an_operation(
    generation_db: Database, store: ObjectStore, forgetful: ForgetfulDatabase
) -> None:
    provider = TakingProvider()
    engine = Engine(providers={"replicate": provider}, routes={"image.stage": ["replicate"]})
    submitted(generation_db, engine, variants=1)
    worker = a_forgetful_worker(Worker(generation_db, store, engine), forgetful, store)

    go_on(worker)
    provider.finish()
    go_on(worker)

    assert NEVER - forgetful.commits_left <= 6  # else the tests below leave some out


@pytest.mark.parametrize("nth", range(1, 7))
def test_of_what_a_provider_has_taken(
    generation_db: Database, store: ObjectStore, forgetful: ForgetfulDatabase, nth: int
) -> None:
    provider = TakingProvider()
    engine = Engine(providers={"replicate": provider}, routes={"image.stage": ["replicate"]})
    job_id = submitted(generation_db, engine, variants=1)
    worker = a_forgetful_worker(Worker(generation_db, store, engine), forgetful, store)
    forgetful.commits_left = nth

    for _ in range(3):
        go_on(worker)
        if provider.jobs:
            provider.finish()

    assert job_of(generation_db, job_id)["charged"] == 10
    assert (provider.billed.total(), provider.cancelled) == (1, [])
    assert_every_image_is_there(generation_db, store)
    assert_counted_once(generation_db, job_id)


@pytest.mark.parametrize("nth", range(1, 6))
def test_of_what_a_provider_answers_at_once(
    generation_db: Database, store: ObjectStore, forgetful: ForgetfulDatabase, nth: int
) -> None:
    provider = ScriptedProvider()
    provider.after_lost_answer = "give_up"
    engine = Engine(providers={"local": provider}, routes={})
    job_id = submitted(generation_db, engine, variants=1)
    worker = a_forgetful_worker(Worker(generation_db, store, engine), forgetful, store)
    forgetful.commits_left = nth

    for _ in range(3):
        go_on(worker)

    assert job_of(generation_db, job_id)["charged"] == 10
    assert len(provider.requests) == 1
    assert_every_image_is_there(generation_db, store)
    assert_counted_once(generation_db, job_id)


def assert_every_image_is_there(db: Database, store: ObjectStore) -> None:
    with db.transaction() as session:
        (image,) = session.scalars(sa.select(Image))
    assert sorted(store.keys("images/")) == sorted([image.key, image.thumbnail_key])


def assert_counted_once(db: Database, job_id: str) -> None:
    assert operation_of(db, job_id).cost_microusd == 5
    assert sum(attempt.cost_microusd or 0 for attempt in attempts_of(db, job_id)) == 5
