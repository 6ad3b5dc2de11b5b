"""What test keys ask for: no hold, no entry, no count; and quotes of their own, which are tried out and never paid."""

from collections.abc import Callable
from typing import Any

import pytest

from services.credits import handlers, quotes
from services.credits.service import Credits
from shared.database import Database
from shared.ids import new_id
from shared.problems import Conflict, NotFound, QuoteExpired, QuoteMismatch, QuoteUsed, UnknownSku
from tests.builders import (
    STUDIO_IMAGE,
    VARIANT,
    HeldJob,
    generation_completed,
    generation_failed,
    given_account,
    hold,
    job_finished,
)
from tests.service.credits.ledger_steps import all_at_once, balance, change, deliver, rows, told, violations

TABLES = ("accounts", "entries", "reservations", "lines", "grants", "daily_usage", "quotes")


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=100)


def contents(db: Database) -> list[Any]:
    return [rows(db, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]


def test_how_test_work_ends_changes_nothing_here(credits_db: Database, org: str) -> None:
    job = HeldJob(job_id=new_id("job"), org_id=org, line_ids=[new_id("gen"), new_id("gen")])
    before = contents(credits_db), told(credits_db)

    deliver(
        credits_db,
        generation_completed(job, livemode=False, line_id=None, amount=0, provider_cost_microusd=7),
        generation_failed(job, livemode=False, line_id=None, provider_cost_microusd=7),
        job_finished(job, livemode=False),
    )

    assert (contents(credits_db), told(credits_db)) == before
    assert violations(credits_db) == []


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_of_test_work_is_given_back(credits_db: Database, org: str, *, whole: bool) -> None:
    job = HeldJob(job_id=new_id("job"), org_id=org, line_ids=[new_id("gen")])
    deliver(
        credits_db, generation_completed(job, livemode=False, line_id=None, amount=0), job_finished(job, livemode=False)
    )
    before = contents(credits_db)

    with pytest.raises(NotFound):
        handlers.refund(
            credits_db,
            job_id=job.job_id,
            generation_id=None if whole else job.line_ids[0],
            reason="It was a test.",
            actor="admin:Ada",
        )

    assert contents(credits_db) == before


def test_beside_test_work_live_work_is_paid_for_and_counted(credits_db: Database, org: str) -> None:
    answer = hold(credits_db, org, VARIANT, job_id="job_live", line_ids=["gen_live"])
    live = HeldJob(job_id="job_live", org_id=org, line_ids=["gen_live"])
    test = HeldJob(job_id="job_test", org_id=org, line_ids=["gen_test"])

    deliver(credits_db, generation_completed(test, livemode=False, line_id=None), generation_completed(live))

    assert answer["held"] == 10
    assert balance(credits_db, org)[:2] == (90, 0)
    assert rows(credits_db, "SELECT generations, credits FROM daily_usage") == [(1, 10)]


# --- quotes


def quote(db: Database, org_id: str, *, livemode: bool = False, **fields: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"quote_id": new_id("quo"), "workflow": "staging", "fingerprint": "sha_1"}
    plan = {"skus": {VARIANT: 2}, "images": 2, "estimated_seconds": 60}
    return quotes.quote(db, org_id=org_id, livemode=livemode, **{**known, **plan, **fields})


def take(db: Database, org_id: str, quoted: dict[str, Any], **asked: Any) -> dict[str, Any]:
    known = {"org_id": org_id, "quote_id": quoted["id"], "job_id": "job_1", "fingerprint": "sha_1"}
    return quotes.take_for_test(db, **{**known, **asked})


def expire(db: Database, quoted: dict[str, Any]) -> None:
    change(
        db, "UPDATE quotes SET created_at = created_at - interval '1 h', expires_at = now() WHERE id = :id", **quoted
    )


def test_a_test_key_is_quoted_what_a_live_one_would_be(credits_db: Database, org: str) -> None:
    test, live = quote(credits_db, org), quote(credits_db, org, livemode=True)

    assert (test["livemode"], live["livemode"]) == (False, True)
    assert (test["amount"], test["lines"]) == (20, live["lines"])


def test_a_quote_is_used_up_by_one_job_and_costs_it_nothing(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    taken = [take(credits_db, org, quoted) for _ in range(2)]

    assert taken == [quoted] * 2
    with pytest.raises(QuoteUsed):
        take(credits_db, org, quoted, job_id="job_2")
    assert balance(credits_db, org) == (100, 0, 1)
    assert rows(credits_db, "SELECT * FROM reservations") == []


def test_of_many_jobs_at_once_one_has_the_quote(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    def attempt(number: int) -> Callable[[], str]:
        def ask() -> str:
            try:
                take(credits_db, org, quoted, job_id=f"job_{number}")
            except QuoteUsed:
                return "used"
            return "taken"

        return ask

    assert sorted(all_at_once(*[attempt(number) for number in range(6)])) == ["taken"] + ["used"] * 5


def test_a_quote_that_is_only_tried_stays_good(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    assert take(credits_db, org, quoted, dry_run=True) == quoted
    assert take(credits_db, org, quoted, job_id="job_2") == quoted


def test_a_quote_is_no_good_for_other_inputs(credits_db: Database, org: str) -> None:
    with pytest.raises(QuoteMismatch):
        take(credits_db, org, quote(credits_db, org), fingerprint="sha_2")


def test_a_quote_that_has_expired_serves_only_the_job_that_has_it(credits_db: Database, org: str) -> None:
    used, unused = quote(credits_db, org), quote(credits_db, org)
    take(credits_db, org, used)
    for quoted in (used, unused):
        expire(credits_db, quoted)

    assert take(credits_db, org, used)["id"] == used["id"]
    with pytest.raises(QuoteExpired):
        take(credits_db, org, unused, job_id="job_2")


@pytest.mark.parametrize("stranger", [True, False])
def test_a_quote_of_another_is_not_there(credits_db: Database, org: str, *, stranger: bool) -> None:
    quoted = quote(credits_db, org, livemode=not stranger)
    asker = given_account(credits_db) if stranger else org

    with pytest.raises(NotFound):
        take(credits_db, asker, quoted)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_live_job_cannot_have_a_test_keys_quote(credits_db: Database, org: str, *, dry_run: bool) -> None:
    quoted = quote(credits_db, org)

    with pytest.raises(NotFound, match="quote"):
        hold(credits_db, org, VARIANT, job_id="job_1", quote_id=quoted["id"], fingerprint="sha_1", dry_run=dry_run)

    assert balance(credits_db, org) == (100, 0, 1)
    assert take(credits_db, org, quoted)


def test_the_id_of_a_quote_serves_one_mode(credits_db: Database, org: str) -> None:
    quote(credits_db, org, quote_id="quo_1")

    with pytest.raises(Conflict):
        quote(credits_db, org, quote_id="quo_1", livemode=True)


def test_prices_are_told_without_a_promise(credits_db: Database) -> None:
    service = Credits()
    service.db = credits_db

    lines = service.prices(skus={VARIANT: 3, STUDIO_IMAGE: 2})["lines"]

    assert [(line["sku"], line["unit"], line["count"], line["amount"]) for line in lines] == [
        (VARIANT, "credits", 3, 30),
        (STUDIO_IMAGE, "plan_generations", 2, 2),
    ]
    assert rows(credits_db, "SELECT * FROM quotes") == []
    with pytest.raises(UnknownSku):
        service.prices(skus={"teleportation.image": 1})
