"""Monthly allowances of plan generations: opened by the first hold, never passed, gone with their month (UTC)."""

from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from services.credits import accounts, ledger, queries
from services.credits.movements import PlanChange, Reserved
from shared.database import Database
from shared.events import CreditReserved, CreditsExpired, PlanChanged, QuotaThresholdReached
from shared.problems import BadRequest, NotFound, PreconditionFailed, QuotaExceeded
from tests.builders import (
    STUDIO_IMAGE,
    VARIANT,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    hold,
)
from tests.service.credits.ledger_steps import (
    all_at_once,
    ask,
    at,
    deliver,
    held_at,
    left_in_grants,
    request,
    returned_at,
    rows,
    settled_at,
    told,
    violations,
)

IN_NOVEMBER = at("2031-11-15T12:00:00")
IN_DECEMBER = at("2031-12-15T12:00:00")


@pytest.fixture
def org(credits_db: Database) -> str:
    """An organization on the free plan: 100 plan generations a month."""
    return given_account(credits_db, plan="free", balance=0)


def images(number: int) -> list[str]:
    return [STUDIO_IMAGE] * number


def quota(db: Database, org_id: str, *, now: datetime | None = None) -> tuple[int | None, int]:
    """Return ``(limit, used)``."""
    with db.transaction(org_id=org_id) as session:
        found = queries.balance(session, org_id=org_id, now=now)["quota"]
    return found["limit"], found["used"]


def left(db: Database, org_id: str) -> list[int]:
    return list(left_in_grants(db, org_id, unit="plan_generations").values())


def change_plan(db: Database, org_id: str, plan: str, *, now: datetime | None = None) -> PlanChange:
    with db.transaction() as session:
        return ledger.change_plan(session, org_id=org_id, plan=plan, actor="usr_ada", now=now)


def lines(answer: Any) -> int:
    """Return how many lines are held, or fit in at most where the request was refused."""
    if isinstance(answer, Reserved):
        return len(answer.lines)
    assert isinstance(answer, QuotaExceeded), answer
    return answer.extra["max_affordable"]


def thresholds(answer: Any) -> list[tuple[int, int, int]]:
    assert isinstance(answer, Reserved), answer
    return [(each.percent, each.used, each.limit) for each in answer.thresholds]


# --- the limit ------------------------------------------------------------------------------------------------------


def test_85_used_and_180_asked_for_is_refused_with_all_the_figures(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(85), now=IN_NOVEMBER)
    before = [rows(credits_db, f"SELECT count(*) FROM {table}") for table in ("reservations", "lines", "entries")]

    (refused,) = ask(credits_db, request(org, *images(180)), now=IN_NOVEMBER)

    assert isinstance(refused, QuotaExceeded)
    assert refused.status == 402
    assert datetime.fromisoformat(refused.extra.pop("resets_at")) == at("2031-12-01T00:00:00")
    assert refused.extra == {
        "unit": "plan_generations",
        "limit": 100,
        "used": 85,
        "requested": 180,
        "max_affordable": 15,
    }
    assert before == [
        rows(credits_db, f"SELECT count(*) FROM {table}") for table in ("reservations", "lines", "entries")
    ]
    assert violations(credits_db) == []


def test_a_refusal_reaches_who_asked_and_publishes_nothing(credits_db: Database, org: str) -> None:
    with pytest.raises(QuotaExceeded) as refused:
        hold(credits_db, org, *images(101))

    assert (refused.value.extra["used"], refused.value.extra["max_affordable"]) == (0, 100)
    assert told(credits_db) == []
    assert quota(credits_db, org) == (100, 0)


def test_the_whole_allowance_can_be_used_and_not_one_more(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(100), now=IN_NOVEMBER)

    (refused,) = ask(credits_db, request(org, STUDIO_IMAGE), now=IN_NOVEMBER)

    assert lines(refused) == 0
    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 100)
    assert left(credits_db, org) == [0]


def test_the_allowance_is_a_grant_of_its_month_and_opened_once(credits_db: Database, org: str) -> None:
    for _ in range(3):
        held_at(credits_db, org, STUDIO_IMAGE, now=IN_NOVEMBER)

    (grant,) = rows(credits_db, "SELECT * FROM grants")
    assert (grant.id, grant.unit, grant.kind) == (f"{org}/allowance/2031-11", "plan_generations", "monthly")
    assert (grant.starts_at, grant.expires_at) == (at("2031-11-01T00:00:00"), at("2031-12-01T00:00:00"))
    assert (grant.amount, grant.remaining) == (100, 97)
    assert rows(credits_db, "SELECT sum(amount), count(*) FROM entries WHERE kind = 'allowance' AND version > 0") == [
        (100, 1)
    ]


def test_credits_open_no_allowance(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free", balance=10)

    hold(credits_db, org, VARIANT)

    assert left_in_grants(credits_db, org, unit="plan_generations") == {}


def test_fifty_requests_of_three_at_once_never_pass_a_rest_of_a_hundred(credits_db: Database, org: str) -> None:
    answers = all_at_once(*[lambda: hold(credits_db, org, *images(3))] * 50)

    passed = [answer for answer in answers if isinstance(answer, dict)]
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert (len(passed), len(refused)) == (33, 17)
    assert {refusal.extra["max_affordable"] for refusal in refused} == {1}
    assert quota(credits_db, org) == (100, 99)
    assert rows(credits_db, "SELECT count(*) FROM grants") == [(1,)]
    assert violations(credits_db) == []


def test_captured_generations_stay_used_and_failed_ones_do_not(credits_db: Database, org: str) -> None:
    job = given_held_job(credits_db, org, *images(4))

    deliver(
        credits_db,
        generation_completed(job, line_id=job.line_ids[0], amount=1),
        generation_failed(job, line_id=job.line_ids[1]),
        generation_completed(job, line_id=job.line_ids[2], amount=0),
    )

    assert quota(credits_db, org) == (100, 2)
    assert violations(credits_db) == []


# --- the month ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_day", "first_day", "zone"),
    [
        ("2031-01-31", "2031-02-01", "UTC"),
        ("2031-02-28", "2031-03-01", "Pacific/Kiritimati"),
        ("2032-02-29", "2032-03-01", "America/New_York"),
        ("2031-03-31", "2031-04-01", "Europe/Berlin"),  # within a day of the change to summer time
        ("2031-10-31", "2031-11-01", "America/New_York"),  # and of the change back
        ("2031-12-31", "2032-01-01", "Pacific/Pago_Pago"),
    ],
)
def test_at_midnight_utc_on_the_first_nothing_is_used(
    credits_db: Database, org: str, last_day: str, first_day: str, zone: str
) -> None:
    held_at(credits_db, org, *images(90), now=at(f"{last_day}T12:00:00"))

    with credits_db.transaction(org_id=org) as session:
        session.execute(sa.text(f"SET LOCAL timezone = '{zone}'"))
        (before,) = ledger.reserve(session, [request(org, *images(11))], now=at(f"{last_day}T23:59:59.999"))
        (after,) = ledger.reserve(session, [request(org, *images(101))], now=at(f"{first_day}T00:00:00"))

    assert (lines(before), lines(after)) == (10, 100)
    assert (before.extra["used"], after.extra["used"]) == (90, 0)
    assert before.extra["resets_at"] == f"{first_day}T00:00:00Z"
    assert first_day in str(before)
    assert quota(credits_db, org, now=at(f"{last_day}T23:59:59.999")) == (100, 90)
    assert quota(credits_db, org, now=at(f"{first_day}T00:00:00")) == (100, 0)
    assert violations(credits_db) == []


def test_the_29th_of_february_is_a_day_of_its_month(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(60), now=at("2032-02-28T23:00:00"))

    (refused,) = ask(credits_db, request(org, *images(60)), now=at("2032-02-29T01:00:00"))

    assert lines(refused) == 40


def test_what_is_left_of_a_month_is_taken_out_silently(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(30), now=IN_NOVEMBER)

    accounts.expire_grants(credits_db, now=at("2031-12-01T00:00:00"))

    assert left(credits_db, org) == [0]
    assert told(credits_db, CreditsExpired) == []
    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 30)
    assert violations(credits_db) == []


@pytest.mark.parametrize("swept", [False, True])
def test_a_line_of_november_that_fails_in_december_counts_in_november_and_does_not_enlarge_december(
    credits_db: Database, org: str, *, swept: bool
) -> None:
    november = held_at(credits_db, org, *images(40), now=IN_NOVEMBER)
    held_at(credits_db, org, *images(10), now=IN_DECEMBER)
    if swept:
        accounts.expire_grants(credits_db, now=IN_DECEMBER)

    settled_at(credits_db, november, now=IN_DECEMBER)

    assert quota(credits_db, org, now=IN_DECEMBER) == (100, 10)
    (refused,) = ask(credits_db, request(org, *images(91)), now=IN_DECEMBER)
    assert lines(refused) == 90
    assert rows(credits_db, "SELECT count(*) FROM grants WHERE origin_id IS NOT NULL") == [(0,)]
    assert violations(credits_db) == []
    accounts.expire_grants(credits_db, now=IN_DECEMBER)
    assert left_in_grants(credits_db, org, unit="plan_generations") == {
        f"{org}/allowance/2031-11": 0,
        f"{org}/allowance/2031-12": 90,
    }
    assert violations(credits_db) == []


def test_a_charge_of_november_given_back_in_december_does_not_enlarge_december(credits_db: Database, org: str) -> None:
    november = held_at(credits_db, org, *images(5), now=IN_NOVEMBER)
    settled_at(credits_db, november, now=IN_NOVEMBER, amount=1)
    held_at(credits_db, org, *images(10), now=IN_DECEMBER)

    returned_at(credits_db, november, now=IN_DECEMBER)

    assert quota(credits_db, org, now=IN_DECEMBER) == (100, 10)
    (refused,) = ask(credits_db, request(org, *images(100)), now=IN_DECEMBER)
    assert lines(refused) == 90
    assert violations(credits_db) == []


def test_a_refund_within_the_month_gives_the_generations_back(credits_db: Database, org: str) -> None:
    job = held_at(credits_db, org, *images(100), now=IN_NOVEMBER)

    settled_at(credits_db, job, *job.line_ids[:30], now=IN_NOVEMBER)

    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 70)
    (refused,) = ask(credits_db, request(org, *images(31)), now=IN_NOVEMBER)
    assert lines(refused) == 30
    assert violations(credits_db) == []


# --- plans ----------------------------------------------------------------------------------------------------------


def test_a_plan_without_limit_issues_exactly_what_a_hold_lacks(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro", balance=0)

    job = held_at(credits_db, org, *images(180), now=IN_NOVEMBER)
    settled_at(credits_db, job, *job.line_ids[:50], now=IN_NOVEMBER)
    held_at(credits_db, org, *images(70), now=IN_NOVEMBER)

    (grant,) = rows(credits_db, "SELECT amount, remaining FROM grants")
    assert tuple(grant) == (200, 0)
    assert quota(credits_db, org, now=IN_NOVEMBER) == (None, 200)
    assert violations(credits_db) == []


def test_a_plan_without_limit_serves_parallel_requests_exactly(credits_db: Database) -> None:
    org = given_account(credits_db, plan="team", balance=0)

    answers = all_at_once(*[lambda: hold(credits_db, org, *images(7))] * 20)

    assert [len(answer["lines"]) for answer in answers] == [7] * 20
    assert left(credits_db, org) == [0]
    assert quota(credits_db, org) == (None, 140)
    assert violations(credits_db) == []


def test_an_upgrade_lifts_the_limit_at_once(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(85), now=IN_NOVEMBER)

    change = change_plan(credits_db, org, "pro", now=IN_NOVEMBER)
    held_at(credits_db, org, *images(180), now=IN_NOVEMBER)

    assert (change.previous_plan, change.monthly_generations) == ("free", None)
    assert quota(credits_db, org, now=IN_NOVEMBER) == (None, 265)
    assert violations(credits_db) == []


def test_a_downgrade_after_more_was_used_leaves_nothing_and_nothing_below_zero(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro", balance=0)
    held_at(credits_db, org, *images(300), now=IN_NOVEMBER)

    change_plan(credits_db, org, "free", now=IN_NOVEMBER)

    (refused,) = ask(credits_db, request(org, STUDIO_IMAGE), now=IN_NOVEMBER)
    assert (refused.extra["limit"], refused.extra["used"], refused.extra["max_affordable"]) == (100, 300, 0)
    assert left(credits_db, org) == [0]
    (after,) = ask(credits_db, request(org, *images(101)), now=IN_DECEMBER)
    assert lines(after) == 100
    assert violations(credits_db) == []


def test_a_downgrade_leaves_what_the_smaller_plan_still_has(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro", balance=0)
    held_at(credits_db, org, *images(30), now=IN_NOVEMBER)

    change_plan(credits_db, org, "free", now=IN_NOVEMBER)

    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 30)
    assert left(credits_db, org) == [70]
    assert violations(credits_db) == []


def test_a_downgrade_takes_out_what_had_come_back_beyond_the_smaller_plan(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro", balance=0)
    job = held_at(credits_db, org, *images(300), now=IN_NOVEMBER)
    settled_at(credits_db, job, *job.line_ids[:250], now=IN_NOVEMBER)

    change_plan(credits_db, org, "free", now=IN_NOVEMBER)

    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 50)
    assert left(credits_db, org) == [50]
    assert violations(credits_db) == []


def test_what_comes_back_after_a_downgrade_does_not_let_the_smaller_plan_be_passed(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro", balance=0)
    job = held_at(credits_db, org, *images(300), now=IN_NOVEMBER)
    change_plan(credits_db, org, "free", now=IN_NOVEMBER)
    settled_at(credits_db, job, *job.line_ids[:250], now=IN_NOVEMBER)

    (refused,) = ask(credits_db, request(org, *images(51)), now=IN_NOVEMBER)
    held_at(credits_db, org, *images(50), now=IN_NOVEMBER)
    (refused_again,) = ask(credits_db, request(org, STUDIO_IMAGE), now=IN_NOVEMBER)

    assert (refused.extra["used"], refused.extra["max_affordable"]) == (50, 50)
    assert (refused_again.extra["used"], refused_again.extra["max_affordable"]) == (100, 0)
    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 100)
    assert violations(credits_db) == []


def test_there_and_back_again_is_as_if_nothing_had_been(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(85), now=IN_NOVEMBER)
    before = rows(credits_db, "SELECT amount, remaining, withdrawn, expired, notified_percent FROM grants")

    for plan in ("pro", "free", "team", "free"):
        change_plan(credits_db, org, plan, now=IN_NOVEMBER)

    assert rows(credits_db, "SELECT amount, remaining, withdrawn, expired, notified_percent FROM grants") == before
    assert quota(credits_db, org, now=IN_NOVEMBER) == (100, 85)
    assert violations(credits_db) == []


def test_there_and_back_again_with_work_between_counts_all_of_it(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(40), now=IN_NOVEMBER)
    change_plan(credits_db, org, "pro", now=IN_NOVEMBER)
    held_at(credits_db, org, *images(20), now=IN_NOVEMBER)
    change_plan(credits_db, org, "free", now=IN_NOVEMBER)

    (refused,) = ask(credits_db, request(org, *images(41)), now=IN_NOVEMBER)

    assert (refused.extra["used"], refused.extra["max_affordable"]) == (60, 40)
    assert violations(credits_db) == []


def test_a_change_of_plan_is_told_with_both_plans_and_who_did_it(credits_db: Database, org: str) -> None:
    answer = accounts.change_plan(credits_db, org_id=org, plan="pro", actor="usr_ada")

    (event,) = told(credits_db, PlanChanged)
    assert (event.org_id, event.plan, event.previous_plan) == (org, "pro", "free")
    assert (event.monthly_generations, event.changed_by) == (None, "usr_ada")
    assert (answer["plan"], answer["quota"]["limit"]) == ("pro", None)


def test_the_same_plan_again_changes_and_tells_nothing(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(40), now=IN_NOVEMBER)
    before = rows(credits_db, "SELECT * FROM grants") + rows(credits_db, "SELECT * FROM organization_plans")

    accounts.change_plan(credits_db, org_id=org, plan="free", actor="usr_ada")

    assert told(credits_db, PlanChanged) == []
    assert rows(credits_db, "SELECT * FROM grants") + rows(credits_db, "SELECT * FROM organization_plans") == before


def test_ten_changes_at_once_to_one_plan_are_one_change(credits_db: Database, org: str) -> None:
    all_at_once(*[lambda: accounts.change_plan(credits_db, org_id=org, plan="pro", actor="usr_ada")] * 10)

    assert len(told(credits_db, PlanChanged)) == 1


def test_holds_and_changes_of_plan_at_once_keep_the_books(credits_db: Database, org: str) -> None:
    def change(plan: str) -> None:
        accounts.change_plan(credits_db, org_id=org, plan=plan, actor="usr_ada")

    holds = [lambda: hold(credits_db, org, *images(9))] * 30
    changes = [lambda plan=plan: change(plan) for plan in ("pro", "free") * 5]

    answers = all_at_once(*holds[:15], *changes, *holds[15:])
    change("free")

    assert {type(answer) for answer in answers if isinstance(answer, BaseException)} <= {QuotaExceeded}
    _, used = quota(credits_db, org)
    assert used == 9 * sum(isinstance(answer, dict) for answer in answers)
    assert sum(left(credits_db, org)) == max(0, 100 - used)
    assert violations(credits_db) == []


@pytest.mark.parametrize(("wrong", "error"), [({"plan": "platinum"}, BadRequest), ({"org_id": "org_none"}, NotFound)])
def test_a_change_that_makes_no_sense_is_refused(
    credits_db: Database, org: str, wrong: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        accounts.change_plan(credits_db, **{"org_id": org, "plan": "pro", "actor": "usr_ada", **wrong})

    assert told(credits_db, PlanChanged) == []


# --- thresholds -----------------------------------------------------------------------------------------------------


def test_80_and_100_percent_are_told_when_they_are_reached_and_once_a_month_each(
    credits_db: Database, org: str
) -> None:
    found = [ask(credits_db, request(org, *images(number)), now=IN_NOVEMBER)[0] for number in (79, 1, 5, 14, 1)]
    (december,) = ask(credits_db, request(org, *images(90)), now=IN_DECEMBER)

    assert [thresholds(answer) for answer in found] == [[], [(80, 80, 100)], [], [], [(100, 100, 100)]]
    assert thresholds(december) == [(80, 90, 100)]
    assert isinstance(december, Reserved)
    period = (december.thresholds[0].period_start, december.thresholds[0].resets_at)
    assert tuple(map(datetime.fromisoformat, period)) == (at("2031-12-01T00:00:00"), at("2032-01-01T00:00:00"))


def test_a_request_that_jumps_over_both_tells_both(credits_db: Database, org: str) -> None:
    hold(credits_db, org, *images(100))

    told_of = told(credits_db, CreditReserved, QuotaThresholdReached)
    assert [type(event) for event in told_of] == [CreditReserved, QuotaThresholdReached, QuotaThresholdReached]
    assert [(event.org_id, event.percent, event.used, event.limit) for event in told_of[1:]] == [
        (org, 80, 100, 100),
        (org, 100, 100, 100),
    ]


def test_a_threshold_is_not_told_again_after_a_refund(credits_db: Database, org: str) -> None:
    job = held_at(credits_db, org, *images(100), now=IN_NOVEMBER)
    settled_at(credits_db, job, now=IN_NOVEMBER)

    (again,) = ask(credits_db, request(org, *images(100)), now=IN_NOVEMBER)

    assert thresholds(again) == []


def test_a_threshold_is_not_told_again_after_a_change_of_plan_and_back(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(80), now=IN_NOVEMBER)
    change_plan(credits_db, org, "pro", now=IN_NOVEMBER)
    change_plan(credits_db, org, "free", now=IN_NOVEMBER)

    (again,) = ask(credits_db, request(org, STUDIO_IMAGE), now=IN_NOVEMBER)

    assert thresholds(again) == []


def test_each_threshold_is_told_once_when_many_reach_it_at_once(credits_db: Database, org: str) -> None:
    all_at_once(*[lambda: hold(credits_db, org, *images(5))] * 20)

    assert sorted(event.percent for event in told(credits_db, QuotaThresholdReached)) == [80, 100]


def test_requests_of_one_batch_each_tell_what_they_reached(credits_db: Database, org: str) -> None:
    answers = ask(credits_db, *(request(org, *images(number)) for number in (79, 10, 11)), now=IN_NOVEMBER)

    assert [thresholds(answer) for answer in answers] == [[], [(80, 89, 100)], [(100, 100, 100)]]


def test_a_refused_request_reaches_nothing(credits_db: Database, org: str) -> None:
    held_at(credits_db, org, *images(70), now=IN_NOVEMBER)

    refused, held = ask(credits_db, request(org, *images(31)), request(org, *images(9)), now=IN_NOVEMBER)

    assert isinstance(refused, QuotaExceeded)
    assert thresholds(held) == []


def test_plans_without_limit_reach_no_threshold(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro", balance=0)

    hold(credits_db, org, *images(300))

    assert told(credits_db, QuotaThresholdReached) == []


# --- walls ----------------------------------------------------------------------------------------------------------


def test_no_organization_opens_the_allowance_of_another(credits_db: Database, org: str) -> None:
    stranger = given_account(credits_db, plan="free", balance=0)

    with pytest.raises(DBAPIError, match="allowance of another"), credits_db.transaction(org_id=stranger) as session:
        session.execute(sa.text("SELECT issue_allowance(:org, 0, now())"), {"org": org})

    assert left_in_grants(credits_db, org, unit="plan_generations") == {}


def test_a_tenant_without_a_name_opens_no_allowance(credits_db: Database, org: str) -> None:
    with pytest.raises(DBAPIError, match="allowance of another"), credits_db.transaction(org_id="") as session:
        session.execute(sa.text("SELECT issue_allowance(:org, 0, now())"), {"org": org})

    assert left_in_grants(credits_db, org, unit="plan_generations") == {}


def test_no_organization_issues_itself_more_than_its_plan_has(credits_db: Database, org: str) -> None:
    with credits_db.transaction(org_id=org) as session:
        for lacking in (1_000_000, 0, 5):
            session.execute(sa.text("SELECT issue_allowance(:org, :lacking, now())"), {"org": org, "lacking": lacking})

    assert left(credits_db, org) == [100]


def test_an_allowance_of_a_month_to_come_is_not_spent_in_this_one(credits_db: Database, org: str) -> None:
    with credits_db.transaction(org_id=org) as session:
        session.execute(sa.text("SELECT issue_allowance(:org, 0, :moment)"), {"org": org, "moment": IN_DECEMBER})

    (refused,) = ask(credits_db, request(org, *images(101)), now=IN_NOVEMBER)

    assert lines(refused) == 100


def test_no_organization_gives_itself_plan_generations_by_hand(credits_db: Database, org: str) -> None:
    hold(credits_db, org, STUDIO_IMAGE)

    for statement in (
        "UPDATE grants SET amount = 1000",
        "UPDATE grants SET withdrawn = 1",
        "INSERT INTO grants SELECT * FROM grants",
        "UPDATE organization_plans SET plan = 'pro'",
        "SELECT change_plan(org_id, 'pro', 'me', now()) FROM organization_plans",
    ):
        with pytest.raises(DBAPIError, match="permission denied"), credits_db.transaction(org_id=org) as session:
            session.execute(sa.text(statement))

    assert quota(credits_db, org) == (100, 1)


def test_a_plan_is_changed_only_from_the_one_that_was_seen(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0, plan="free")

    accounts.change_plan(credits_db, org_id=org, plan="pro", actor="usr_1", only_from="free")
    with pytest.raises(PreconditionFailed):
        accounts.change_plan(credits_db, org_id=org, plan="team", actor="usr_2", only_from="free")

    with credits_db.transaction() as session:
        assert queries.balance(session, org_id=org)["plan"] == "pro"
    assert len(told(credits_db, PlanChanged)) == 1
