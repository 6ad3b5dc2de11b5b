"""Giving back what was charged: a generation or a whole job, once, and never more than was charged."""

from datetime import UTC, datetime
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from services.credits import handlers
from shared.database import Database
from shared.events import RefundIssued
from shared.problems import Conflict, NotFound
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
    balance,
    change,
    deliver,
    history,
    rows,
    told,
    violations,
)


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=100)


@pytest.fixture
def job(credits_db: Database, org: str) -> HeldJob:
    """A job that was charged for two lines of 10 credits each."""
    held = given_held_job(credits_db, org, VARIANT, VARIANT)
    deliver(credits_db, *(generation_completed(held, line_id=line_id) for line_id in held.line_ids))
    return held


def refund(db: Database, job: HeldJob, generation_id: str | None = None, **fields: Any) -> dict[str, Any]:
    known = {"reason": "blurred", "actor": "admin Ada"}
    return handlers.refund(db, job_id=job.job_id, generation_id=generation_id, **{**known, **fields})


def after_capture(db: Database) -> list[RefundIssued]:
    return [event for event in told(db, RefundIssued) if event.after_capture]


def used_today(db: Database, org_id: str) -> list[tuple[str, int, int]]:
    found = rows(
        db, "SELECT workflow, credits, generations FROM daily_usage WHERE org_id = :org ORDER BY 1", org=org_id
    )
    return [tuple(row) for row in found]


def test_one_generation_is_given_back_and_the_other_stays_charged(credits_db: Database, org: str, job: HeldJob) -> None:
    first = job.line_ids[0]

    answer = refund(credits_db, job, first)

    assert answer == {
        "job_id": job.job_id,
        "org_id": org,
        "refunded": [{"generation_id": first, "unit": "credits", "amount": 10}],
        "amount": 10,
    }
    assert balance(credits_db, org)[:2] == (90, 0)
    assert violations(credits_db) == []


def test_a_whole_job_is_given_back(credits_db: Database, org: str, job: HeldJob) -> None:
    answer = refund(credits_db, job)

    assert answer["amount"] == 20
    assert {line["generation_id"] for line in answer["refunded"]} == set(job.line_ids)
    assert balance(credits_db, org)[:2] == (100, 0)
    assert violations(credits_db) == []


def test_it_is_told_as_a_refund_after_the_capture(credits_db: Database, org: str, job: HeldJob) -> None:
    refund(credits_db, job, job.line_ids[0])

    (event,) = after_capture(credits_db)
    _, _, version = balance(credits_db, org)
    assert (event.job_id, event.line_id, event.org_id) == (job.job_id, job.line_ids[0], org)
    assert (event.amount, event.unit, event.reason) == (10, "credits", "blurred")
    assert (event.available, event.version) == (90, version)
    assert event.reservation_id.startswith("rsv_")


def test_an_ordinary_refund_is_not_told_as_one_after_the_capture(credits_db: Database, org: str) -> None:
    deliver(credits_db, generation_failed(given_held_job(credits_db, org)))

    assert [event.after_capture for event in told(credits_db, RefundIssued)] == [False]


def test_the_history_names_who_gave_it_back_and_why(credits_db: Database, org: str, job: HeldJob) -> None:
    refund(credits_db, job, job.line_ids[0], reason="blurred", actor="admin Ada")

    (entry,) = rows(credits_db, "SELECT * FROM entries WHERE kind = 'return' AND version IS NOT NULL")
    assert (entry.actor, entry.reason, entry.amount, entry.available_after) == ("admin Ada", "blurred", 10, 90)
    (line,) = rows(credits_db, "SELECT * FROM lines WHERE returned_amount > 0")
    assert (line.returned_by, line.return_reason, line.returned_amount) == ("admin Ada", "blurred", 10)
    (shown,) = history(credits_db, org, kind="return")
    assert (shown["amount"], shown["generation_id"]) == (10, job.line_ids[0])


def test_a_second_time_gives_nothing_more_and_answers_alike(credits_db: Database, org: str, job: HeldJob) -> None:
    first = refund(credits_db, job, job.line_ids[0])
    again = refund(credits_db, job, job.line_ids[0], reason="asked twice")

    assert again == first
    assert balance(credits_db, org)[:2] == (90, 0)
    assert len(after_capture(credits_db)) == 1


def test_a_job_given_back_after_one_of_its_generations_gives_only_the_rest(
    credits_db: Database, org: str, job: HeldJob
) -> None:
    refund(credits_db, job, job.line_ids[0])

    answer = refund(credits_db, job)

    assert answer["amount"] == 20
    assert balance(credits_db, org)[:2] == (100, 0)
    assert len(after_capture(credits_db)) == 2
    assert violations(credits_db) == []


def test_ten_refunds_at_once_have_one_effect(credits_db: Database, org: str, job: HeldJob) -> None:
    one = [lambda: refund(credits_db, job, job.line_ids[0])] * 5
    whole = [lambda: refund(credits_db, job)] * 5

    answers = all_at_once(*one, *whole)

    assert sorted(answer["amount"] for answer in answers) == [10] * 5 + [20] * 5
    assert balance(credits_db, org)[:2] == (100, 0)
    assert len(after_capture(credits_db)) == 2
    assert violations(credits_db) == []


def test_what_is_still_held_cannot_be_given_back(credits_db: Database, org: str) -> None:
    held = given_held_job(credits_db, org)

    with pytest.raises(Conflict, match="still held"):
        refund(credits_db, held)

    assert balance(credits_db, org)[:2] == (90, 10)


def test_what_came_back_already_cannot_be_given_back(credits_db: Database, org: str) -> None:
    failed = given_held_job(credits_db, org)
    deliver(credits_db, generation_failed(failed))

    with pytest.raises(Conflict, match="nothing was charged"):
        refund(credits_db, failed)

    assert balance(credits_db, org)[:2] == (100, 0)


def test_of_a_job_under_way_only_what_was_charged_is_given_back(credits_db: Database, org: str) -> None:
    running = given_held_job(credits_db, org, VARIANT, VARIANT, VARIANT)
    done, failed, _ = running.line_ids
    deliver(credits_db, generation_completed(running, line_id=done), generation_failed(running, line_id=failed))

    answer = refund(credits_db, running)

    assert [line["generation_id"] for line in answer["refunded"]] == [done]
    assert balance(credits_db, org)[:2] == (90, 10)
    assert violations(credits_db) == []


def test_of_a_line_charged_in_part_only_that_part_is_given_back(credits_db: Database, org: str) -> None:
    cheap = given_held_job(credits_db, org)
    deliver(credits_db, generation_completed(cheap, amount=4))

    answer = refund(credits_db, cheap)

    assert answer["amount"] == 4
    assert balance(credits_db, org)[:2] == (100, 0)
    assert violations(credits_db) == []


def test_what_nobody_held_is_not_found(credits_db: Database, org: str, job: HeldJob) -> None:
    free = HeldJob(job_id="job_free", org_id=org, line_ids=["gen_a"])
    hold(credits_db, org, ANALYSIS, job_id=free.job_id, line_ids=free.line_ids)

    for missing, generation in ((free, None), (HeldJob("job_none", org, []), None), (job, "gen_none")):
        with pytest.raises(NotFound):
            refund(credits_db, missing, generation)


def test_a_plan_generation_given_back_can_be_used_again(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0, plan="free")
    done = given_held_job(credits_db, org, *[STUDIO_IMAGE] * 100)
    deliver(credits_db, job_finished(done, *(captured(line_id, 1) for line_id in done.line_ids)))

    answer = refund(credits_db, done, done.line_ids[0])

    assert answer["refunded"] == [{"generation_id": done.line_ids[0], "unit": "plan_generations", "amount": 1}]
    hold(credits_db, org, STUDIO_IMAGE)
    assert violations(credits_db) == []


def test_the_days_usage_goes_down_by_what_was_given_back(credits_db: Database, org: str) -> None:
    hold(credits_db, org, VARIANT, VARIANT, job_id="job_1", line_ids=["gen_a", "gen_b"], workflow="staging")
    done = HeldJob(job_id="job_1", org_id=org, line_ids=["gen_a", "gen_b"])
    deliver(credits_db, *(generation_completed(done, line_id=line_id) for line_id in done.line_ids))
    before = used_today(credits_db, org)

    refund(credits_db, done, "gen_a")
    refund(credits_db, done, "gen_a")

    assert before == [("staging", 20, 2)]
    assert used_today(credits_db, org) == [("staging", 10, 2)]


def test_more_than_was_charged_cannot_be_given_back_whatever_the_code_does(credits_db: Database, job: HeldJob) -> None:
    statement = (
        "UPDATE lines SET returned_amount = captured_amount + 1, return_reason = 'x', returned_by = 'x',"
        " returned_at = now() WHERE job_id = :job"
    )

    with pytest.raises(DBAPIError) as error:
        change(credits_db, statement, job=job.job_id)

    assert isinstance(error.value.orig, psycopg2.errors.CheckViolation)


@pytest.mark.parametrize("missing", ["return_reason = NULL", "returned_by = NULL", "returned_at = NULL"])
def test_nothing_is_given_back_without_a_name_and_a_reason_whatever_the_code_does(
    credits_db: Database, job: HeldJob, missing: str
) -> None:
    refund(credits_db, job)

    with pytest.raises(DBAPIError) as error:
        change(credits_db, f"UPDATE lines SET {missing} WHERE job_id = :job", job=job.job_id)

    assert isinstance(error.value.orig, psycopg2.errors.CheckViolation)


def test_results_and_refunds_at_once_do_not_wait_for_each_other_in_a_circle(credits_db: Database, org: str) -> None:
    """Both change the day's usage and the wallet: in one order, or PostgreSQL would have to break one off."""
    done = [given_held_job(credits_db, org) for _ in range(4)]
    deliver(credits_db, *(generation_completed(each) for each in done))
    open_ones = [given_held_job(credits_db, org) for _ in range(4)]
    with credits_db.transaction() as obstacle:
        obstacle.execute(sa.text("UPDATE reservations SET workflow = 'staging'"))

    answers = all_at_once(
        *[
            call
            for refunded, finished in zip(done, open_ones, strict=True)
            for call in (
                lambda job=finished: deliver(credits_db, generation_completed(job)),
                lambda job=refunded: refund(credits_db, job),
                lambda job=finished: deliver(credits_db, job_finished(job, captured(job.line_ids[0]))),
            )
        ]
    )

    assert [answer for answer in answers if isinstance(answer, BaseException)] == []
    assert balance(credits_db, org)[:2] == (60, 0)
    assert rows(credits_db, "SELECT sum(credits) FROM daily_usage WHERE org_id = :org", org=org)[0][0] == 40
    assert violations(credits_db) == []


def test_a_refund_that_comes_with_a_time_is_dated_by_it(credits_db: Database, job: HeldJob) -> None:
    before = datetime.now(UTC)

    refund(credits_db, job)

    found = rows(credits_db, "SELECT returned_at FROM lines")
    assert all(before <= row.returned_at <= datetime.now(UTC) for row in found)
