"""What a generation costs of which a part is known, with a product line that has a price for its analyses together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import cancelling, coalescing, handlers, recording
from services.generation.engine import Engine
from services.generation.submissions import Submission
from services.generation.workflows import (
    Assets,
    Cached,
    DoneOperation,
    PlannedGeneration,
    PlannedOperation,
    photo_analysis,
    registered,
    workflow,
)
from shared.database import Database
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, SeeingProvider
from tests.service.generation.analysis_steps import Photo, a_photo, an_analysis, operations_of
from tests.service.generation.steps import at_work, ended, fail_one, job_of, published
from tests.service.generation.test_coalescing import answered, due, followed


@pytest.fixture
def provider() -> SeeingProvider:
    return SeeingProvider()


@pytest.fixture(autouse=True)
def product_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add two: one prices the analyses of all its views together, the other makes an image of what an analysis says."""
    base = workflow("photo_analysis")
    monkeypatch.setitem(registered(), "views", replace(base, name="views", plan=plan_views))
    sketches = replace(base, name="sketches", plan=plan_sketch, follow_up=draw)
    monkeypatch.setitem(registered(), "sketches", sketches)


def plan_views(inputs: Mapping[str, Any], assets: Assets, seed: int, cached: Cached) -> Sequence[PlannedGeneration]:
    views = tuple(
        operation
        for item in photo_analysis.plan({**inputs, "kind": "look"}, assets, seed)
        for operation in item.operations
    )
    sku = None if all(cached(view) for view in views) else "tech_pack.base_views"
    return [PlannedGeneration(sku=sku, seed=seed, operations=views, priced_by_operation=True)]


def plan_sketch(inputs: Mapping[str, Any], assets: Assets, seed: int, _cached: Cached) -> Sequence[PlannedGeneration]:
    (planned,) = photo_analysis.plan({**inputs, "kind": "look"}, assets, seed)
    return [replace(planned, sku="tech_pack.sketches")]


def draw(_settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> Sequence[PlannedOperation]:
    if len(done) > 1:
        return ()
    return [PlannedOperation(name="image.edit", prompt=str(done[0].result), prompt_version="1", seed=1)]


def photos(store: ObjectStore, count: int) -> list[Photo]:
    return [a_photo(store, f"view {number}".encode()) for number in range(count)]


def through(db: Database, store: ObjectStore, engine: Engine, asked: Submission) -> tuple[dict[str, Any], list[int]]:
    """Return the job at its end, and how many lines were asked for."""
    credits_service = HoldingCredits()
    with followed(db, engine), at_work(db, store, engine):
        handlers.submit(db, credits_service, engine, asked)
        job = ended(db, asked.job_id, seconds=30)
    return job, [len(call["lines"]) for call in credits_service.calls]


def test_a_part_that_is_known_is_given_back_at_the_end(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, views = new_id("org"), photos(store, 5)
    through(generation_db, store, engine, an_analysis(views[:3], org_id=org_id))

    job, held = through(generation_db, store, engine, an_analysis(views, org_id=org_id, workflow="views"))

    assert held == [1]
    assert (job["status"], job["charged"], job["refunded"]) == ("succeeded", 4, 6)  # ceil(10 x 2 / 5) of 10
    assert job["cache"] == {"operations": 5, "hits": 3, "fresh": False}
    assert len(provider.requests) == 5
    completed = [event for event in published(generation_db) if getattr(event, "workflow", "") == "views"]
    assert [event.amount for event in completed if type(event).__name__ == "GenerationCompleted"] == [4]


def test_all_of_it_known_is_free_and_never_held(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, views = new_id("org"), photos(store, 3)
    through(generation_db, store, engine, an_analysis(views, org_id=org_id, workflow="views"))

    job, held = through(generation_db, store, engine, an_analysis(views, org_id=org_id, workflow="views"))

    assert held == []
    assert (job["status"], job["charged"], job["refunded"], job["reserved"]) == ("succeeded", 0, 0, 0)
    assert len(provider.requests) == 3


def test_nothing_of_it_known_costs_the_price(generation_db: Database, store: ObjectStore, engine: Engine) -> None:
    asked = an_analysis(photos(store, 3), org_id=new_id("org"), workflow="views")

    job, _ = through(generation_db, store, engine, asked)

    assert (job["charged"], job["refunded"]) == (10, 0)


def test_what_is_found_out_meanwhile_is_given_back_too(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, views = new_id("org"), photos(store, 2)
    first, second = (an_analysis(views, org_id=org_id, workflow="views") for _ in range(2))
    for asked in (first, second):
        handlers.submit(generation_db, HoldingCredits(), engine, asked)

    with followed(generation_db, engine), at_work(generation_db, store, engine):
        jobs = [ended(generation_db, asked.job_id, seconds=30) for asked in (first, second)]

    assert [(job["charged"], job["refunded"]) for job in jobs] == [(10, 0), (0, 10)]
    assert len(provider.requests) == 2


def test_what_was_counted_on_and_is_gone_is_made_for_nothing(
    generation_db: Database, store: ObjectStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    org_id, views = new_id("org"), photos(store, 1)
    through(generation_db, store, engine, an_analysis(views, org_id=org_id, workflow="views"))
    with monkeypatch.context() as slow:
        slow.setattr(coalescing, "settle_jobs", lambda *_: None)
        asked = an_analysis(views, org_id=org_id, workflow="views")
        handlers.submit(generation_db, HoldingCredits(), engine, asked)
    with generation_db.transaction() as session:
        session.execute(sa.text("DELETE FROM analyses"))

    with followed(generation_db, engine), at_work(generation_db, store, engine):
        job = ended(generation_db, asked.job_id, seconds=30)

    assert (job["status"], job["charged"], job["refunded"]) == ("succeeded", 0, 0)


def test_an_image_made_of_a_known_analysis_has_its_price(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, views = new_id("org"), photos(store, 1)
    through(generation_db, store, engine, an_analysis(views, org_id=org_id))

    job, held = through(generation_db, store, engine, an_analysis(views, org_id=org_id, workflow="sketches"))

    assert held == [1]
    assert (job["status"], job["charged"]) == ("succeeded", 10)
    assert len(job["generations"][0]["images"]) == 1
    assert [operation.taken_from is not None for operation in operations_of(generation_db, job["id"])] == [True, False]
    assert [request.name for request in provider.requests] == ["vision.analyze", "image.edit"]


def test_the_rest_of_a_job_goes_on_while_a_part_of_it_is_known(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    org_id, views = new_id("org"), photos(store, 2)
    through(generation_db, store, engine, an_analysis(views[:1], org_id=org_id))

    asked = an_analysis(views, org_id=org_id, workflow="views")
    answer = handlers.submit(generation_db, HoldingCredits(), engine, asked)

    assert (answer["job"]["status"], answer["job"]["cache"]["hits"]) == ("running", 1)
    assert len(due(generation_db)) == 1


def test_what_waits_in_a_job_that_is_being_cancelled_is_not_sent_any_more(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    org_id, views = new_id("org"), photos(store, 2)
    other, cancelled = an_analysis(views[1:], org_id=org_id), an_analysis(views, org_id=org_id, workflow="views")
    for asked in (other, cancelled):
        handlers.submit(generation_db, HoldingCredits(), engine, asked)
    at_it = {item.job_id: item for item in due(generation_db)}
    with generation_db.transaction() as session:
        recording.storing(session, [at_it[cancelled.job_id]])

    cancelling.cancel(generation_db, org_id=org_id, livemode=True, job_id=cancelled.job_id)
    before = job_of(generation_db, cancelled.job_id)["status"]
    fail_one(generation_db, at_it[other.job_id])
    sent = coalescing.settle_ready(generation_db, engine)
    answered(generation_db, engine, at_it[cancelled.job_id])

    job = job_of(generation_db, cancelled.job_id)
    assert (before, sent) == ("cancelling", 0)
    assert (job["status"], job["charged"], job["refunded"]) == ("cancelled", 0, 10)
