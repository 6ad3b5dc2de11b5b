"""What an organization's work may cost us at providers in a day: what is open counts as expected, then as it was."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.credits.movements import Reserved
from shared.database import Database
from shared.problems import DailyCapReached
from tests.builders import (
    ANALYSIS,
    STUDIO_IMAGE,
    VARIANT,
    HeldJob,
    captured,
    generation_completed,
    generation_failed,
    given_account,
    hold,
    job_finished,
)
from tests.service.credits.ledger_steps import all_at_once, ask, at, balance, change, deliver, request, rows, violations

CENT = 10_000  # microusd
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def org(credits_db: Database) -> str:
    """An organization whose work may cost us 100 cents a day."""
    return capped(credits_db, given_account(credits_db, balance=10_000), 100 * CENT)


def capped(db: Database, org_id: str, cap: int | None) -> str:
    statement = "UPDATE organization_plans SET daily_cost_cap_microusd = :cap WHERE org_id = :org"
    change(db, statement, cap=cap, org=org_id)
    return org_id


def spending(db: Database, org_id: str, *, cents: int, lines: int = 1, **asked: Any) -> HeldJob:
    """Hold lines that are expected to cost us so many cents each."""
    job_id = asked.pop("job_id", None) or f"job_{rows(db, 'SELECT count(*) FROM lines')[0][0]}"
    line_ids = [f"gen_{number}" for number in range(lines)]
    answer = hold(db, org_id, *[VARIANT] * lines, job_id=job_id, line_ids=line_ids, cost_microusd=cents * CENT, **asked)
    return HeldJob(job_id=job_id, org_id=org_id, line_ids=[line["line_id"] for line in answer["lines"]])


def room(db: Database, org_id: str, *, now: datetime | None = None) -> int:
    """Find out how many cents may still be spent, by asking for far too much in lines of a cent."""
    asked = request(org_id, *[VARIANT] * 500)
    asked = request(org_id, *[VARIANT] * 500, costs=dict.fromkeys(asked.lines, CENT))
    (refused,) = ask(db, asked, now=now)
    assert isinstance(refused, DailyCapReached), refused
    return refused.extra["max_affordable"]


def test_what_open_lines_are_expected_to_cost_never_passes_the_cap(credits_db: Database, org: str) -> None:
    spending(credits_db, org, cents=30, lines=3)

    with pytest.raises(DailyCapReached):
        spending(credits_db, org, cents=11, job_id="job_too_much")
    spending(credits_db, org, cents=10, job_id="job_fits")

    assert room(credits_db, org) == 0
    assert violations(credits_db) == []


def test_a_refusal_has_its_figures_and_leaves_no_trace(credits_db: Database, org: str) -> None:
    with pytest.raises(DailyCapReached) as refused:
        spending(credits_db, org, cents=30, lines=5)

    assert (refused.value.status, refused.value.retryable) == (402, True)
    assert refused.value.extra.keys() == {"max_affordable", "resets_at"}
    assert refused.value.extra["max_affordable"] == 3
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert datetime.fromisoformat(refused.value.extra["resets_at"]) == midnight
    assert rows(credits_db, "SELECT * FROM reservations") == []
    assert balance(credits_db, org)[:2] == (10_000, 0)


@pytest.mark.parametrize(
    ("moment", "resets_at"),
    [
        ("2031-03-30T23:59:59.999", "2031-03-31T00:00:00Z"),
        ("2031-03-31T00:00:00", "2031-04-01T00:00:00Z"),
        ("2031-12-31T12:00:00", "2032-01-01T00:00:00Z"),
    ],
)
def test_the_day_ends_at_midnight_utc(credits_db: Database, org: str, moment: str, resets_at: str) -> None:
    asked = request(org, VARIANT, costs={"gen_000": 101 * CENT})

    (refused,) = ask(credits_db, asked, now=at(moment))

    assert isinstance(refused, DailyCapReached)
    assert refused.extra["resets_at"] == resets_at


def test_twenty_requests_at_once_never_pass_the_cap(credits_db: Database, org: str) -> None:
    done = spending(credits_db, org, cents=20, job_id="job_done")
    deliver(credits_db, generation_completed(done, provider_cost_microusd=16 * CENT))

    answers = all_at_once(
        *[lambda number=number: spending(credits_db, org, cents=10, job_id=f"job_{number}") for number in range(20)]
    )

    assert sum(isinstance(answer, HeldJob) for answer in answers) == (100 - 16) // 10
    assert {type(answer) for answer in answers} == {HeldJob, DailyCapReached}
    assert room(credits_db, org) == 4
    assert violations(credits_db) == []


@pytest.mark.parametrize(("actual", "expected_room"), [(5, 95), (40, 60), (0, 100), (130, 0)])
def test_what_it_did_cost_takes_the_place_of_what_was_expected(
    credits_db: Database, org: str, actual: int, expected_room: int
) -> None:
    job = spending(credits_db, org, cents=20)
    open_room = room(credits_db, org)

    deliver(credits_db, generation_completed(job, provider_cost_microusd=actual * CENT))

    assert (open_room, room(credits_db, org)) == (80, expected_room)
    assert violations(credits_db) == []


def test_a_failure_counts_with_what_it_cost(credits_db: Database, org: str) -> None:
    job = spending(credits_db, org, cents=20)

    deliver(credits_db, generation_failed(job, provider_cost_microusd=7 * CENT))

    assert room(credits_db, org) == 93


def test_a_line_settled_by_its_jobs_end_is_expected_to_cost_nothing_more(credits_db: Database, org: str) -> None:
    job = spending(credits_db, org, cents=20, lines=2)

    deliver(credits_db, job_finished(job, *(captured(line_id) for line_id in job.line_ids)))
    deliver(credits_db, generation_completed(job, provider_cost_microusd=15 * CENT))

    assert room(credits_db, org) == 85
    assert violations(credits_db) == []


def test_the_next_day_begins_anew_with_what_is_open(credits_db: Database, org: str) -> None:
    done, still_open = (spending(credits_db, org, cents=40, job_id=job_id) for job_id in ("job_a", "job_b"))
    deliver(credits_db, generation_completed(done, provider_cost_microusd=60 * CENT))

    assert room(credits_db, org) == 0
    assert room(credits_db, org, now=TOMORROW) == 60
    assert still_open.line_ids


def test_the_plan_has_a_cap_for_all_who_have_none_of_their_own(
    credits_db: Database, tamper: Callable[..., None]
) -> None:
    org = given_account(credits_db, plan="free", balance=10_000)
    tamper(f"UPDATE plans SET daily_cost_cap_microusd = {50 * CENT} WHERE name = 'free'")
    own = capped(credits_db, given_account(credits_db, plan="free", balance=10_000), 70 * CENT)

    assert (room(credits_db, org), room(credits_db, own)) == (50, 70)


def test_without_a_cap_nothing_is_refused(credits_db: Database, tamper: Callable[..., None]) -> None:
    org = given_account(credits_db, balance=100)
    tamper("UPDATE plans SET daily_cost_cap_microusd = NULL")

    assert spending(credits_db, org, cents=1_000_000_000).line_ids == ["gen_0"]


def test_what_costs_us_nothing_is_not_refused_when_the_cap_is_reached(credits_db: Database, org: str) -> None:
    spending(credits_db, org, cents=100)

    assert spending(credits_db, org, cents=0, job_id="job_cheap").line_ids == ["gen_0"]


def test_a_partial_request_is_held_up_to_the_cap(credits_db: Database, org: str) -> None:
    job = spending(credits_db, org, cents=30, lines=5, partial=True)

    assert job.line_ids == ["gen_0", "gen_1", "gen_2"]
    assert room(credits_db, org) == 10
    assert violations(credits_db) == []


def test_of_a_batch_each_request_leaves_less_to_the_next(credits_db: Database, org: str) -> None:
    requests = [request(org, VARIANT, costs={"gen_000": 40 * CENT}) for _ in range(3)]

    answers = ask(credits_db, *requests)

    assert [type(answer) for answer in answers] == [Reserved, Reserved, DailyCapReached]


def test_one_cap_is_for_all_an_organization_does(credits_db: Database, org: str) -> None:
    asked = request(org, VARIANT, STUDIO_IMAGE, costs={"gen_000": 60 * CENT, "gen_001": 41 * CENT})

    (refused,) = ask(credits_db, asked)

    assert isinstance(refused, DailyCapReached)
    assert refused.extra["max_affordable"] == 1


def test_one_organizations_cap_is_not_anothers(credits_db: Database, org: str) -> None:
    spending(credits_db, org, cents=100)
    other = capped(credits_db, given_account(credits_db, balance=10_000), 100 * CENT)

    assert room(credits_db, other) == 100


def test_what_is_free_of_charge_is_refused_too_when_the_cap_is_reached(credits_db: Database, org: str) -> None:
    spending(credits_db, org, cents=100)

    with pytest.raises(DailyCapReached):
        hold(credits_db, org, ANALYSIS, cost_microusd=CENT)


def test_a_repeat_answers_alike_when_the_cap_was_reached_meanwhile(credits_db: Database, org: str) -> None:
    asked = {"job_id": "job_1", "line_ids": ["gen_a", "gen_b"], "cost_microusd": 10 * CENT}
    first = hold(credits_db, org, ANALYSIS, VARIANT, **asked)
    spending(credits_db, org, cents=90, job_id="job_other")

    again = hold(credits_db, org, ANALYSIS, VARIANT, **asked)

    assert again["lines"] == first["lines"]
    assert again["reservation_id"] == first["reservation_id"]
