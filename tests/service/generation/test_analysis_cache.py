"""An analysis that is known is not made again: for whom it is known, by what, for how long, and at what price."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import handlers, retrying, sweeper
from services.generation.engine import Engine
from services.generation.jobs import charge
from services.generation.operations import Refused
from services.generation.workflows import photo_analysis, registered
from shared.database import Database
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, SeeingProvider, seen_in
from tests.service.generation.analysis_steps import a_photo, an_analysis, asked_for, attempts, kept, operations_of
from tests.service.generation.steps import at_work, ended, names, published
from tests.service.generation.worker_steps import execute


@pytest.fixture
def provider() -> SeeingProvider:
    return SeeingProvider()


def done(db: Database, store: ObjectStore, engine: Engine, asked: Any) -> dict[str, Any]:
    """Submit, let a worker do what is to be done, and return the job."""
    asked_for(db, engine, asked)
    with at_work(db, store, engine):
        return ended(db, asked.job_id, seconds=30)


def test_the_second_time_the_answer_is_there_at_once_without_the_provider(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    first = done(generation_db, store, engine, an_analysis([photo], org_id=org_id))
    same_picture = a_photo(store)

    second = asked_for(generation_db, engine, an_analysis([same_picture], org_id=org_id))

    assert (second["status"], second["cache"]) == ("succeeded", {"operations": 1, "hits": 1, "fresh": False})
    assert second["generations"][0]["result"] == first["generations"][0]["result"]
    assert first["generations"][0]["result"]["summary"]
    assert len(provider.requests) == attempts(generation_db) == 1
    (made,) = operations_of(generation_db, first["id"])
    (taken,) = operations_of(generation_db, second["id"])
    assert (taken.status, taken.taken_from, taken.attempt, taken.model_used) == ("succeeded", made.id, 0, "seeing-1")
    assert (taken.cost_microusd, taken.prompt_tokens, taken.completion_tokens) == (0, 0, 0)


def test_what_is_known_costs_nothing_and_holds_nothing(
    generation_db: Database, store: ObjectStore, engine: Engine, credits_service: HoldingCredits
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    first = done(generation_db, store, engine, an_analysis([photo], org_id=org_id))

    answer = handlers.submit(generation_db, credits_service, engine, an_analysis([photo], org_id=org_id))

    assert (first["charged"], answer["job"]["charged"], answer["job"]["refunded"]) == (10, 0, 0)
    assert credits_service.calls == []


def test_a_job_that_ends_at_once_is_told_of_as_any_other(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    done(generation_db, store, engine, an_analysis([photo], org_id=org_id))
    before = len(names(generation_db))

    second = asked_for(generation_db, engine, an_analysis([photo], org_id=org_id, user_id="usr_1"))

    told = published(generation_db)[before:]
    assert [type(event).__name__ for event in told] == [
        "JobAccepted",
        "GenerationStarted",
        "GenerationCompleted",
        "JobFinished",
    ]
    started: Any = told[1]
    completed: Any = told[2]
    assert started.user_id == completed.user_id == "usr_1"
    assert (completed.job_id, completed.line_id, completed.amount) == (second["id"], None, 0)
    assert (completed.provider_cost_microusd, completed.images, completed.model) == (0, [], "seeing-1")


def test_of_a_job_of_which_a_part_is_known_only_the_rest_is_asked_and_held(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: SeeingProvider,
    credits_service: HoldingCredits,
) -> None:
    org_id = new_id("org")
    known, new = a_photo(store, b"known"), a_photo(store, b"new")
    done(generation_db, store, engine, an_analysis([known], org_id=org_id))

    asked = an_analysis([known, new], org_id=org_id)
    answer = handlers.submit(generation_db, credits_service, engine, asked)
    with at_work(generation_db, store, engine):
        job = ended(generation_db, asked.job_id, seconds=30)

    assert answer["job"]["cache"] == {"operations": 2, "hits": 1, "fresh": False}
    assert [len(call["lines"]) for call in credits_service.calls] == [1]
    assert (job["status"], job["charged"]) == ("succeeded", 10)
    assert [request.sources for request in provider.requests] == [[b"known"], [b"new"]]


@pytest.mark.parametrize("whose", ["another organization", "a test key", "a live key"])
def test_nothing_is_known_of_another_organization_or_mode(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider, whose: str
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    done(generation_db, store, engine, an_analysis([photo], org_id=org_id, livemode=whose != "a live key"))

    asker = new_id("org") if whose == "another organization" else org_id
    asked = an_analysis([photo], org_id=asker, livemode=whose != "a test key")
    job = done(generation_db, store, engine, asked)

    assert job["cache"]["hits"] == 0
    assert len(provider.requests) == 2


@pytest.mark.parametrize("changed", ["model", "prompt version", "prompt", "kind", "parameters", "picture", "provider"])
def test_what_could_change_the_answer_is_asked_anew(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: SeeingProvider,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    done(generation_db, store, engine, an_analysis([photo], org_id=org_id))

    kind = "look"
    if changed == "model":
        provider.model = "seeing-2"
    elif changed == "prompt version":
        monkeypatch.setattr(photo_analysis, "PROMPT_VERSION", "photo-analysis-2")
    elif changed == "prompt":
        monkeypatch.setitem(photo_analysis.PROMPTS, "look", "Describe it.")
    elif changed == "kind":
        kind = "category"
    elif changed == "parameters":
        line = registered()["photo_analysis"]
        monkeypatch.setitem(registered(), "photo_analysis", with_parameters(line, {"name": "a chair"}))
    elif changed == "picture":
        photo = a_photo(store, b"another photo")
    else:
        provider.name = "gemini"
        engine = Engine(providers={"gemini": provider}, routes={"vision.analyze": ["gemini"]})
    job = done(generation_db, store, engine, an_analysis([photo], org_id=org_id, kind=kind))

    assert job["cache"]["hits"] == 0
    assert len(provider.requests) == 2


def test_a_fresh_job_asks_again_and_what_it_was_told_is_known_from_then_on(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    done(generation_db, store, engine, an_analysis([photo], org_id=org_id))
    provider.script = [lambda request: said(request, "something else")]

    fresh = done(generation_db, store, engine, an_analysis([photo], org_id=org_id, fresh=True))
    later = asked_for(generation_db, engine, an_analysis([photo], org_id=org_id))

    assert (fresh["cache"], fresh["charged"]) == ({"operations": 1, "hits": 0, "fresh": True}, 10)
    assert later["generations"][0]["result"]["summary"] == "something else"
    assert len(provider.requests) == 2


def test_what_is_older_than_it_is_kept_is_asked_anew_and_swept_away(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    done(generation_db, store, engine, an_analysis([photo], org_id=org_id))
    execute(generation_db, "UPDATE analyses SET made_at = made_at - interval '31 days'")

    swept = sweeper.forget_old_analyses(generation_db, kept=timedelta(days=32))
    job = done(generation_db, store, engine, an_analysis([photo], org_id=org_id))
    execute(generation_db, "UPDATE analyses SET made_at = made_at - interval '31 days'")
    swept_later = sweeper.forget_old_analyses(generation_db, kept=timedelta(days=30))

    assert (job["cache"]["hits"], len(provider.requests)) == (0, 2)
    assert (swept, swept_later) == (0, 1)
    assert kept(generation_db) == []


def test_with_nothing_kept_everything_is_asked_anew(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    forgetful = Engine(providers=engine.providers, routes={}, analyses_kept=timedelta(0))
    org_id, photo = new_id("org"), a_photo(store)

    jobs = [done(generation_db, store, forgetful, an_analysis([photo], org_id=org_id)) for _ in range(2)]

    assert [job["cache"]["hits"] for job in jobs] == [0, 0]
    assert len(provider.requests) == 2


def test_an_answer_of_another_shape_is_not_kept(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    provider.script = [lambda request: said(request, None)]

    done(generation_db, store, engine, an_analysis([photo], org_id=org_id))

    assert [row.result for row in kept(generation_db)] == [None]


def test_a_photo_whose_hash_nobody_knows_is_analysed_without_being_looked_up(
    generation_db: Database, store: ObjectStore, engine: Engine
) -> None:
    photo = a_photo(store)
    asked = an_analysis([photo], org_id=new_id("org"))
    del asked.assets[photo.id]["sha256"]  # type: ignore[attr-defined]  # a dict, made above

    job = done(generation_db, store, engine, asked)

    assert (job["status"], job["cache"], kept(generation_db)) == ("succeeded", None, [])


def test_a_dry_run_says_what_the_cache_leaves_to_be_paid(
    generation_db: Database, store: ObjectStore, engine: Engine, credits_service: HoldingCredits
) -> None:
    org_id = new_id("org")
    known, new = a_photo(store, b"known"), a_photo(store, b"new")
    done(generation_db, store, engine, an_analysis([known], org_id=org_id))

    rehearsed = [
        handlers.submit(generation_db, credits_service, engine, an_analysis(photos, org_id=org_id, dry_run=True))
        for photos in ([known], [known, new])
    ]

    assert [one["amount"] for one in rehearsed] == [0, 10]


@pytest.mark.parametrize(
    ("views", "from_cache", "price"),
    [(5, 0, 3), (5, 1, 3), (5, 2, 2), (5, 3, 2), (5, 4, 1), (5, 5, 0), (1, 0, 3), (1, 1, 0), (2, 1, 2), (3, 1, 2)],
)
def test_base_views_cost_three_times_the_misses_by_the_views_rounded_up(
    views: int, from_cache: int, price: int
) -> None:
    assert charge(3, operations=views, from_cache=from_cache, parts=views) == price


def test_what_is_not_priced_by_operation_costs_all_of_it_unless_all_of_it_was_known() -> None:
    assert [charge(10, operations=4, from_cache=taken) for taken in (0, 3, 4)] == [10, 10, 0]


def said(request: Any, what: str | None) -> Any:
    seen: Any = seen_in(request)
    result = {"nothing": "fits"} if what is None else {**seen.result, "summary": what}
    return type(seen)(result=result, model=seen.model, cost_microusd=seen.cost_microusd)


def with_parameters(line: Any, parameters: dict[str, Any]) -> Any:
    """Return a product line that asks the same with other parameters."""

    def plan(*about: Any) -> Any:
        return [
            replace(item, operations=tuple(replace(one, parameters=parameters) for one in item.operations))
            for item in line.plan(*about)
        ]

    return replace(line, plan=plan)


@pytest.mark.parametrize(
    ("org_id", "livemode", "seen"), [("org_a", True, 1), ("org_a", False, 0), ("org_b", True, 0), ("org_a", None, 0)]
)
def test_the_database_shows_an_analysis_to_its_organization_and_mode_alone(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    *,
    org_id: str,
    livemode: bool | None,
    seen: int,
) -> None:
    done(generation_db, store, engine, an_analysis([a_photo(store)], org_id="org_a"))

    with generation_db.transaction(org_id=org_id, livemode=livemode) as session:
        count = session.scalar(sa.text("SELECT count(*) FROM analyses"))

    assert count == seen


@pytest.mark.parametrize("statement", ["DELETE FROM analyses", "UPDATE analyses SET result = NULL, made_at = NULL"])
def test_the_database_lets_no_organization_change_what_is_known(
    generation_db: Database, store: ObjectStore, engine: Engine, statement: str
) -> None:
    done(generation_db, store, engine, an_analysis([a_photo(store)], org_id="org_a"))

    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        generation_db.transaction(org_id="org_a", livemode=True) as session,
    ):
        session.execute(sa.text(statement))


@pytest.mark.parametrize(("fresh", "calls"), [(False, 2), (True, 3)])
def test_a_retry_takes_what_became_known_meanwhile_unless_it_is_to_be_fresh(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider, *, fresh: bool, calls: int
) -> None:
    org_id, photo = new_id("org"), a_photo(store)
    provider.script = [Refused(code="invalid_input", detail="no")]
    failed = done(generation_db, store, engine, an_analysis([photo], org_id=org_id))
    done(generation_db, store, engine, an_analysis([photo], org_id=org_id))

    asked = {"org_id": org_id, "livemode": True, "job_id": failed["id"], "new_job_id": new_id("job"), "user_id": None}
    retrying.retry(generation_db, HoldingCredits(), engine, **asked, fresh=fresh)
    with at_work(generation_db, store, engine):
        again = ended(generation_db, asked["new_job_id"], seconds=30)

    assert (again["status"], again["retry_of"]) == ("succeeded", failed["id"])
    assert len(provider.requests) == calls
