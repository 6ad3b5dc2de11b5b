"""Many at once: the last credit is held once, a job's end and its hold never pass each other, nobody waits for ever."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from services.credits import ledger, usage
from services.credits.movements import Outcome, Request, Settled
from shared.database import Database
from shared.events import CreditReserved
from shared.ids import new_id
from shared.problems import InsufficientCredits, JobClosed
from tests.builders import (
    SMALL_EDIT,
    VARIANT,
    HeldJob,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    hold,
    job_finished,
    refunded,
)
from tests.polling import until
from tests.service.credits.ledger_steps import all_at_once, balance, deliver, rows, told, violations


def until_waiting(db: Database, number: int) -> None:
    """Wait until so many sessions wait for a lock of another one."""
    statement = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def waiting() -> bool:
        with db.engine.connect() as connection:
            return connection.execute(statement).scalar_one() >= number

    until(waiting, seconds=3, what=f"{number} sessions waiting for a lock")


def test_of_a_hundred_parallel_holds_exactly_as_many_pass_as_there_are_credits(credits_db: Database) -> None:
    org = given_account(credits_db, balance=50)

    answers = all_at_once(*[lambda: hold(credits_db, org, SMALL_EDIT)] * 100)

    assert sum(isinstance(answer, InsufficientCredits) for answer in answers) == 50
    assert sorted(event.available for event in told(credits_db, CreditReserved)) == list(range(50))
    assert balance(credits_db, org)[:2] == (0, 50)
    assert len(told(credits_db, CreditReserved)) == 50
    assert rows(credits_db, "SELECT count(*) FROM reservations")[0][0] == 50
    assert violations(credits_db) == []


def test_the_same_hold_ten_times_at_once_is_one_hold(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    answers = all_at_once(*[lambda: hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_a"])] * 10)

    assert {(answer["reservation_id"], answer["available"]) for answer in answers} == {
        (answers[0]["reservation_id"], 90)
    }
    assert len(told(credits_db, CreditReserved)) == 1


def test_two_organizations_that_claim_one_job_id_at_once_do_not_both_get_it(credits_db: Database) -> None:
    orgs = [given_account(credits_db) for _ in range(2)]

    for number in range(10):
        answers = all_at_once(*[lambda org=org: hold(credits_db, org, VARIANT, job_id=f"job_{number}") for org in orgs])  # noqa: B023  the calls end before the loop goes on
        assert sorted(type(answer).__name__ for answer in answers) == ["JobClosed", "dict"]

    assert sum(balance(credits_db, org)[1] for org in orgs) == 100


def test_a_jobs_end_and_its_hold_at_the_same_moment_leave_nothing_held(credits_db: Database) -> None:
    org = given_account(credits_db, balance=1000)
    jobs = [HeldJob(job_id=new_id("job"), org_id=org, line_ids=["gen_a"]) for _ in range(40)]
    holds = [lambda job=job: hold(credits_db, org, VARIANT, job_id=job.job_id, line_ids=["gen_a"]) for job in jobs]
    ends = [
        lambda job=job: deliver(credits_db, job_finished(job, refunded("gen_a"), status="rejected")) for job in jobs
    ]
    calls = [call for pair in zip(holds, ends, strict=True) for call in random.sample(pair, 2)]

    answers = all_at_once(*calls)

    assert {type(answer) for answer in answers} <= {dict, type(None), JobClosed}
    assert balance(credits_db, org)[:2] == (1000, 0)
    assert violations(credits_db) == []


def test_a_hold_waits_for_the_end_of_its_job_that_is_under_way(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    job = given_held_job(credits_db, org)

    with ThreadPoolExecutor(1) as pool, credits_db.transaction() as ending:
        ledger.close_jobs(ending, {job.job_id: org})
        holding = pool.submit(hold, credits_db, org, VARIANT, job_id=job.job_id)
        until_waiting(credits_db, 1)
        ending.commit()

        assert isinstance(holding.exception(), JobClosed)
    assert balance(credits_db, org)[:2] == (90, 10)


@pytest.mark.parametrize("held_before", [[], ["gen_a"]])
def test_the_end_of_a_job_waits_for_a_hold_that_is_under_way(credits_db: Database, held_before: list[str]) -> None:
    org = given_account(credits_db, balance=100)
    job = HeldJob(job_id=new_id("job"), org_id=org, line_ids=["gen_a", "gen_b"])
    if held_before:
        hold(credits_db, org, VARIANT, job_id=job.job_id, line_ids=held_before)
    lines = dict.fromkeys(job.line_ids, VARIANT)
    request = Request(org_id=org, job_id=job.job_id, deadline_at=datetime.now(UTC), lines=lines)
    end = job_finished(job, *(refunded(line_id) for line_id in job.line_ids), status="rejected")

    with ThreadPoolExecutor(1) as pool, credits_db.transaction(org_id=org) as holding:
        ledger.reserve(holding, [request])
        ending = pool.submit(deliver, credits_db, end)
        until_waiting(credits_db, 1)
        holding.commit()

        assert ending.exception() is None
    assert balance(credits_db, org)[:2] == (100, 0)


@pytest.mark.parametrize("amounts", [(0, 0), (10, 10), (0, 10), (4, 4)])
def test_batches_that_settle_the_same_lines_in_opposite_order_do_not_deadlock(
    credits_db: Database, amounts: tuple[int, int]
) -> None:
    jobs = [given_held_job(credits_db, given_account(credits_db), *[VARIANT] * 3) for _ in range(3)]
    lines = [(job, line_id) for job in jobs for line_id in job.line_ids]

    def settle(order: list[tuple[HeldJob, str]], amount: int) -> list[Settled]:
        outcomes = [
            Outcome(job_id=job.job_id, line_id=line_id, org_id=job.org_id, amount=amount, reason="x")
            for job, line_id in order
        ]
        with credits_db.transaction() as session:
            settled = ledger.settle(session, outcomes)
            usage.add(session, [usage.of_charge(line, workflow="staging") for line in settled])
            return settled

    # While the line in the middle is locked, both batches take what they can get before it; then it is let go.
    with ThreadPoolExecutor(2) as pool, credits_db.transaction() as obstacle:
        obstacle.execute(sa.text("SELECT FROM lines WHERE line_id = :id FOR UPDATE"), {"id": lines[4][1]})
        forwards = pool.submit(settle, lines, amounts[0])
        backwards = pool.submit(settle, lines[::-1], amounts[1])
        until_waiting(credits_db, 2)
        obstacle.commit()

        assert sorted(len(each.result()) for each in (forwards, backwards)) == [0, 9]
    assert violations(credits_db) == []


def test_everything_at_once_ends_with_a_sound_ledger(credits_db: Database) -> None:
    dice = random.Random(7)  # noqa: S311  dice for a test, no secret
    orgs = [given_account(credits_db, balance=300) for _ in range(3)]

    def one_job() -> None:
        org = dice.choice(orgs)
        try:
            job = given_held_job(credits_db, org, *[VARIANT] * dice.randint(1, 3))
        except InsufficientCredits:
            return
        ends = [
            dice.choice([generation_completed, generation_failed])(job, line_id=line_id) for line_id in job.line_ids
        ]
        ends.append(job_finished(job, *(refunded(line_id) for line_id in job.line_ids), status="failed"))
        dice.shuffle(ends)
        deliver(credits_db, *ends, *dice.choices(ends, k=2))

    def some_jobs(number: int) -> None:
        for _ in range(number):
            one_job()

    answers = all_at_once(*[lambda: some_jobs(6)] * 12)

    assert [answer for answer in answers if isinstance(answer, BaseException)] == []
    assert [balance(credits_db, org)[1] for org in orgs] == [0, 0, 0]
    assert violations(credits_db) == []
