"""Ending held lines: captured or given back, exactly once, whatever arrives how often and in which order."""

import msgspec
import pytest
from prometheus_client import REGISTRY

from services.credits.ledger import UnknownLine
from shared.database import Database
from shared.events import CreditCaptured, RefundIssued
from shared.problems import JobClosed
from tests.builders import (
    VARIANT,
    HeldJob,
    captured,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    hold,
    job_finished,
    refunded,
)
from tests.service.credits.ledger_steps import balance, deliver, history, rows, sent, told, violations

SETTLED = (CreditCaptured, RefundIssued)


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=100)


@pytest.fixture
def job(credits_db: Database, org: str) -> HeldJob:
    """A job with two lines of 10 credits."""
    return given_held_job(credits_db, org, VARIANT, VARIANT)


def test_a_result_spends_what_was_held_and_leaves_the_wallet_alone(
    credits_db: Database, org: str, job: HeldJob
) -> None:
    before = balance(credits_db, org)

    deliver(credits_db, generation_completed(job, amount=10))

    assert balance(credits_db, org) == (before[0], 10, before[2])
    (event,) = told(credits_db, *SETTLED)
    assert isinstance(event, CreditCaptured)
    assert (event.job_id, event.org_id, event.line_id, event.amount) == (job.job_id, org, job.line_ids[0], 10)
    assert violations(credits_db) == []


def test_a_failed_generation_gives_the_held_credits_back(credits_db: Database, org: str, job: HeldJob) -> None:
    version = balance(credits_db, org)[2]

    deliver(credits_db, generation_failed(job, reason="moderation_output"))

    assert balance(credits_db, org) == (90, 10, version + 1)
    (event,) = told(credits_db, *SETTLED)
    assert isinstance(event, RefundIssued)
    assert (event.line_id, event.amount, event.reason) == (job.line_ids[0], 10, "moderation_output")
    assert (event.available, event.version) == (90, version + 1)
    assert violations(credits_db) == []


def test_what_the_cache_had_comes_back_and_the_rest_is_spent(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_completed(job, amount=4))

    assert balance(credits_db, org)[:2] == (86, 10)
    spent, returned = told(credits_db, *SETTLED)
    assert (spent.amount, returned.amount, returned.reason) == (4, 6, "cache_hit")
    assert violations(credits_db) == []


def test_a_full_cache_hit_costs_nothing(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_completed(job, amount=0))

    assert balance(credits_db, org)[:2] == (90, 10)
    assert [(type(event), event.amount) for event in told(credits_db, *SETTLED)] == [(RefundIssued, 10)]


def test_never_more_is_spent_than_was_held(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_completed(job, amount=1000))

    assert balance(credits_db, org)[:2] == (80, 10)
    assert [event.amount for event in told(credits_db, *SETTLED)] == [10]


def test_the_same_delivery_again_changes_nothing(credits_db: Database, org: str, job: HeldJob) -> None:
    event = sent(generation_completed(job))

    deliver(credits_db, event)
    deliver(credits_db, event, event)

    assert balance(credits_db, org)[:2] == (80, 10)
    assert len(told(credits_db, *SETTLED)) == 1


def test_a_second_event_of_the_same_outcome_changes_nothing(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_failed(job), generation_failed(job))
    deliver(credits_db, generation_failed(job))

    assert balance(credits_db, org)[:2] == (90, 10)
    assert len(told(credits_db, *SETTLED)) == 1


def test_a_late_result_after_a_refund_is_ignored_and_counted(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_failed(job))
    before = REGISTRY.get_sample_value("darkroom_late_settlements_total") or 0

    deliver(credits_db, generation_completed(job))

    assert balance(credits_db, org)[:2] == (90, 10)
    assert [type(event) for event in told(credits_db, *SETTLED)] == [RefundIssued]
    assert REGISTRY.get_sample_value("darkroom_late_settlements_total") == before + 1
    assert violations(credits_db) == []


def test_a_failure_after_the_capture_is_ignored(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_completed(job), generation_failed(job))

    assert balance(credits_db, org)[:2] == (80, 10)
    assert [type(event) for event in told(credits_db, *SETTLED)] == [CreditCaptured]


def test_a_finished_job_settles_the_lines_it_lists_and_no_other(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, job_finished(job, refunded(job.line_ids[1], reason="cancelled"), status="cancelled"))

    assert balance(credits_db, org)[:2] == (90, 10)
    assert [(event.line_id, event.reason) for event in told(credits_db, *SETTLED)] == [(job.line_ids[1], "cancelled")]


def test_a_job_that_finished_before_its_generations_were_told_is_settled_once(
    credits_db: Database, org: str, job: HeldJob
) -> None:
    first, second = job.line_ids

    deliver(credits_db, job_finished(job, captured(first), refunded(second)))
    deliver(credits_db, generation_failed(job, line_id=second), generation_completed(job, line_id=first))

    assert balance(credits_db, org)[:2] == (90, 0)
    assert [type(event) for event in told(credits_db, *SETTLED)].count(CreditCaptured) == 1
    assert len(told(credits_db, *SETTLED)) == 2
    assert violations(credits_db) == []


def test_a_refund_without_a_reason_says_how_the_job_ended(credits_db: Database, job: HeldJob) -> None:
    deliver(credits_db, job_finished(job, refunded(job.line_ids[0], reason=None), status="expired"))

    assert [event.reason for event in told(credits_db, RefundIssued)] == ["expired"]


def test_a_job_that_ended_before_anything_was_held_is_closed_for_good(credits_db: Database, org: str) -> None:
    early = HeldJob(job_id="job_early", org_id=org, line_ids=["gen_a"])

    deliver(credits_db, job_finished(early, refunded("gen_a"), status="rejected"))
    deliver(credits_db, job_finished(early, refunded("gen_a"), status="rejected"))

    with pytest.raises(JobClosed):
        hold(credits_db, org, VARIANT, job_id="job_early", line_ids=["gen_a"])
    assert balance(credits_db, org)[:2] == (100, 0)
    assert told(credits_db, *SETTLED) == []
    assert violations(credits_db) == []


def test_a_failure_whose_line_was_never_held_gives_nothing_back(credits_db: Database, org: str) -> None:
    never = HeldJob(job_id="job_never", org_id=org, line_ids=["gen_a"])

    deliver(credits_db, generation_failed(never, reason="insufficient_credits"))

    assert balance(credits_db, org)[:2] == (100, 0)
    assert told(credits_db, *SETTLED) == []


def test_a_result_whose_line_was_never_held_is_an_error_and_not_lost(credits_db: Database, org: str) -> None:
    never = HeldJob(job_id="job_never", org_id=org, line_ids=["gen_a"])

    with pytest.raises(UnknownLine, match="gen_a"):
        deliver(credits_db, generation_completed(never))

    assert rows(credits_db, "SELECT * FROM inbox") == []


def test_another_organization_cannot_settle_a_line(credits_db: Database, org: str, job: HeldJob) -> None:
    with pytest.raises(Exception, match="not of org_stranger"):
        deliver(credits_db, generation_completed(job, org_id="org_stranger"))

    assert balance(credits_db, org)[:2] == (80, 20)


def test_a_job_is_not_closed_by_another_organization(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, job_finished(job, org_id="org_stranger"))

    assert hold(credits_db, org, VARIANT, job_id=job.job_id)["available"] == 70


def test_a_generation_without_a_line_has_nothing_to_settle(credits_db: Database, job: HeldJob) -> None:
    free = [
        msgspec.structs.replace(event, line_id=None) for event in (generation_completed(job), generation_failed(job))
    ]

    deliver(credits_db, *free)

    assert told(credits_db, *SETTLED) == []


def test_one_batch_settles_lines_of_many_organizations_each_with_its_own_wallet(credits_db: Database) -> None:
    jobs = [given_held_job(credits_db, given_account(credits_db), VARIANT, VARIANT) for _ in range(3)]

    deliver(credits_db, *(generation_failed(job, line_id=job.line_ids[place]) for place in (0, 1) for job in jobs))

    assert [balance(credits_db, job.org_id)[:2] for job in jobs] == [(100, 0)] * 3
    for job in jobs:
        events = [event for event in told(credits_db, RefundIssued) if event.org_id == job.org_id]
        assert [(event.available, event.version) for event in events] == [(90, 4), (100, 5)]
    assert violations(credits_db) == []


def test_the_history_of_a_line_is_its_hold_and_its_end(credits_db: Database, org: str, job: HeldJob) -> None:
    deliver(credits_db, generation_completed(job, amount=4))

    entries = [entry for entry in history(credits_db, org, job=job.job_id) if entry["generation_id"] == job.line_ids[0]]

    assert sorted((entry["kind"], entry["amount"], entry["held"]) for entry in entries) == [
        ("capture", 0, -4),
        ("hold", -10, 10),
        ("refund", 6, -6),
    ]
    assert {entry["product"] for entry in entries} == {"staging"}


def test_only_what_was_committed_is_counted(credits_db: Database, job: HeldJob) -> None:
    def sample() -> float:
        return REGISTRY.get_sample_value("darkroom_credits_captured_total") or 0

    before = sample()
    with pytest.raises(UnknownLine):
        deliver(credits_db, generation_completed(job), generation_completed(HeldJob("job_x", job.org_id, ["gen_x"])))
    rolled_back = sample()
    deliver(credits_db, generation_completed(job))

    assert (rolled_back, sample()) == (before, before + 10)
