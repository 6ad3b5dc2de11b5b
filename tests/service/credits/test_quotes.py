"""Quotes: a price promised to one job for 15 minutes, kept whatever happens to the price book."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.credits import quotes
from services.credits.movements import Reserved, UnknownSku
from shared.database import Database
from shared.ids import new_id
from shared.problems import Conflict, InsufficientCredits, NotFound, QuoteExpired, QuoteMismatch, QuoteUsed
from tests.builders import ANALYSIS, BASE_VIEWS, STUDIO_IMAGE, VARIANT, given_account, given_held_job, hold
from tests.service.credits.ledger_steps import (
    all_at_once,
    ask,
    balance,
    change,
    give,
    request,
    rows,
    violations,
)

LINES = ["gen_0", "gen_1"]


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=100)


def quote(db: Database, org_id: str, skus: dict[str, int] | None = None, **fields: Any) -> dict[str, Any]:
    """Quote two staged variants unless said."""
    known: dict[str, Any] = {"quote_id": new_id("quo"), "workflow": "staging", "fingerprint": "sha_1", "livemode": True}
    return quotes.quote(
        db, org_id=org_id, skus=skus or {VARIANT: 2}, images=2, estimated_seconds=40, **{**known, **fields}
    )


def take(db: Database, org_id: str, quoted: dict[str, Any] | str, *skus: str, **asked: Any) -> dict[str, Any]:
    """Hold the two lines of the quote unless said."""
    skus = skus or (VARIANT, VARIANT)
    quote_id = quoted if isinstance(quoted, str) else quoted["id"]
    line_ids = [f"gen_{number}" for number in range(len(skus))]
    known = {"job_id": "job_1", "fingerprint": "sha_1", "line_ids": line_ids}
    return hold(db, org_id, *skus, quote_id=quote_id, **{**known, **asked})


def age(db: Database, quoted: dict[str, Any], **by: float) -> None:
    """Make a quote so much older."""
    change(
        db,
        "UPDATE quotes SET created_at = created_at - CAST(:by AS interval),"
        " expires_at = expires_at - CAST(:by AS interval) WHERE id = :id",
        id=quoted["id"],
        by=timedelta(**by),
    )


def set_price(tamper: Callable[..., None], sku: str, amount: int) -> None:
    """Let another price be in force from now on."""
    tamper(
        "INSERT INTO price_book (sku, product, unit, amount, valid_from)"
        f" VALUES ('{sku}', split_part('{sku}', '.', 1), 'credits', {amount}, clock_timestamp())"
    )


def taken_by(db: Database, quoted: dict[str, Any]) -> str | None:
    return rows(db, "SELECT job_id FROM quotes WHERE id = :id", id=quoted["id"])[0].job_id


def test_a_quote_lists_what_each_line_costs_and_is_good_for_15_minutes(credits_db: Database, org: str) -> None:
    answer = quote(credits_db, org, {VARIANT: 2, BASE_VIEWS: 3, ANALYSIS: 1, STUDIO_IMAGE: 5})

    lines = [
        {name: line[name] for name in ("sku", "unit", "count", "unit_amount", "amount")} for line in answer["lines"]
    ]
    assert lines == [
        {"sku": VARIANT, "unit": "credits", "count": 2, "unit_amount": 10, "amount": 20},
        {"sku": BASE_VIEWS, "unit": "credits", "count": 3, "unit_amount": 3, "amount": 9},
        {"sku": ANALYSIS, "unit": "credits", "count": 1, "unit_amount": 0, "amount": 0},
        {"sku": STUDIO_IMAGE, "unit": "plan_generations", "count": 5, "unit_amount": 1, "amount": 5},
    ]
    assert answer["totals"] == {"credits": 29, "plan_generations": 5}
    assert (answer["workflow"], answer["images"], answer["estimated_seconds"]) == ("staging", 2, 40)
    times = [datetime.fromisoformat(answer[name]) for name in ("created_at", "expires_at")]
    assert times[1] - times[0] == timedelta(minutes=15)


def test_a_quote_holds_nothing(credits_db: Database, org: str) -> None:
    quote(credits_db, org)

    assert balance(credits_db, org) == (100, 0, 1)


def test_the_same_quote_again_is_the_same_whatever_prices_do(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    first = quote(credits_db, org, quote_id="quo_1")
    set_price(tamper, VARIANT, 12)

    assert quote(credits_db, org, quote_id="quo_1") == first
    assert quote(credits_db, org, quote_id="quo_2")["amount"] == 24


def test_a_quote_asked_for_ten_times_at_once_is_one(credits_db: Database, org: str) -> None:
    answers = all_at_once(*[lambda: quote(credits_db, org, quote_id="quo_1")] * 10)

    assert answers == [answers[0]] * 10
    assert rows(credits_db, "SELECT count(*) FROM quotes") == [(1,)]


def test_the_id_of_a_quote_serves_no_other_quote(credits_db: Database, org: str) -> None:
    quote(credits_db, org, quote_id="quo_1")

    with pytest.raises(Conflict):
        quote(credits_db, org, quote_id="quo_1", fingerprint="sha_other")
    with pytest.raises(Conflict):
        quote(credits_db, given_account(credits_db), quote_id="quo_1")


def test_what_has_no_price_is_not_quoted(credits_db: Database, org: str) -> None:
    with pytest.raises(UnknownSku, match=r"teleportation\.image"):
        quote(credits_db, org, {VARIANT: 1, "teleportation.image": 1})

    assert rows(credits_db, "SELECT * FROM quotes") == []


@pytest.mark.parametrize("new_price", [12, 1])
def test_a_job_costs_what_was_quoted_though_the_price_has_changed(
    credits_db: Database, org: str, tamper: Callable[..., None], new_price: int
) -> None:
    quoted = quote(credits_db, org)
    set_price(tamper, VARIANT, new_price)

    answer = take(credits_db, org, quoted)

    assert sum(line["amount"] for line in answer["lines"]) == quoted["amount"] == 20
    assert balance(credits_db, org)[:2] == (80, 20)
    versions = rows(credits_db, "SELECT DISTINCT price_version FROM lines")
    assert [row.price_version for row in versions] == [quoted["lines"][0]["price_version"]]
    assert violations(credits_db) == []


def test_lines_added_later_to_a_quoted_job_have_the_quoted_price_too(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    quoted = quote(credits_db, org)
    take(credits_db, org, quoted, VARIANT)
    set_price(tamper, VARIANT, 12)

    take(credits_db, org, quoted)

    assert balance(credits_db, org)[:2] == (80, 20)
    assert violations(credits_db) == []


def test_a_free_line_of_a_quote_stays_free(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    quoted = quote(credits_db, org, {ANALYSIS: 1})
    set_price(tamper, ANALYSIS, 5)

    answer = take(credits_db, org, quoted, ANALYSIS)

    assert [(line["unit"], line["amount"]) for line in answer["lines"]] == [("credits", 0)]
    assert balance(credits_db, org)[:2] == (100, 0)


def test_a_quote_is_good_for_a_job_accepted_in_time_though_held_later(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)
    age(credits_db, quoted, minutes=20)

    answer = take(credits_db, org, quoted, accepted_at=(datetime.now(UTC) - timedelta(minutes=6)).isoformat())

    assert (answer["available"], answer["held"]) == (80, 20)
    assert violations(credits_db) == []


@pytest.mark.parametrize("accepted", [{"minutes": 4}, {"seconds": 0}, None])
def test_a_quote_that_had_expired_when_the_job_was_accepted_is_refused(
    credits_db: Database, org: str, accepted: dict[str, float] | None
) -> None:
    quoted = quote(credits_db, org)
    age(credits_db, quoted, minutes=20)
    when = {} if accepted is None else {"accepted_at": (datetime.now(UTC) - timedelta(**accepted)).isoformat()}

    with pytest.raises(QuoteExpired):
        take(credits_db, org, quoted, **when)

    assert balance(credits_db, org)[:2] == (100, 0)
    assert taken_by(credits_db, quoted) is None


def test_a_quote_is_good_for_one_job(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)
    take(credits_db, org, quoted)

    with pytest.raises(QuoteUsed):
        take(credits_db, org, quoted, job_id="job_2")

    assert balance(credits_db, org)[:2] == (80, 20)
    assert taken_by(credits_db, quoted) == "job_1"


def test_of_ten_jobs_that_take_one_quote_at_once_one_gets_it(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    answers = all_at_once(
        *[lambda number=number: take(credits_db, org, quoted, job_id=f"job_{number}") for number in range(10)]
    )

    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert {type(answer) for answer in answers} == {dict, QuoteUsed}
    assert balance(credits_db, org)[:2] == (80, 20)
    assert violations(credits_db) == []


def test_the_same_job_may_ask_again_even_when_the_quote_has_expired(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)
    first = take(credits_db, org, quoted)
    age(credits_db, quoted, minutes=20)

    again = all_at_once(*[lambda: take(credits_db, org, quoted)] * 5)
    without_naming_it = hold(credits_db, org, VARIANT, VARIANT, job_id="job_1", line_ids=LINES)

    assert [*again, without_naming_it] == [first] * 6
    assert balance(credits_db, org)[:2] == (80, 20)


def test_the_quote_of_another_organization_is_not_found(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, given_account(credits_db))

    for unknown in (quoted, "quo_none"):
        with pytest.raises(NotFound):
            take(credits_db, org, unknown)

    assert taken_by(credits_db, quoted) is None
    assert rows(credits_db, "SELECT * FROM reservations") == []


@pytest.mark.parametrize("fingerprint", ["sha_other", None])
def test_a_quote_is_for_the_inputs_it_was_made_for(credits_db: Database, org: str, fingerprint: str | None) -> None:
    quoted = quote(credits_db, org)

    with pytest.raises(QuoteMismatch):
        take(credits_db, org, quoted, fingerprint=fingerprint)

    assert balance(credits_db, org)[:2] == (100, 0)
    assert taken_by(credits_db, quoted) is None


def test_a_job_never_costs_more_than_its_quote(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    with pytest.raises(QuoteMismatch):
        take(credits_db, org, quoted, VARIANT, VARIANT, VARIANT)
    take(credits_db, org, quoted)
    with pytest.raises(QuoteMismatch):
        take(credits_db, org, quoted, VARIANT, VARIANT, VARIANT)

    assert balance(credits_db, org)[:2] == (80, 20)
    assert violations(credits_db) == []


def test_a_job_that_costs_less_than_its_quote_pays_less(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    take(credits_db, org, quoted, VARIANT)

    assert balance(credits_db, org)[:2] == (90, 10)
    assert violations(credits_db) == []


def test_a_job_that_holds_already_takes_no_quote(credits_db: Database, org: str) -> None:
    job = given_held_job(credits_db, org)
    quoted = quote(credits_db, org)

    with pytest.raises(QuoteMismatch):
        take(credits_db, org, quoted, job_id=job.job_id)

    assert taken_by(credits_db, quoted) is None


def test_a_job_with_a_quote_takes_no_second_one(credits_db: Database, org: str) -> None:
    take(credits_db, org, quote(credits_db, org), VARIANT)
    second = quote(credits_db, org)

    with pytest.raises(QuoteMismatch):
        take(credits_db, org, second)

    assert taken_by(credits_db, second) is None


def test_a_refused_hold_does_not_use_the_quote_up(credits_db: Database) -> None:
    org = given_account(credits_db, balance=15)
    quoted = quote(credits_db, org)
    with pytest.raises(InsufficientCredits):
        take(credits_db, org, quoted)
    between = taken_by(credits_db, quoted)
    give(credits_db, org, 5, "grt_1")

    take(credits_db, org, quoted, job_id="job_2")

    assert (between, taken_by(credits_db, quoted)) == (None, "job_2")
    assert violations(credits_db) == []


def test_a_job_that_waits_keeps_its_quote_though_nothing_could_be_held(credits_db: Database) -> None:
    org = given_account(credits_db, balance=5)
    quoted = quote(credits_db, org)

    with pytest.raises(InsufficientCredits):
        take(credits_db, org, quoted, VARIANT, VARIANT, job_id="job_1", partial=True, waits=True)

    assert taken_by(credits_db, quoted) == "job_1"
    with pytest.raises(QuoteUsed):
        take(credits_db, org, quoted, VARIANT, VARIANT, job_id="job_2")
    give(credits_db, org, 100, "grt_later")
    assert take(credits_db, org, quoted, VARIANT, VARIANT, job_id="job_1", partial=True, waits=True)["held"] == 20


def test_of_requests_made_together_one_that_is_refused_leaves_the_quote_to_the_others(credits_db: Database) -> None:
    org = given_account(credits_db, balance=10)
    quoted = quote(credits_db, org)
    named = {"quote_id": quoted["id"], "fingerprint": "sha_1"}

    refused, held = ask(
        credits_db, request(org, VARIANT, VARIANT, **named), request(org, VARIANT, VARIANT, partial=True, **named)
    )

    assert isinstance(refused, InsufficientCredits)
    assert isinstance(held, Reserved)
    assert len(held.lines) == 1


def test_a_hold_in_part_takes_the_quote_and_the_rest_has_its_price(
    credits_db: Database, tamper: Callable[..., None]
) -> None:
    org = given_account(credits_db, balance=15)
    quoted = quote(credits_db, org)
    take(credits_db, org, quoted, partial=True)
    give(credits_db, org, 5, "grt_1")
    age(credits_db, quoted, minutes=20)
    set_price(tamper, VARIANT, 12)

    answer = take(credits_db, org, quoted, partial=True)

    assert (answer["available"], answer["held"], answer["shortfall"]) == (0, 20, None)
    assert violations(credits_db) == []


def test_a_hold_that_is_only_tried_does_not_use_the_quote_up(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org)

    tried = take(credits_db, org, quoted, dry_run=True)
    real = take(credits_db, org, quoted)

    assert {**tried, "reservation_id": None} == {**real, "reservation_id": None}


def test_a_job_that_is_free_of_charge_takes_its_quote_without_a_trace(credits_db: Database, org: str) -> None:
    quoted = quote(credits_db, org, {ANALYSIS: 2})

    first = take(credits_db, org, quoted, ANALYSIS, ANALYSIS)
    again = take(credits_db, org, quoted, ANALYSIS, ANALYSIS)

    assert quoted["amount"] == 0
    assert first == again
    assert (first["reservation_id"], first["available"]) == (None, 100)
    assert rows(credits_db, "SELECT * FROM reservations") == []
    assert violations(credits_db) == []


def test_old_quotes_nobody_took_are_forgotten_and_no_others(credits_db: Database, org: str) -> None:
    used, old, recent = (quote(credits_db, org) for _ in range(3))
    take(credits_db, org, used)
    age(credits_db, used, days=40)
    age(credits_db, old, days=31)
    age(credits_db, recent, days=29)

    assert quotes.prune(credits_db) == 1
    assert {row.id for row in rows(credits_db, "SELECT id FROM quotes")} == {used["id"], recent["id"]}
