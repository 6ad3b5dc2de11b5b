"""What another provider made than was asked first is said: of each result, of the job as a count, in its warnings."""

from typing import Any

import pytest

from services.generation import rerouting
from services.generation.engine import Engine
from services.generation.operations import Refused
from shared.database import Database
from shared.events import GenerationCompleted, JobFinished
from shared.storage import ObjectStore
from tests.fakes import ScriptedProvider
from tests.service.generation.steps import SOURCE, at_work, ended, job_of, published, submitted
from tests.service.generation.test_going_elsewhere import down
from tests.service.generation.worker_steps import Worker

GONE = Refused(code="auth_failed", detail="HTTP 401")


def a_provider(name: str) -> ScriptedProvider:
    made = ScriptedProvider()
    made.name = name
    return made


@pytest.fixture
def first() -> ScriptedProvider:
    return a_provider("openai")


@pytest.fixture
def second() -> ScriptedProvider:
    return a_provider("fal")


@pytest.fixture
def engine(first: ScriptedProvider, second: ScriptedProvider) -> Engine:
    return Engine(providers={"openai": first, "fal": second}, routes={"image.stage": ["openai", "fal"]})


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


def told(db: Database) -> tuple[list[str | None], list[int]]:
    """Return what the ends of generations name as asked first, and how many each end of a job counts."""
    items = published(db)
    results = [item.fallback_from for item in items if isinstance(item, GenerationCompleted)]
    return results, [item.fallbacks for item in items if isinstance(item, JobFinished)]


def warnings_of(job: dict[str, Any]) -> list[str]:
    return [warning["detail"] for warning in job["warnings"] if warning["code"] == "fallback"]


def test_one_of_two_made_by_another_after_a_refusal_is_counted_and_named(
    generation_db: Database, store: ObjectStore, engine: Engine, first: ScriptedProvider
) -> None:
    first.script = [GONE]

    job_id = submitted(generation_db, engine, variants=2)
    with at_work(generation_db, store, engine, slots=1):
        job = ended(generation_db, job_id)

    results, counts = told(generation_db)
    assert sorted(results, key=str) == [None, "openai"]
    assert counts == [1]
    assert warnings_of(job) == ["1 of 2 generations were made by another AI service than was asked first."]
    assert {image["provenance"]["provider"] for made in job["generations"] for image in made["images"]} == {
        "openai",
        "fal",
    }


def test_what_was_led_elsewhere_before_anybody_was_asked_is_said_too(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    down(generation_db, "openai")
    job_id = submitted(generation_db, engine, variants=1)

    rerouting.go_elsewhere(generation_db, engine)
    Worker(generation_db, store, engine).send()

    assert told(generation_db) == (["openai"], [1])
    assert len(warnings_of(job_of(generation_db, job_id))) == 1


def test_where_who_was_asked_did_it_nothing_is_said(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    job_id = submitted(generation_db, engine, variants=2)
    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert told(generation_db) == ([None, None], [0])
    assert job["warnings"] == []


def test_what_failed_with_all_of_them_was_made_by_nobody(
    generation_db: Database, store: ObjectStore, engine: Engine, first: ScriptedProvider, second: ScriptedProvider
) -> None:
    first.script = second.script = [GONE, GONE]

    job_id = submitted(generation_db, engine, variants=1)
    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert told(generation_db) == ([], [0])
    assert (job["status"], warnings_of(job)) == ("failed", [])
