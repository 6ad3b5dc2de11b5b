"""What waits for a provider that is down goes to the next of its route, where it is certain that nobody has run it."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.generation import rerouting
from services.generation.engine import Engine
from services.generation.models import CircuitRow, Operation
from services.generation.operations import Refused
from shared.database import Database
from shared.storage import ObjectStore
from tests.fakes import ScriptedProvider, TakingProvider
from tests.service.generation.steps import SOURCE, job_of, submitted
from tests.service.generation.worker_steps import Worker, attempts_of, execute, operation_of

DOWN = Refused(code="provider_error", detail="HTTP 500")
FULL = Refused(code="rate_limited", detail="429", retry_after_seconds=3600)


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


@pytest.fixture
def first() -> TakingProvider:
    return TakingProvider("replicate")


@pytest.fixture
def second() -> TakingProvider:
    return TakingProvider("fal")


@pytest.fixture
def engine(first: TakingProvider, second: TakingProvider) -> Engine:
    local = ScriptedProvider()
    return Engine(
        providers={one.name: one for one in (first, second, local)}, routes={"image.stage": ["replicate", "fal"]}
    )


def down(db: Database, provider: str, *, probe_in: str = "30 s") -> None:
    """Open a provider's circuit."""
    now = sa.func.clock_timestamp()
    opened = {"state": "open", "failures": 10, "opened_at": now, "probe_at": now + sa.cast(probe_in, sa.Interval)}
    of_model = insert(CircuitRow).values(provider=provider, model="scripted-1", **opened)
    with db.transaction() as session:
        session.execute(of_model.on_conflict_do_update(index_elements=["provider", "model"], set_=opened))


def provider_of(db: Database, job_id: str) -> str:
    return operation_of(db, job_id).provider


def test_what_was_never_sent_is_done_by_the_next_of_the_route(
    generation_db: Database, store: ObjectStore, engine: Engine, first: TakingProvider, second: TakingProvider
) -> None:
    down(generation_db, "replicate")
    job_id = submitted(generation_db, engine, variants=1)
    worker = Worker(generation_db, store, engine)

    gone = rerouting.go_elsewhere(generation_db, engine)
    worker.send()
    second.finish()
    worker.ask()

    assert gone == 1
    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert (first.requests, second.billed.total()) == ([], 1)
    assert [(each.provider, each.model_used) for each in attempts_of(generation_db, job_id)] == [("fal", "scripted-1")]


def test_a_provider_that_wants_to_be_left_alone_for_an_hour_is_not_waited_for(
    generation_db: Database, store: ObjectStore, engine: Engine, first: TakingProvider, second: TakingProvider
) -> None:
    first.script = [FULL]
    job_id = submitted(generation_db, engine, variants=1)
    worker = Worker(generation_db, store, engine)
    worker.send()

    rerouting.go_elsewhere(generation_db, engine)
    worker.send()
    second.finish()
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert [(each.provider, each.error_code) for each in attempts_of(generation_db, job_id)] == [
        ("replicate", "rate_limited"),
        ("fal", None),
    ]


def test_what_its_provider_has_answered_with_an_error_of_its_own_is_not_kept_for_it(
    generation_db: Database, store: ObjectStore, engine: Engine, first: TakingProvider, second: TakingProvider
) -> None:
    first.script = [DOWN]
    job_id = submitted(generation_db, engine, variants=1)
    worker = Worker(generation_db, store, engine)
    worker.send()
    down(generation_db, "replicate")

    rerouting.go_elsewhere(generation_db, engine)
    worker.send()
    second.finish()
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert [(each.provider, each.error_code) for each in attempts_of(generation_db, job_id)] == [
        ("replicate", "provider_error"),
        ("fal", None),
    ]


def test_what_may_have_run_stays_where_it_is(
    generation_db: Database, store: ObjectStore, engine: Engine, first: TakingProvider
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker = Worker(generation_db, store, engine)
    worker.send()
    first.finish(outcome=replace(DOWN, ran=True))
    worker.ask()
    down(generation_db, "replicate")

    assert rerouting.go_elsewhere(generation_db, engine) == 0
    assert provider_of(generation_db, job_id) == "replicate"


@pytest.mark.parametrize("probe_in", ["30 s", "-1 s"])
def test_one_is_left_to_be_the_probe_when_it_is_time_for_one(
    generation_db: Database, engine: Engine, probe_in: str
) -> None:
    down(generation_db, "replicate", probe_in=probe_in)
    job_id = submitted(generation_db, engine, variants=1)

    rerouting.go_elsewhere(generation_db, engine)

    assert provider_of(generation_db, job_id) == ("fal" if probe_in == "30 s" else "replicate")


def test_nothing_goes_to_one_that_is_down_as_well_nor_where_no_route_leads(
    generation_db: Database, engine: Engine, first: TakingProvider
) -> None:
    down(generation_db, "replicate")
    alone = Engine(providers={"replicate": first}, routes={"image.stage": ["replicate"]})
    job_id = submitted(generation_db, alone, variants=1)

    nowhere = rerouting.go_elsewhere(generation_db, alone)
    down(generation_db, "fal")
    to_the_sick = rerouting.go_elsewhere(generation_db, engine)

    assert (nowhere, to_the_sick) == (0, 0)
    assert provider_of(generation_db, job_id) == "replicate"


def test_what_test_keys_ask_for_never_leads_to_one_who_bills(generation_db: Database, engine: Engine) -> None:
    local_first = Engine(providers=engine.providers, routes={"image.stage": ["local", "fal"]})
    job_id = submitted(generation_db, local_first, variants=1, livemode=False)
    down(generation_db, "local")

    assert rerouting.go_elsewhere(generation_db, local_first) == 0
    assert provider_of(generation_db, job_id) == "local"


def test_what_is_at_work_or_waits_for_credits_is_left_alone(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    submitted(generation_db, engine, variants=2)
    Worker(generation_db, store, engine).send()
    down(generation_db, "replicate")
    waiting: Any = submitted(generation_db, engine, variants=1)
    execute(generation_db, "UPDATE operations SET due_at = NULL WHERE job_id = :id", id=waiting)

    assert rerouting.go_elsewhere(generation_db, engine) == 0
    with generation_db.transaction() as session:
        assert set(session.scalars(sa.select(Operation.provider))) == {"replicate"}
