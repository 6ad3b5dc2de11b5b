"""What an organization made and spent: by day and product line, and counted since it began."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.credits import handlers, queries
from shared.database import Database
from shared.problems import BadRequest
from tests.builders import (
    BASE_VIEWS,
    VARIANT,
    captured,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    job_finished,
)
from tests.service.credits.ledger_steps import at, change, deliver, rows, sent

IMAGE = "studio.image"  # 1 plan generation
COUNTS = ("generations", "failed", "credits", "plan_generations")
NOON = at("2031-05-10T12:00:00")


def usage(db: Database, org_id: str, **period: Any) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return queries.usage(session, org_id=org_id, **period)


def counters(db: Database, org_id: str) -> dict[str, int]:
    with db.transaction(org_id=org_id) as session:
        found: dict[str, int] = queries.balance(session, org_id=org_id)["counters"]
        return found


def given_usage(db: Database, org_id: str, *days: str, workflow: str = "staging") -> None:
    """Let two generations have been made for 20 credits on each of the days."""
    for day in days:
        change(
            db,
            "INSERT INTO daily_usage (org_id, day, workflow, generations, credits)"
            " VALUES (:org, :day, :workflow, 2, 20)",
            org=org_id,
            day=date.fromisoformat(day),
            workflow=workflow,
        )


def days_of(shown: dict[str, Any]) -> list[str]:
    return [row["day"] for row in shown["data"]]


def test_results_failures_and_charges_count_for_their_day_and_workflow(credits_db: Database) -> None:
    org_id = given_account(credits_db, plan="free")
    staging = given_held_job(credits_db, org_id, VARIANT, VARIANT, VARIANT)
    studio = given_held_job(credits_db, org_id, IMAGE)
    first, second, third = staging.line_ids

    deliver(credits_db, generation_completed(staging, line_id=first), generation_failed(staging, line_id=second))
    deliver(credits_db, generation_completed(staging, line_id=third, amount=4))
    deliver(credits_db, generation_completed(studio, amount=1, workflow="studio"))

    today = datetime.now(UTC).date().isoformat()
    assert usage(credits_db, org_id) == {
        "data": [
            {"day": today, "workflow": "staging", "generations": 2, "failed": 1, "credits": 14, "plan_generations": 0},
            {"day": today, "workflow": "studio", "generations": 1, "failed": 0, "credits": 0, "plan_generations": 1},
        ],
        "totals": {"generations": 3, "failed": 1, "credits": 14, "plan_generations": 1},
    }


def test_what_is_told_twice_is_counted_once(credits_db: Database) -> None:
    job = given_held_job(credits_db, given_account(credits_db), VARIANT)
    completed = sent(generation_completed(job))

    deliver(credits_db, completed, completed)
    deliver(credits_db, completed, job_finished(job, captured(job.line_ids[0])))

    totals = usage(credits_db, job.org_id)["totals"]
    assert (totals["generations"], totals["credits"]) == (1, 10)


def test_a_charge_that_is_given_back_is_spent_no_more(credits_db: Database) -> None:
    job = given_held_job(credits_db, given_account(credits_db), VARIANT, BASE_VIEWS)
    first, second = job.line_ids
    deliver(credits_db, generation_completed(job, line_id=first), generation_completed(job, line_id=second, amount=3))

    handlers.refund(credits_db, job_id=job.job_id, generation_id=first, reason="blurred", actor="admin Ada")

    assert counters(credits_db, job.org_id) == {"generations": 2, "credits_spent": 3}
    assert usage(credits_db, job.org_id)["totals"]["credits"] == 3


def test_the_counters_equal_a_recount_of_ledger_and_usage(credits_db: Database) -> None:
    org_id = given_account(credits_db, balance=200, plan="free")
    for amount in (10, 7, 0):
        job = given_held_job(credits_db, org_id, VARIANT, IMAGE)
        first, second = job.line_ids
        deliver(credits_db, generation_completed(job, line_id=first, amount=amount))
        deliver(credits_db, generation_completed(job, line_id=second, amount=1, workflow="studio"))
    handlers.refund(credits_db, job_id=job.job_id, generation_id=second, reason="blurred", actor="admin Ada")

    found = counters(credits_db, org_id)

    (recount,) = rows(
        credits_db,
        "SELECT sum(captured_amount - returned_amount) AS spent FROM lines WHERE org_id = :org AND unit = 'credits'",
        org=org_id,
    )
    assert found["credits_spent"] == recount.spent == usage(credits_db, org_id)["totals"]["credits"] == 17
    assert found["generations"] == usage(credits_db, org_id)["totals"]["generations"] == 6


def test_an_organization_that_did_nothing_used_nothing(credits_db: Database) -> None:
    org_id = given_account(credits_db)

    assert usage(credits_db, org_id) == {"data": [], "totals": dict.fromkeys(COUNTS, 0)}
    assert counters(credits_db, org_id) == {"generations": 0, "credits_spent": 0}


def test_a_period_of_days_has_its_first_and_its_last_day(credits_db: Database) -> None:
    org_id = given_account(credits_db)
    given_usage(credits_db, org_id, "2031-05-01", "2031-05-02", "2031-05-03", "2031-05-04")

    shown = usage(credits_db, org_id, since="2031-05-02", until="2031-05-03", now=NOON)

    assert days_of(shown) == ["2031-05-02", "2031-05-03"]
    assert shown["totals"] == {"generations": 4, "failed": 0, "credits": 40, "plan_generations": 0}


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2031-05-02T00:00:00Z", "2031-05-03T00:00:00Z", ["2031-05-02"]),
        ("2031-05-02T23:59:59Z", "2031-05-03T00:00:00.001Z", ["2031-05-02", "2031-05-03"]),
        ("2031-05-03T01:00:00+02:00", "2031-05-03", ["2031-05-02", "2031-05-03"]),
        ("2031-05-02T00:00:00Z", "2031-05-02T00:00:00Z", []),
    ],
)
def test_a_period_between_times_has_the_days_it_touches_and_ends_before_its_end(
    credits_db: Database, since: str, until: str, days: list[str]
) -> None:
    org_id = given_account(credits_db)
    given_usage(credits_db, org_id, "2031-05-01", "2031-05-02", "2031-05-03", "2031-05-04")

    assert days_of(usage(credits_db, org_id, since=since, until=until, now=NOON)) == days


def test_unless_asked_otherwise_the_last_thirty_days_are_shown(credits_db: Database) -> None:
    org_id = given_account(credits_db)
    given_usage(credits_db, org_id, "2031-04-10", "2031-04-11", "2031-05-10", "2031-05-11")

    assert days_of(usage(credits_db, org_id, now=NOON)) == ["2031-04-11", "2031-05-10"]
    assert days_of(usage(credits_db, org_id, until="2031-05-09", now=NOON)) == ["2031-04-10", "2031-04-11"]


def test_a_period_may_be_a_leap_year_and_no_longer(credits_db: Database) -> None:
    org_id = given_account(credits_db)
    given_usage(credits_db, org_id, "2032-01-01", "2032-12-31")

    assert len(usage(credits_db, org_id, since="2032-01-01", until="2032-12-31")["data"]) == 2
    with pytest.raises(BadRequest, match="366"):
        usage(credits_db, org_id, since="2032-01-01", until="2033-01-01")


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": "2031-05-02", "until": "2031-04-30"},
        {"since": "soon"},
        {"until": "2031-05-02T12:00:00"},
        {"since": "2031-02-30"},
        {"since": "2029-05-02"},
    ],
)
def test_a_period_that_makes_no_sense_is_refused(credits_db: Database, wrong: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        usage(credits_db, given_account(credits_db), now=NOON, **wrong)


def test_the_usage_of_another_organization_is_not_counted(credits_db: Database) -> None:
    mine, other = given_account(credits_db), given_account(credits_db)
    day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    given_usage(credits_db, other, day)

    assert usage(credits_db, mine)["data"] == []
    assert counters(credits_db, mine)["generations"] == 0
    assert counters(credits_db, other)["generations"] == 2


@pytest.mark.parametrize("reason", ["insufficient_credits", "quota_exceeded", "daily_cap_reached"])
def test_what_was_never_begun_for_want_of_means_is_no_failure(credits_db: Database, reason: str) -> None:
    job = given_held_job(credits_db, given_account(credits_db))

    deliver(credits_db, generation_failed(job, reason=reason), generation_failed(job, reason="provider_error"))

    assert [row.failed for row in rows(credits_db, "SELECT failed FROM daily_usage")] == [1]
