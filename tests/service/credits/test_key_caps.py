"""Daily caps of API keys: what jobs asked for with a key hold, or were charged, of a day never passes its cap."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.credits import handlers
from services.credits.movements import Reserved
from shared.database import Database
from shared.problems import InsufficientCredits, KeyCapReached
from tests.builders import (
    ANALYSIS,
    STUDIO_IMAGE,
    VARIANT,
    HeldJob,
    captured,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    hold,
    job_finished,
)
from tests.service.credits.ledger_steps import (
    all_at_once,
    ask,
    at,
    balance,
    change,
    deliver,
    request,
    returned_at,
    rows,
    settled_at,
    violations,
)

CAP = {"cap_id": "key_1", "daily_cap": 50}


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=10_000)


def with_key(db: Database, org_id: str, *, lines: int = 1, sku: str = VARIANT, **asked: Any) -> HeldJob:
    """Hold so many lines, of 10 credits each, for a job that was asked for with a key of at most 50 a day."""
    job_id = asked.pop("job_id", None) or f"job_{rows(db, 'SELECT count(*) FROM lines')[0][0]}"
    line_ids = [f"gen_{number}" for number in range(lines)]
    answer = hold(db, org_id, *[sku] * lines, job_id=job_id, line_ids=line_ids, **{**CAP, **asked})
    return HeldJob(job_id=job_id, org_id=org_id, line_ids=[line["line_id"] for line in answer["lines"]])


def used(db: Database, org_id: str, *, now: datetime | None = None, **asked: Any) -> int:
    """Find out what is counted against the cap of a day, by asking for far too much."""
    asked = {**CAP, **asked}
    (refused,) = ask(db, request(org_id, *[VARIANT] * 100, **asked), now=now)
    assert isinstance(refused, KeyCapReached), refused
    assert refused.extra["limit"] == asked["daily_cap"]
    return int(refused.extra["used"])


def test_what_is_held_with_a_key_never_passes_its_cap(credits_db: Database, org: str) -> None:
    with_key(credits_db, org, lines=4)

    with pytest.raises(KeyCapReached):
        with_key(credits_db, org, lines=2, job_id="job_too_much")
    with_key(credits_db, org, job_id="job_fits")

    assert used(credits_db, org) == 50
    assert violations(credits_db) == []


def test_a_refusal_has_its_figures_and_leaves_no_trace(credits_db: Database, org: str) -> None:
    with_key(credits_db, org, lines=2)
    before = (rows(credits_db, "SELECT * FROM cap_usage"), rows(credits_db, "SELECT * FROM reservations"))

    with pytest.raises(KeyCapReached) as refused:
        with_key(credits_db, org, lines=5, job_id="job_too_much")

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (402, "key_cap_reached", True)
    assert refused.value.extra == {
        "unit": "credits",
        "limit": 50,
        "used": 20,
        "requested": 50,
        "max_affordable": 3,
        "resets_at": midnight.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert (rows(credits_db, "SELECT * FROM cap_usage"), rows(credits_db, "SELECT * FROM reservations")) == before
    assert balance(credits_db, org)[:2] == (9_980, 20)


def test_a_first_refusal_does_not_even_begin_to_count(credits_db: Database, org: str) -> None:
    with pytest.raises(KeyCapReached):
        with_key(credits_db, org, lines=6)

    assert rows(credits_db, "SELECT * FROM cap_usage") == []
    assert rows(credits_db, "SELECT * FROM reservations") == []


def test_of_a_hundred_requests_at_once_exactly_those_are_held_that_fit(credits_db: Database, org: str) -> None:
    cap = {"cap_id": "key_1", "daily_cap": 500}

    answers = all_at_once(*[lambda n=n: with_key(credits_db, org, job_id=f"job_{n}", **cap) for n in range(100)])

    assert sum(isinstance(answer, HeldJob) for answer in answers) == 50
    assert {type(answer) for answer in answers} == {HeldJob, KeyCapReached}
    assert used(credits_db, org, **cap) == 500
    assert len(rows(credits_db, "SELECT * FROM reservations")) == 50
    assert balance(credits_db, org)[:2] == (9_500, 500)
    assert violations(credits_db) == []


def test_holds_and_refunds_at_once_are_counted_to_the_last_credit(credits_db: Database, org: str) -> None:
    cap = {"cap_id": "key_1", "daily_cap": 200}
    jobs = [with_key(credits_db, org, job_id=f"first_{n}", **cap) for n in range(20)]
    calls = [lambda job=job: deliver(credits_db, generation_failed(job)) for job in jobs]
    calls += [lambda n=n: with_key(credits_db, org, job_id=f"second_{n}", **cap) for n in range(40)]

    answers = all_at_once(*calls)

    held = sum(isinstance(answer, HeldJob) for answer in answers)
    assert used(credits_db, org, **cap) == 10 * held <= 200
    assert violations(credits_db) == []


def test_a_failure_gives_its_credits_back_to_the_key(credits_db: Database, org: str) -> None:
    job = with_key(credits_db, org, lines=5)

    deliver(credits_db, generation_failed(job, line_id="gen_0"))

    assert used(credits_db, org) == 40
    with_key(credits_db, org, job_id="job_fits")
    assert violations(credits_db) == []


def test_a_result_stays_counted_but_for_what_the_cache_had_of_it(credits_db: Database, org: str) -> None:
    job = with_key(credits_db, org, lines=3)

    deliver(credits_db, generation_completed(job, line_id="gen_0"))
    deliver(credits_db, generation_completed(job, line_id="gen_1", amount=4))
    deliver(credits_db, generation_completed(job, line_id="gen_1", amount=4))

    assert used(credits_db, org) == 24
    assert violations(credits_db) == []


def test_a_job_that_ends_gives_back_what_it_did_not_use(credits_db: Database, org: str) -> None:
    job = with_key(credits_db, org, lines=3)

    deliver(credits_db, job_finished(job, captured("gen_0")), generation_failed(job, line_id="gen_1"))

    assert used(credits_db, org) == 20
    assert violations(credits_db) == []


def test_a_charge_that_was_given_back_is_counted_no_more(credits_db: Database, org: str) -> None:
    job = with_key(credits_db, org, lines=2)
    deliver(credits_db, *(generation_completed(job, line_id=line_id) for line_id in job.line_ids))

    for _ in range(2):
        handlers.refund(credits_db, job_id=job.job_id, generation_id="gen_0", reason="blurred", actor="admin Ada")

    assert used(credits_db, org) == 10
    assert violations(credits_db) == []


def test_a_day_begins_anew_at_midnight_utc(credits_db: Database, org: str) -> None:
    evening, morning = at("2031-03-30T23:59:59.999"), at("2031-03-31T00:00:00")
    (late,) = ask(credits_db, request(org, *[VARIANT] * 5, job_id="late", **CAP), now=evening)

    (early,) = ask(credits_db, request(org, *[VARIANT] * 2, job_id="early", **CAP), now=morning)

    assert (type(late), type(early)) == (Reserved, Reserved)
    assert (used(credits_db, org, now=evening), used(credits_db, org, now=morning)) == (50, 20)
    assert violations(credits_db, grace=timedelta(days=9_000)) == []


def test_what_comes_back_belongs_to_the_day_it_was_held(credits_db: Database, org: str) -> None:
    yesterday, today = at("2031-03-30T12:00:00"), at("2031-03-31T12:00:00")
    ask(credits_db, request(org, *[VARIANT] * 5, job_id="job_1", **CAP), now=yesterday)
    ask(credits_db, request(org, *[VARIANT] * 3, job_id="job_2", **CAP), now=today)
    job = HeldJob(job_id="job_1", org_id=org, line_ids=[f"gen_{number:03}" for number in range(5)])

    settled_at(credits_db, job, "gen_000", "gen_001", now=today)
    settled_at(credits_db, job, "gen_002", now=today, amount=10)
    returned_at(credits_db, job, line_id="gen_002", now=today)

    assert (used(credits_db, org, now=yesterday), used(credits_db, org, now=today)) == (20, 30)
    assert violations(credits_db, grace=timedelta(days=9_000)) == []


def test_lines_added_later_count_on_the_day_they_are_held(credits_db: Database, org: str) -> None:
    yesterday, today = at("2031-03-30T12:00:00"), at("2031-03-31T12:00:00")
    ask(credits_db, request(org, *[VARIANT] * 5, job_id="job_1", **CAP), now=yesterday)

    ask(credits_db, request(org, *[VARIANT] * 7, job_id="job_1", **{**CAP, "partial": True}), now=today)

    assert (used(credits_db, org, now=yesterday), used(credits_db, org, now=today)) == (50, 20)


def test_a_repeat_is_counted_once(credits_db: Database, org: str) -> None:
    first = with_key(credits_db, org, lines=5, job_id="job_1")
    again = with_key(credits_db, org, lines=5, job_id="job_1")

    assert first == again
    assert used(credits_db, org) == 50


def test_a_partial_request_is_held_up_to_the_cap(credits_db: Database, org: str) -> None:
    job = with_key(credits_db, org, lines=8, partial=True)

    assert job.line_ids == [f"gen_{number}" for number in range(5)]
    with pytest.raises(KeyCapReached):
        with_key(credits_db, org, lines=2, partial=True, job_id="job_none")
    assert violations(credits_db) == []


def test_a_partial_answer_says_why_lines_are_missing(credits_db: Database, org: str) -> None:
    answer = hold(credits_db, org, *[VARIANT] * 8, partial=True, **CAP)

    assert (answer["shortfall"]["code"], answer["shortfall"]["max_affordable"]) == ("key_cap_reached", 5)


def test_of_a_batch_each_request_leaves_less_to_the_next(credits_db: Database, org: str) -> None:
    requests = [request(org, VARIANT, VARIANT, **CAP) for _ in range(4)]

    answers = ask(credits_db, *requests)

    assert [type(answer) for answer in answers] == [Reserved, Reserved, KeyCapReached, KeyCapReached]
    assert used(credits_db, org) == 40


def test_in_one_batch_every_key_has_its_own_cap_and_some_have_none(credits_db: Database, org: str) -> None:
    other = {"cap_id": "key_2", "daily_cap": 20}
    requests = [request(org, VARIANT, VARIANT, **cap) for cap in (other, CAP, other, {}, CAP, {})]

    answers = ask(credits_db, *requests)

    assert [type(answer) for answer in answers] == [Reserved, Reserved, KeyCapReached, Reserved, Reserved, Reserved]
    assert (used(credits_db, org), used(credits_db, org, **other)) == (40, 20)
    assert violations(credits_db) == []


def test_keys_that_share_a_cap_are_counted_together_each_up_to_its_own(credits_db: Database, org: str) -> None:
    smaller = {**CAP, "daily_cap": 30}
    with_key(credits_db, org, lines=2)

    with_key(credits_db, org, job_id="job_smaller", **smaller)
    with pytest.raises(KeyCapReached) as refused:
        with_key(credits_db, org, job_id="job_too_much", **smaller)
    with_key(credits_db, org, lines=2, job_id="job_larger")

    assert (refused.value.extra["used"], refused.value.extra["limit"]) == (30, 30)
    with pytest.raises(KeyCapReached) as refused:
        with_key(credits_db, org, job_id="job_again", **smaller)
    assert (refused.value.extra["used"], refused.value.extra["max_affordable"]) == (50, 0)


def test_one_organizations_cap_is_not_anothers(credits_db: Database, org: str) -> None:
    with_key(credits_db, org, lines=5)
    other = given_account(credits_db, balance=10_000)

    with_key(credits_db, other, lines=5, job_id="job_other")

    assert (used(credits_db, org), used(credits_db, other)) == (50, 50)


def test_without_a_key_that_has_a_cap_nothing_is_counted(credits_db: Database, org: str) -> None:
    given_held_job(credits_db, org, *[VARIANT] * 20)

    assert rows(credits_db, "SELECT * FROM cap_usage") == []
    assert used(credits_db, org) == 0


def test_a_cap_is_of_credits_alone(credits_db: Database, org: str) -> None:
    with_key(credits_db, org, lines=60, sku=STUDIO_IMAGE)
    with_key(credits_db, org, lines=5, job_id="job_credits")
    with_key(credits_db, org, lines=60, sku=STUDIO_IMAGE, job_id="job_images")
    with_key(credits_db, org, sku=ANALYSIS, job_id="job_free")

    assert used(credits_db, org) == 50
    assert violations(credits_db) == []


def test_an_empty_wallet_is_told_before_a_cap(credits_db: Database) -> None:
    org = given_account(credits_db, balance=30)

    with pytest.raises(InsufficientCredits):
        with_key(credits_db, org, lines=6, daily_cap=30)


def test_a_job_that_waits_keeps_its_quote_when_its_key_is_used_up(credits_db: Database, org: str) -> None:
    change(
        credits_db,
        "INSERT INTO quotes (id, org_id, livemode, workflow, fingerprint, lines, amount, images, estimated_seconds,"
        " expires_at) VALUES ('quo_1', :org, true, 'staging', 'x', '[]', 100, 1, 1, now() + interval '1 hour')",
        org=org,
    )
    with_key(credits_db, org, lines=5)
    asked = {"quote_id": "quo_1", "fingerprint": "x", "partial": True, "waits": True}

    with pytest.raises(KeyCapReached):
        with_key(credits_db, org, job_id="job_waits", **asked)

    assert rows(credits_db, "SELECT job_id FROM quotes") == [("job_waits",)]


def test_a_hold_that_is_only_tried_counts_nothing(credits_db: Database, org: str) -> None:
    with_key(credits_db, org, lines=5, dry_run=True)

    assert used(credits_db, org) == 0
    with_key(credits_db, org, lines=5)
    with pytest.raises(KeyCapReached):
        with_key(credits_db, org, job_id="job_more", dry_run=True)


def test_usage_that_no_line_has_is_named_and_so_is_what_is_not_counted(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    with_key(credits_db, org, lines=2)
    today = datetime.now(UTC).date()

    tamper("UPDATE cap_usage SET amount = 15")
    changed = [(one["invariant"], one["subject"], one["expected"], one["found"]) for one in violations(credits_db)]
    tamper("DELETE FROM cap_usage")
    gone = [(one["invariant"], one["found"]) for one in violations(credits_db)]

    assert changed == [("cap_usage_equals_its_lines", f"{org}/key_1/{today}", 20, 15)]
    assert gone == [("cap_usage_equals_its_lines", 0)]


def test_a_tenant_sees_its_own_usage_alone(credits_db: Database, org: str) -> None:
    with_key(credits_db, org, lines=2)
    other = given_account(credits_db)

    with credits_db.transaction(org_id=other) as session:
        seen = session.connection().exec_driver_sql("SELECT count(*) FROM cap_usage").scalar_one()

    assert seen == 0
