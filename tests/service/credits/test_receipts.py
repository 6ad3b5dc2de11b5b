"""The receipt of a job: what was held, what became of it, and that it adds up whatever happened."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.credits import accounts, history, ledger, queries, quotes, receipts
from services.credits.movements import Outcome, Reserved
from shared.database import Database
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, NotFound
from tests.builders import (
    BASE_VIEWS,
    VARIANT,
    HeldJob,
    captured,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    job_finished,
)
from tests.service.credits.ledger_steps import (
    ask,
    balance,
    deliver,
    give,
    held_at,
    request,
    returned_at,
    rows,
    settled_at,
)

IMAGE = "studio.image"  # 1 plan generation
PARTS = ("charged", "refunded", "returned", "open")
NOW = datetime.now(UTC)


def receipt(db: Database, job: HeldJob, *, org_id: str | None = None, **page: Any) -> dict[str, Any]:
    org_id = org_id or job.org_id
    with db.transaction(org_id=org_id) as session:
        return receipts.receipt(session, org_id=org_id, job_id=job.job_id, **page)


def lines(db: Database, job: HeldJob) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = receipt(db, job, limit=200)["lines"]["data"]
    return found


def assert_adds_up(shown: dict[str, Any]) -> None:
    """All lines of the receipt must be on its page."""
    data = shown["lines"]["data"]
    for line in data:
        assert line["held"] == sum(line[part] for part in PARTS)
        assert line["charged"] + line["open"] == sum(part["amount"] for part in line["grants"])
    assert set(shown["totals"]) == {line["unit"] for line in data}
    for unit, total in shown["totals"].items():
        assert total["held"] == sum(total[part] for part in PARTS)
        for name in ("held", *PARTS):
            assert total[name] == sum(line[name] for line in data if line["unit"] == unit)
        given_back = [item for item in shown["discounts"] + shown["refunds"] if item["unit"] == unit]
        assert total["refunded"] == sum(item["amount"] for item in given_back)
        assert total["returned"] == sum(item["amount"] for item in shown["returns"] if item["unit"] == unit)


@pytest.fixture
def job(credits_db: Database) -> HeldJob:
    """A job of which one line was charged, one cached in part, one failed, one was given back, and one is open."""
    org_id = given_account(credits_db, plan="free")
    held = given_held_job(credits_db, org_id, VARIANT, BASE_VIEWS, VARIANT, VARIANT, VARIANT, IMAGE)
    charged, cached, failed, returned, *_ = held.line_ids
    deliver(credits_db, generation_completed(held, line_id=charged))
    deliver(credits_db, generation_completed(held, line_id=cached, amount=1))
    deliver(credits_db, generation_failed(held, line_id=failed, reason="timed_out"))
    deliver(credits_db, generation_completed(held, line_id=returned))
    returned_at(credits_db, held, line_id=returned, now=NOW)
    return held


def test_a_receipt_says_of_each_line_what_became_of_it(credits_db: Database, job: HeldJob) -> None:
    shown = {line["generation_id"]: line for line in lines(credits_db, job)}

    found = [tuple(shown[line_id][name] for name in ("held", *PARTS)) for line_id in job.line_ids]
    assert found == [
        (10, 10, 0, 0, 0),
        (3, 1, 2, 0, 0),
        (10, 0, 10, 0, 0),
        (10, 0, 0, 10, 0),
        (10, 0, 0, 0, 10),
        (1, 0, 0, 0, 1),
    ]
    statuses = [shown[line_id]["status"] for line_id in job.line_ids]
    assert statuses == ["captured", "captured", "refunded", "captured", "held", "held"]
    assert [shown[line_id]["reason"] for line_id in job.line_ids[:4]] == [None, "cache_hit", "timed_out", None]
    assert shown[job.line_ids[3]]["return_reason"] == "blurred"
    assert (shown[job.line_ids[0]]["settled_at"] or "").endswith("Z")
    assert shown[job.line_ids[4]]["settled_at"] is None


def test_a_receipt_adds_up_in_every_line_and_in_every_sum(credits_db: Database, job: HeldJob) -> None:
    shown = receipt(credits_db, job)

    assert_adds_up(shown)
    assert shown["totals"] == {
        "credits": {"held": 43, "charged": 11, "refunded": 12, "returned": 10, "open": 10},
        "plan_generations": {"held": 1, "charged": 0, "refunded": 0, "returned": 0, "open": 1},
    }


def test_a_receipt_tells_discounts_refunds_and_returns_apart(credits_db: Database, job: HeldJob) -> None:
    shown = receipt(credits_db, job)

    assert shown["discounts"] == [{"reason": "cache_hit", "unit": "credits", "amount": 2, "lines": 1}]
    assert shown["refunds"] == [{"reason": "timed_out", "unit": "credits", "amount": 10, "lines": 1}]
    assert shown["returns"] == [{"reason": "blurred", "unit": "credits", "amount": 10, "lines": 1}]


def test_a_result_that_was_cached_as_a_whole_is_a_discount_of_all_of_it(credits_db: Database) -> None:
    job = given_held_job(credits_db, given_account(credits_db), VARIANT, VARIANT)
    deliver(credits_db, *(generation_completed(job, line_id=line_id, amount=0) for line_id in job.line_ids))

    shown = receipt(credits_db, job)

    assert shown["discounts"] == [{"reason": "cache_hit", "unit": "credits", "amount": 20, "lines": 2}]
    assert (shown["refunds"], shown["totals"]["credits"]["charged"]) == ([], 0)


def test_a_receipt_counts_refunds_by_their_reason(credits_db: Database) -> None:
    job = given_held_job(credits_db, given_account(credits_db), VARIANT, VARIANT, BASE_VIEWS)
    first, second, third = job.line_ids
    deliver(credits_db, generation_failed(job, line_id=first), generation_failed(job, line_id=third))
    deliver(credits_db, generation_failed(job, line_id=second, reason="cancelled"))

    assert receipt(credits_db, job)["refunds"] == [
        {"reason": "cancelled", "unit": "credits", "amount": 10, "lines": 1},
        {"reason": "provider_error", "unit": "credits", "amount": 13, "lines": 2},
    ]


def test_a_receipt_names_its_quote_its_workflow_and_the_versions_of_its_prices(credits_db: Database) -> None:
    org_id = given_account(credits_db)
    quote = quotes.quote(
        credits_db,
        org_id=org_id,
        livemode=True,
        quote_id=new_id("quo"),
        workflow="staging",
        fingerprint="abc",
        skus={VARIANT: 2},
        images=2,
        estimated_seconds=60,
    )
    asked = request(org_id, VARIANT, VARIANT, quote_id=quote["id"], fingerprint="abc", workflow="staging")
    (outcome,) = ask(credits_db, asked)

    shown = receipt(credits_db, HeldJob(job_id=asked.job_id, org_id=org_id, line_ids=[]))

    assert isinstance(outcome, Reserved)
    assert (shown["reservation_id"], shown["quote_id"], shown["workflow"]) == (
        outcome.reservation_id,
        quote["id"],
        "staging",
    )
    assert shown["priced_at"] == quote["created_at"]
    assert {line["price_version"] for line in shown["lines"]["data"]} == {quote["lines"][0]["price_version"]}


def test_a_receipt_keeps_the_price_that_was_held_when_prices_change(
    credits_db: Database, tamper: Callable[..., None]
) -> None:
    job = given_held_job(credits_db, given_account(credits_db), VARIANT)
    before = lines(credits_db, job)
    tamper(
        "INSERT INTO price_book (sku, product, unit, amount, valid_from)"
        f" VALUES ('{VARIANT}', 'staging', 'credits', 12, now())"
    )
    dearer = given_held_job(credits_db, job.org_id, VARIANT)

    after, (new,) = lines(credits_db, job), lines(credits_db, dearer)

    assert after == before
    assert (before[0]["held"], new["held"]) == (10, 12)
    assert new["price_version"] > before[0]["price_version"]


def test_a_line_names_the_grants_it_takes_from_in_the_order_of_spending(credits_db: Database) -> None:
    org_id = given_account(credits_db, balance=20)
    give(credits_db, org_id, 4, f"{org_id}/gift", kind="promotional", days=10)
    job = given_held_job(credits_db, org_id, VARIANT, VARIANT)
    first = {"grant_id": f"{org_id}/gift", "kind": "promotional", "amount": 4}

    (held, _) = lines(credits_db, job)
    settled_at(credits_db, job, held["generation_id"], amount=6, now=NOW)
    (partly, _) = lines(credits_db, job)
    returned_at(credits_db, job, line_id=held["generation_id"], now=NOW)
    (returned, _) = lines(credits_db, job)

    opening = {"grant_id": f"{org_id}/opening", "kind": "promotional"}
    assert held["grants"] == [first, {**opening, "amount": 6}]
    assert partly["grants"] == [first, {**opening, "amount": 2}]
    assert returned["grants"] == []


def test_a_receipt_comes_in_pages_and_its_sums_are_those_of_all_lines(credits_db: Database) -> None:
    job = given_held_job(credits_db, given_account(credits_db, balance=1000), *[VARIANT] * 7)
    whole = lines(credits_db, job)

    collected, cursor, more = [], None, True
    while more:
        shown = receipt(credits_db, job, limit=3, after=cursor)
        assert shown["totals"]["credits"]["held"] == 70
        collected += shown["lines"]["data"]
        cursor, more = shown["lines"]["next_cursor"], shown["lines"]["has_more"]

    assert collected == whole
    assert [line["generation_id"] for line in whole] == sorted(job.line_ids)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 201}, {"after": "gen_unknown"}])
def test_a_page_of_a_receipt_that_cannot_be_is_refused(
    credits_db: Database, job: HeldJob, wrong: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest):
        receipt(credits_db, job, **wrong)


def test_a_receipt_says_when_nothing_can_be_added_any_more(credits_db: Database) -> None:
    job = given_held_job(credits_db, given_account(credits_db), VARIANT)
    before = receipt(credits_db, job)
    deliver(credits_db, job_finished(job, captured(job.line_ids[0])))

    after = receipt(credits_db, job)

    assert (before["closed"], after["closed"]) == (False, True)
    assert before["held_at"] == after["held_at"] == after["lines"]["data"][0]["held_at"]


def test_a_job_that_ended_before_anything_was_held_has_a_receipt_of_nothing(credits_db: Database) -> None:
    job = HeldJob(job_id=new_id("job"), org_id=given_account(credits_db), line_ids=[])
    deliver(credits_db, job_finished(job, status="cancelled"))

    assert receipt(credits_db, job) == {
        "job_id": job.job_id,
        "reservation_id": None,
        "workflow": None,
        "quote_id": None,
        "priced_at": None,
        "held_at": None,
        "closed": True,
        "totals": {},
        "discounts": [],
        "refunds": [],
        "returns": [],
        "lines": {"data": [], "has_more": False, "next_cursor": None},
    }


def test_the_receipt_of_an_unknown_job_or_of_another_organizations_is_not_found(
    credits_db: Database, job: HeldJob
) -> None:
    stranger = given_account(credits_db)

    with pytest.raises(NotFound):
        receipt(credits_db, HeldJob(job_id="job_unknown", org_id=job.org_id, line_ids=[]))
    with pytest.raises(NotFound):
        receipt(credits_db, job, org_id=stranger)


class Story:
    """An organization to which anything may happen, in any order, while days pass."""

    def __init__(self, db: Database, credits_at_first: int) -> None:
        self.db = db
        self.org_id = given_account(db, balance=credits_at_first, plan="free")
        self.now = datetime.now(UTC)
        self.jobs: list[HeldJob] = []

    def hold(self, skus: list[str]) -> None:
        asked = request(self.org_id, *skus, partial=True)
        (outcome,) = ask(self.db, asked, now=self.now)
        if isinstance(outcome, Reserved):
            line_ids = [line.line_id for line in outcome.lines]
            self.jobs.append(HeldJob(job_id=asked.job_id, org_id=self.org_id, line_ids=line_ids))

    def settle(self, number: int, amount: int) -> None:
        outcomes = [
            Outcome(
                job_id=job.job_id,
                line_id=line_id,
                org_id=self.org_id,
                amount=amount,
                reason="cache_hit" if amount else "provider_error",
            )
            for job in self.jobs[-1:]
            for line_id in job.line_ids[number : number + 1]
        ]
        with self.db.transaction() as session:
            ledger.settle(session, outcomes, now=self.now)

    def give_back(self, number: int) -> None:
        if self.jobs:
            with suppress(Conflict):
                returned_at(self.db, self.jobs[number % len(self.jobs)], now=self.now)

    def grant(self, amount: int, days: int | None) -> None:
        give(self.db, self.org_id, amount, new_id("grt"), days=days)

    def adjust(self, amount: int) -> None:
        with suppress(Conflict):
            accounts.adjust(
                self.db,
                adjustment_id=new_id("adj"),
                org_id=self.org_id,
                amount=amount,
                reason="a correction",
                actor="admin Ada",
            )

    def change_plan(self, plan: str) -> None:
        with self.db.transaction() as session:
            ledger.change_plan(session, org_id=self.org_id, plan=plan, actor="Una", now=self.now)

    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)
        accounts.expire_grants(self.db, now=self.now)


def steps() -> st.SearchStrategy[tuple[Any, ...]]:
    few = st.integers(0, 2)
    return st.one_of(
        st.tuples(st.just("hold"), st.lists(st.sampled_from([VARIANT, BASE_VIEWS, IMAGE]), min_size=1, max_size=4)),
        st.tuples(st.just("settle"), few, st.sampled_from([0, 1, 10])),
        st.tuples(st.just("give_back"), few),
        st.tuples(st.just("grant"), st.integers(1, 30), st.sampled_from([None, 1, 20])),
        st.tuples(st.just("adjust"), st.sampled_from([-7, 5])),
        st.tuples(st.just("change_plan"), st.sampled_from(["free", "pro"])),
        st.tuples(st.just("wait"), st.integers(1, 25)),
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credits_at_first=st.integers(1, 60), told=st.lists(steps(), min_size=4, max_size=16))
def test_whatever_happens_history_and_receipts_add_up(
    credits_db: Database, credits_at_first: int, told: list[tuple[Any, ...]]
) -> None:
    story = Story(credits_db, credits_at_first)

    for step, *arguments in told:
        getattr(story, step)(*arguments)

    shown = [receipt(credits_db, job, limit=200) for job in story.jobs]
    for each in shown:
        assert_adds_up(each)
    for unit in ("credits", "plan_generations"):
        available, held = wallet(credits_db, story.org_id, unit)
        entries = [entry for entry in whole_history(credits_db, story.org_id) if entry["unit"] == unit]
        assert sum(entry["amount"] for entry in entries) == available
        assert sum(entry["held"] for entry in entries) == held
        assert sum(each["totals"].get(unit, {"open": 0})["open"] for each in shown) == held
    with credits_db.transaction(org_id=story.org_id) as session:
        counted = queries.balance(session, org_id=story.org_id)
    charged = sum(each["totals"].get("credits", {"charged": 0})["charged"] for each in shown)
    assert counted["counters"]["credits_spent"] == charged
    assert (counted["available"], counted["held"]) == balance(credits_db, story.org_id)[:2]


def wallet(db: Database, org_id: str, unit: str) -> tuple[int, int]:
    """Return what the accounts of a unit hold: available, held."""
    ((available, held),) = rows(
        db,
        "SELECT sum(available) FILTER (WHERE kind = 'wallet'), sum(held_total) - sum(captured_total) FROM accounts"
        " WHERE org_id = :org AND unit = :unit",
        org=org_id,
        unit=unit,
    )
    return available, held


def whole_history(db: Database, org_id: str) -> list[dict[str, Any]]:
    collected: list[dict[str, Any]] = []
    cursor, more = None, True
    while more:
        with db.transaction(org_id=org_id) as session:
            page = history.entries(session, org_id=org_id, limit=200, after=cursor)
        collected += page["data"]
        cursor, more = page["next_cursor"], page["has_more"]
    return collected


def test_a_line_held_at_a_moment_says_so(credits_db: Database) -> None:
    moment = datetime(2031, 5, 1, 12, tzinfo=UTC)
    job = held_at(credits_db, given_account(credits_db), VARIANT, now=moment)

    assert receipt(credits_db, job)["held_at"] == "2031-05-01T12:00:00.000Z"
