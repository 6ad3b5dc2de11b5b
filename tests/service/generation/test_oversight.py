"""How providers do, as operators are told: limits, load, what waits, and the models with their circuits."""

from typing import Any

import pytest

from services.gateway.schemas.engine import ProviderSchema
from services.generation import circuits, oversight
from services.generation.breaker import burst
from services.generation.engine import Engine
from services.generation.operations import Refused
from services.generation.providers import available
from shared.database import Database
from shared.http_schemas import cut, shape_of
from shared.storage import ObjectStore
from tests.fakes import TakingProvider
from tests.service.generation.steps import SOURCE, submitted
from tests.service.generation.worker_steps import Worker, execute


@pytest.fixture
def provider() -> TakingProvider:
    made = TakingProvider()
    made.requests_per_minute = 600
    return made


@pytest.fixture
def engine(provider: TakingProvider) -> Engine:
    return Engine(providers={"replicate": provider, **available({})}, routes={"image.stage": ["replicate"]})


def shown(db: Database, engine: Engine) -> dict[str, dict[str, Any]]:
    with db.transaction() as session:
        return {each["name"]: each for each in oversight.providers(session, engine)}


def test_every_provider_that_is_set_up_is_shown_with_its_limits_and_models(
    generation_db: Database, engine: Engine
) -> None:
    found = shown(generation_db, engine)

    assert list(found) == ["local", "replicate"]
    assert (found["replicate"]["concurrency"], found["replicate"]["requests_per_minute"]) == (2000, 600)
    assert found["replicate"]["after_lost_answer"] == "lookup"
    assert (found["replicate"]["requests_left"], found["replicate"]["at_work"]) == (None, 0)
    assert found["local"]["models"] or "image.stage" in found["local"]["operations"]
    for each in found.values():
        assert cut(each, shape_of(ProviderSchema)) == each


def test_what_is_at_work_and_what_waits_is_counted(generation_db: Database, store: ObjectStore, engine: Engine) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")
    worker = Worker(generation_db, store, engine)
    submitted(generation_db, engine, variants=2)
    worker.send()
    submitted(generation_db, engine, variants=3)
    execute(generation_db, "UPDATE operations SET due_at = due_at - interval '1 min' WHERE status = 'queued'")

    found = shown(generation_db, engine)

    assert (found["replicate"]["at_work"], found["replicate"]["waiting"]) == (2, 3)
    assert 60 <= found["replicate"]["longest_wait_seconds"] < 120
    assert (found["local"]["at_work"], found["local"]["longest_wait_seconds"]) == (0, None)


def test_what_may_still_be_sent_is_told_once_something_was(generation_db: Database, engine: Engine) -> None:
    execute(
        generation_db,
        "INSERT INTO loads (provider, tokens, refilled_at, at_work, most, per_organization, per_minute)"
        " VALUES ('replicate', 7.5, clock_timestamp() + interval '100 ms', 0, 1, 1, 60)",
    )
    few = shown(generation_db, engine)["replicate"]["requests_left"]
    execute(generation_db, "UPDATE loads SET refilled_at = clock_timestamp() - interval '1 h'")

    assert few in {7, 8}
    assert shown(generation_db, engine)["replicate"]["requests_left"] == burst(600)


def test_a_circuit_that_is_open_is_seen_at_its_model(generation_db: Database) -> None:
    engine = Engine(providers=available({"PROVIDER_FAL_API_KEY": "k"}), routes={})
    model = shown(generation_db, engine)["fal"]["models"][0]["id"]
    for _ in range(10):
        with generation_db.transaction() as session:
            failed = Refused(code="connect_failed", detail="no route")
            circuits.note(session, provider="fal", model=model, outcomes=[("op", failed)])

    health = {one["id"]: one["health"] for one in shown(generation_db, engine)["fal"]["models"]}

    assert (health[model]["status"], health[model]["failures_in_a_row"]) == ("down", 10)
    assert all(one["status"] == "ok" for name, one in health.items() if name != model)


def test_no_key_is_shown(generation_db: Database) -> None:
    engine = Engine(providers=available({"PROVIDER_FAL_API_KEY": "key-of-fal-012345"}), routes={})

    assert "key-of-fal" not in str(shown(generation_db, engine))
