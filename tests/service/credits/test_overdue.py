"""Lines that stay open too long: generation is asked how their job ended, until they are settled."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from services.credits import handlers
from shared.database import Database
from shared.events import ReservationOverdue
from tests.builders import (
    VARIANT,
    HeldJob,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    job_finished,
)
from tests.service.credits.ledger_steps import change, deliver, rows, told, violations


@pytest.fixture
def job(credits_db: Database) -> HeldJob:
    return given_held_job(credits_db, given_account(credits_db), VARIANT, VARIANT)


def let_the_deadline_be(db: Database, ago: str, *, job: HeldJob | None = None) -> None:
    """Move deadlines to ``ago`` before now: of one job, or of all."""
    change(
        db,
        "UPDATE reservations SET deadline_at = now() - CAST(:ago AS interval)"
        " WHERE job_id = coalesce(CAST(:job AS text), job_id)",
        ago=ago,
        job=job and job.job_id,
    )


def test_a_line_open_ten_minutes_past_its_jobs_deadline_is_asked_about(credits_db: Database, job: HeldJob) -> None:
    deliver(credits_db, generation_completed(job))
    let_the_deadline_be(credits_db, "10 minutes 1 second")

    asked = handlers.report_overdue(credits_db)

    assert asked == 1
    (event,) = told(credits_db, ReservationOverdue)
    assert (event.job_id, event.org_id, event.line_ids) == (job.job_id, job.org_id, job.line_ids[1:])


def test_until_then_nobody_is_asked(credits_db: Database, job: HeldJob) -> None:
    let_the_deadline_be(credits_db, "9 minutes 50 seconds", job=job)

    assert handlers.report_overdue(credits_db) == 0


def test_the_time_of_grace_is_a_setting(credits_db: Database, job: HeldJob) -> None:
    let_the_deadline_be(credits_db, "5 seconds", job=job)

    assert handlers.report_overdue(credits_db, after=timedelta(seconds=4)) == 1


def test_the_question_is_repeated_every_some_minutes_and_not_before(credits_db: Database, job: HeldJob) -> None:
    let_the_deadline_be(credits_db, "1 hour", job=job)
    handlers.report_overdue(credits_db)

    at_once = handlers.report_overdue(credits_db)
    change(credits_db, "UPDATE reservations SET overdue_at = overdue_at - interval '5 minutes'")
    later = handlers.report_overdue(credits_db)

    assert (at_once, later) == (0, 1)


def test_what_is_settled_is_asked_about_no_longer(credits_db: Database, job: HeldJob) -> None:
    let_the_deadline_be(credits_db, "1 hour")
    deliver(credits_db, *(generation_failed(job, line_id=line_id) for line_id in job.line_ids))

    assert handlers.report_overdue(credits_db) == 0


def test_a_closed_job_with_an_open_line_is_asked_about_too(credits_db: Database, job: HeldJob) -> None:
    deliver(credits_db, job_finished(job))
    let_the_deadline_be(credits_db, "1 hour")

    assert handlers.report_overdue(credits_db) == 1


def test_many_replicas_ask_once_about_each_job(credits_db: Database) -> None:
    org = given_account(credits_db, balance=1000)
    jobs = [given_held_job(credits_db, org) for _ in range(30)]
    let_the_deadline_be(credits_db, "1 hour")

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(handlers.report_overdue, credits_db, limit=20) for _ in range(6)]

    assert sum(each.result() for each in asked) == 30
    assert {event.job_id for event in told(credits_db, ReservationOverdue)} == {job.job_id for job in jobs}


def test_the_audit_names_what_is_overdue(credits_db: Database, job: HeldJob) -> None:
    let_the_deadline_be(credits_db, "11 minutes")

    found = violations(credits_db)

    assert {(each["invariant"], each["subject"]) for each in found} == {
        ("line_ends_with_its_job", f"{job.job_id}/{line_id}") for line_id in job.line_ids
    }
    assert all(each["found"] >= 660 for each in found)


def test_jobs_that_hold_credits_are_measured(credits_db: Database, job: HeldJob) -> None:
    given_held_job(credits_db, job.org_id)

    handlers.report_overdue(credits_db)

    assert REGISTRY.get_sample_value("darkroom_reservations_open") == 2
    assert len(rows(credits_db, "SELECT DISTINCT job_id FROM lines WHERE status = 'held'")) == 2
