"""Jobs of test keys: what they cost (nothing), who does them, how many may be open, and who sees them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.generation import handlers, planning, queries
from services.generation.engine import Engine
from services.generation.models import Job, Operation
from services.generation.submissions import Submission
from shared.database import Database
from shared.events import GenerationCompleted, JobFinished
from shared.ids import new_id
from shared.problems import LimitExceeded, NotFound, QuoteUsed, Unavailable
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, ScriptedProvider
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import (
    SOURCE,
    adopt,
    at_work,
    begun,
    claim,
    ended,
    fail_one,
    names,
    published,
    submitted,
)

WALLED = ("jobs", "generations", "operations", "images")


def a_trial(*, variants: int = 2, **changes: Any) -> Submission:
    asked = a_submission(livemode=False, **changes)
    return replace(asked, inputs={**asked.inputs, "variants": variants})


def counted(db: Database, **scope: Any) -> list[int]:
    with db.transaction(**scope) as session:
        return [session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in WALLED]


# --- what it costs


def test_nothing_is_held_and_the_work_is_due_at_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    answer = handlers.submit(generation_db, credits_service, engine, a_trial())

    job = answer["job"]
    assert (job["status"], job["livemode"], answer["balance"]) == ("queued", False, None)
    assert (job["reserved"], job["charged"], job["refunded"]) == (0, 0, 0)
    assert len(claim(generation_db)) == 1
    assert credits_service.calls == credits_service.quotes_taken == []


def test_a_job_goes_all_the_way_and_nothing_of_it_is_to_be_paid(
    generation_db: Database, engine: Engine, store: ObjectStore, credits_service: HoldingCredits
) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")
    asked = a_trial()

    with at_work(generation_db, store, engine):
        handlers.submit(generation_db, credits_service, engine, asked)
        job = ended(generation_db, asked.job_id)

    assert (job["status"], job["charged"], job["refunded"], job["reserved"]) == ("succeeded", 0, 0, 0)
    assert [generation["charged"] for generation in job["generations"]] == [0, 0]
    images = [image for generation in job["generations"] for image in generation["images"]]
    assert [(image["livemode"], image["provenance"]["livemode"]) for image in images] == [(False, False)] * 2
    told = published(generation_db)
    assert {event.livemode for event in told} == {False}  # type: ignore[attr-defined]
    completed = [event for event in told if isinstance(event, GenerationCompleted)]
    assert [(event.line_id, event.amount) for event in completed] == [(None, 0)] * 2
    (finished,) = [event for event in told if isinstance(event, JobFinished)]
    assert finished.lines == []
    assert credits_service.calls == []


def test_what_fails_gives_nothing_back_for_nothing_was_held(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_trial(variants=1)
    handlers.submit(generation_db, credits_service, engine, asked)

    fail_one(generation_db, *begun(generation_db, claim(generation_db)))

    job = ended(generation_db, asked.job_id)
    assert (job["status"], job["refunded"]) == ("failed", 0)
    failed, finished = published(generation_db)[-2:]
    assert (failed.line_id, finished.lines) == (None, [])  # type: ignore[attr-defined]


def test_a_live_jobs_events_and_images_say_that_they_are_live(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))
    adopt(generation_db, engine, item)

    (generation,) = ended(generation_db, job_id)["generations"]
    assert generation["images"][0]["livemode"] is True
    assert {event.livemode for event in published(generation_db)} == {True}  # type: ignore[attr-defined]


# --- who does it


@pytest.fixture
def with_a_paid_provider(provider: ScriptedProvider) -> Engine:
    paid = ScriptedProvider()
    paid.name = "paid"
    return Engine(providers={"local": provider, "paid": paid}, routes={"image.stage": ["paid", "local"]})


def providers(db: Database, job_id: str) -> set[str]:
    with db.transaction() as session:
        return set(session.scalars(sa.select(Operation.provider).where(Operation.job_id == job_id)))


def test_no_route_leads_test_work_to_anybody_who_bills(generation_db: Database, with_a_paid_provider: Engine) -> None:
    live = submitted(generation_db, with_a_paid_provider)
    test = submitted(generation_db, with_a_paid_provider, livemode=False)

    assert (providers(generation_db, live), providers(generation_db, test)) == ({"paid"}, {"local"})


def test_what_only_a_provider_that_bills_can_do_is_no_test_work(generation_db: Database) -> None:
    paid = ScriptedProvider()
    paid.name = "paid"
    engine = Engine(providers={"paid": paid}, routes={"image.stage": ["paid"]})

    with pytest.raises(Unavailable):
        submitted(generation_db, engine, livemode=False)

    assert counted(generation_db) == [0, 0, 0, 0]


@pytest.mark.parametrize("change", [{"provider": "paid"}, {"lane": 0}, {"livemode": True}])
def test_the_database_itself_keeps_test_work_where_it_belongs(
    generation_db: Database, engine: Engine, change: dict[str, Any]
) -> None:
    submitted(generation_db, engine, livemode=False)

    with pytest.raises(IntegrityError, match="operations_of_test_keys"), generation_db.transaction() as session:
        session.execute(sa.update(Operation).values(**change))


def test_one_after_the_other_takes_that_much_longer(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    seconds = [
        handlers.submit(generation_db, credits_service, engine, a_trial(variants=number))["job"]["eta_seconds"]
        for number in (1, 3)
    ]

    assert seconds == [60, 180]


# --- how much may be open


@pytest.fixture
def narrow(engine: Engine) -> Engine:
    """An engine that lets three generations be open for test keys of an organization."""
    return replace(engine, open_test_generations=3)


def test_only_so_much_test_work_may_be_open(generation_db: Database, narrow: Engine) -> None:
    org_id = new_id("org")
    submitted(generation_db, narrow, variants=2, org_id=org_id, livemode=False)
    before = counted(generation_db)

    with pytest.raises(LimitExceeded) as refused:
        submitted(generation_db, narrow, variants=2, org_id=org_id, livemode=False)

    assert refused.value.extra == {"limit": 3, "excess": 1}
    assert counted(generation_db) == before
    assert names(generation_db) == ["JobAccepted"]


def test_what_has_ended_makes_room(generation_db: Database, narrow: Engine) -> None:
    org_id = new_id("org")
    submitted(generation_db, narrow, variants=3, org_id=org_id, livemode=False)
    fail_one(generation_db, *begun(generation_db, claim(generation_db)))

    submitted(generation_db, narrow, variants=1, org_id=org_id, livemode=False)

    assert counted(generation_db)[0] == 2


def test_the_limit_is_of_one_organizations_test_keys(generation_db: Database, narrow: Engine) -> None:
    org_id = new_id("org")
    submitted(generation_db, narrow, variants=3, org_id=org_id, livemode=False)

    submitted(generation_db, narrow, variants=3, livemode=False)
    submitted(generation_db, narrow, variants=8, org_id=org_id)

    assert counted(generation_db)[0] == 3


def test_a_job_that_is_there_is_no_job_too_many(
    generation_db: Database, narrow: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_trial(variants=3, quote_id="quo_1")

    jobs = [handlers.submit(generation_db, credits_service, narrow, asked)["job"]["id"] for _ in range(2)]

    assert jobs == [asked.job_id] * 2
    assert counted(generation_db)[0] == 1


def test_of_many_at_once_exactly_as_many_are_taken_as_there_is_room_for(
    generation_db: Database, narrow: Engine, credits_service: HoldingCredits
) -> None:
    org_id = new_id("org")

    def ask(_number: int) -> str:
        try:
            handlers.submit(generation_db, credits_service, narrow, a_trial(variants=1, org_id=org_id))
        except LimitExceeded:
            return "refused"
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(ask, range(8)))

    assert outcomes == ["refused"] * 5 + ["taken"] * 3


# --- quotes and prices


def test_a_quote_is_used_up_before_the_job_is_there(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_trial(quote_id="quo_1")
    plan = planning.plan(engine, workflow_name="staging", inputs=asked.inputs, assets=asked.assets)

    for _ in range(2):
        handlers.submit(generation_db, credits_service, engine, asked)

    named = {"org_id": asked.org_id, "job_id": asked.job_id, "quote_id": "quo_1", "fingerprint": plan.fingerprint}
    assert credits_service.quotes_taken == [named]
    assert credits_service.calls == []


@pytest.mark.parametrize("refusal", [QuoteUsed(), NotFound("There is no such quote."), Unavailable()])
def test_without_its_quote_no_job_is_made(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, refusal: Exception
) -> None:
    credits_service.refusal = refusal

    with pytest.raises(type(refusal)):
        handlers.submit(generation_db, credits_service, engine, a_trial(quote_id="quo_1"))

    assert counted(generation_db) == [0, 0, 0, 0]


def test_where_there_is_no_room_the_quote_stays_good(
    generation_db: Database, narrow: Engine, credits_service: HoldingCredits
) -> None:
    with pytest.raises(LimitExceeded):
        handlers.submit(generation_db, credits_service, narrow, a_trial(variants=4, quote_id="quo_1"))

    assert credits_service.quotes_taken == []


def test_a_dry_run_tells_what_a_live_key_would_pay_and_asks_for_no_balance(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    answer = handlers.submit(generation_db, credits_service, engine, a_trial(variants=3, dry_run=True))

    line = {"sku": "staging.variant", "unit": "credits", "count": 3, "unit_amount": 10, "amount": 30}
    assert (answer["amount"], answer["totals"], answer["lines"]) == (30, {"credits": 30}, [line])
    assert (answer["balance"], answer["shortfall"]) == (None, None)
    assert credits_service.calls == []
    assert counted(generation_db) == [0, 0, 0, 0]


def test_a_dry_run_with_a_quote_has_its_prices_and_leaves_it(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    answer = handlers.submit(generation_db, credits_service, engine, a_trial(dry_run=True, quote_id="quo_1"))

    assert answer["amount"] == 70
    assert [request["dry_run"] for request in credits_service.quotes_taken] == [True]


# --- who sees it


@pytest.mark.parametrize("livemode", [True, False])
def test_a_mode_sees_nothing_of_the_other_even_without_a_where(
    generation_db: Database, engine: Engine, *, livemode: bool
) -> None:
    org_id = new_id("org")
    submitted(generation_db, engine, variants=1, org_id=org_id, livemode=livemode)
    adopt(generation_db, engine, *begun(generation_db, claim(generation_db)))

    assert counted(generation_db, org_id=org_id, livemode=livemode) == [1, 1, 1, 1]
    assert counted(generation_db, org_id=org_id, livemode=not livemode) == [0, 0, 0, 0]
    assert counted(generation_db, org_id=org_id) == [0, 0, 0, 0]


@pytest.mark.parametrize("livemode", [True, False])
def test_the_id_of_a_job_of_the_other_mode_leads_nowhere(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, *, livemode: bool
) -> None:
    first = a_submission(livemode=livemode)
    handlers.submit(generation_db, credits_service, engine, first)
    before = len(published(generation_db))

    with pytest.raises(NotFound):
        handlers.submit(generation_db, credits_service, engine, replace(first, livemode=not livemode))

    with generation_db.transaction() as session:
        assert session.get_one(Job, first.job_id).livemode is livemode
    assert len(published(generation_db)) == before


def test_a_page_of_one_mode_is_filled_with_its_own(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    made = {
        mode: [submitted(generation_db, engine, org_id=org_id, livemode=mode) for _ in range(2)]
        for mode in (True, False)
    }

    for mode, job_ids in made.items():
        with generation_db.transaction(org_id=org_id, livemode=mode) as session:
            first = queries.jobs(session, org_id=org_id, livemode=mode, limit=1)
            rest = queries.jobs(session, org_id=org_id, livemode=mode, limit=1, after=first["next_cursor"])
        assert [job["id"] for job in first["data"] + rest["data"]] == job_ids[::-1]
        assert (first["has_more"], rest["has_more"]) == (True, False)
