"""Grants: spent soonest-expiring first, refilled by what comes back, and gone when their time is over."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.credits import accounts
from shared.database import Database
from shared.events import CreditsExpired, CreditsGranted
from shared.problems import BadRequest, Conflict, InsufficientCredits
from tests.builders import (
    BASE_VIEWS,
    SMALL_EDIT,
    VARIANT,
    HeldJob,
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
    balance,
    deliver,
    give,
    held_at,
    history,
    left_in_grants,
    request,
    returned_at,
    rows,
    settled_at,
    told,
    violations,
)

IN_TWO_MONTHS = datetime.now(UTC) + timedelta(days=60)


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=0)


def taken(db: Database, job: HeldJob) -> list[list[tuple[str, int]]]:
    """Return what each line took from which grant, in the order of spending."""
    found = rows(db, "SELECT grant_ids, grant_amounts FROM lines WHERE job_id = :job ORDER BY line_id", job=job.job_id)
    return [list(zip(line.grant_ids, line.grant_amounts, strict=True)) for line in found]


def returned_grants(db: Database, org_id: str) -> list[Any]:
    return list(rows(db, "SELECT * FROM grants WHERE org_id = :org AND origin_id IS NOT NULL ORDER BY id", org=org_id))


def test_the_grant_that_expires_soonest_is_spent_first(credits_db: Database, org: str) -> None:
    give(credits_db, org, 10, "never")
    give(credits_db, org, 10, "in_9_days", days=9)
    give(credits_db, org, 10, "in_2_days", days=2)

    remaining = []
    for _ in range(3):
        hold(credits_db, org, VARIANT)
        remaining.append(left_in_grants(credits_db, org))

    assert remaining == [
        {"never": 10, "in_9_days": 10, "in_2_days": 0},
        {"never": 10, "in_9_days": 0, "in_2_days": 0},
        {"never": 0, "in_9_days": 0, "in_2_days": 0},
    ]
    assert violations(credits_db) == []


def test_a_lower_priority_is_spent_first_and_expiry_counts_before_it(credits_db: Database, org: str) -> None:
    give(credits_db, org, 10, "bought")
    give(credits_db, org, 10, "promised", kind="promotional")
    give(credits_db, org, 10, "urgent", priority=1)
    give(credits_db, org, 10, "bought_and_expiring", days=300)

    job = given_held_job(credits_db, org, *[VARIANT] * 4)

    assert taken(credits_db, job) != []
    order = rows(
        credits_db,
        "SELECT grant_ids FROM lines l JOIN entries e USING (job_id, line_id) WHERE e.version > 0 ORDER BY e.version",
    )
    assert [row.grant_ids for row in order] == [["bought_and_expiring"], ["urgent"], ["promised"], ["bought"]]
    assert violations(credits_db) == []


def test_of_grants_that_are_alike_the_older_is_spent_first(credits_db: Database, org: str) -> None:
    for grant_id in ("z_first", "y_second", "x_third"):
        give(credits_db, org, 10, grant_id)

    hold(credits_db, org, VARIANT)
    hold(credits_db, org, BASE_VIEWS)

    assert left_in_grants(credits_db, org) == {"z_first": 0, "y_second": 7, "x_third": 10}


def test_a_line_takes_from_several_grants_and_gives_back_to_exactly_those(credits_db: Database, org: str) -> None:
    give(credits_db, org, 3, "soon", days=1)
    give(credits_db, org, 4, "later", days=2)
    give(credits_db, org, 50, "never")

    job = given_held_job(credits_db, org, VARIANT)
    while_held = left_in_grants(credits_db, org)
    deliver(credits_db, generation_failed(job))

    assert while_held == {"soon": 0, "later": 0, "never": 47}
    assert left_in_grants(credits_db, org) == {"soon": 3, "later": 4, "never": 50}
    assert violations(credits_db) == []


def test_what_is_charged_came_from_the_first_grant_and_the_rest_returns_to_the_last(
    credits_db: Database, org: str
) -> None:
    give(credits_db, org, 3, "soon", days=1)
    give(credits_db, org, 4, "later", days=2)
    give(credits_db, org, 50, "never")
    job = given_held_job(credits_db, org, VARIANT)

    deliver(credits_db, generation_completed(job, amount=5))

    assert left_in_grants(credits_db, org) == {"soon": 0, "later": 2, "never": 50}
    assert balance(credits_db, org)[:2] == (52, 0)
    assert violations(credits_db) == []


def test_lines_of_one_call_share_the_grants_out_in_their_order(credits_db: Database, org: str) -> None:
    give(credits_db, org, 15, "soon", days=1)
    give(credits_db, org, 10, "later", days=2)

    job = given_held_job(credits_db, org, VARIANT, VARIANT, BASE_VIEWS)

    found = rows(credits_db, "SELECT line_id, grant_ids, grant_amounts FROM lines")
    by_line = {row.line_id: dict(zip(row.grant_ids, row.grant_amounts, strict=True)) for row in found}
    assert [by_line[line_id] for line_id in job.line_ids] == [
        {"soon": 10},
        {"soon": 5, "later": 5},
        {"later": 3},
    ]
    assert left_in_grants(credits_db, org) == {"soon": 0, "later": 2}
    assert violations(credits_db) == []


def test_a_charge_given_back_returns_to_the_grants_it_was_taken_from(credits_db: Database, org: str) -> None:
    give(credits_db, org, 3, "soon", days=1)
    give(credits_db, org, 50, "never")
    job = given_held_job(credits_db, org, VARIANT)
    deliver(credits_db, generation_completed(job, amount=5))

    returned_at(credits_db, job, now=datetime.now(UTC))

    assert left_in_grants(credits_db, org) == {"soon": 3, "never": 50}
    assert violations(credits_db) == []


def test_what_has_expired_is_not_spent_even_before_it_is_swept(credits_db: Database, org: str) -> None:
    give(credits_db, org, 100, "expiring", days=1)
    give(credits_db, org, 15, "never")

    (refused,) = ask(credits_db, request(org, VARIANT, VARIANT), now=IN_TWO_MONTHS)
    held_at(credits_db, org, VARIANT, now=IN_TWO_MONTHS)

    assert isinstance(refused, InsufficientCredits)
    assert refused.extra == {"unit": "credits", "required": 20, "available": 15, "max_affordable": 1}
    assert left_in_grants(credits_db, org) == {"expiring": 100, "never": 5}


@pytest.mark.parametrize(("moment", "outcome"), [("11:59:59.999999", "Reserved"), ("12:00:00", "InsufficientCredits")])
def test_a_grant_is_good_up_to_its_last_moment(credits_db: Database, org: str, moment: str, outcome: str) -> None:
    give(credits_db, org, 10, "expiring", expires_at="2031-05-01T12:00:00Z")

    (answer,) = ask(credits_db, request(org, VARIANT), now=at(f"2031-05-01T{moment}"))

    assert type(answer).__name__ == outcome


def test_the_sweep_takes_what_has_expired_out_of_the_wallet_and_tells_of_it(credits_db: Database, org: str) -> None:
    give(credits_db, org, 30, "expiring", days=1, kind="promotional")
    give(credits_db, org, 50, "never")
    hold(credits_db, org, VARIANT)

    count = accounts.expire_grants(credits_db, now=IN_TWO_MONTHS)

    assert count == 1
    assert balance(credits_db, org)[:2] == (50, 10)
    (event,) = told(credits_db, CreditsExpired)
    assert (event.grant_id, event.org_id, event.amount, event.kind) == ("expiring", org, 20, "promotional")
    assert (event.unit, event.available, event.version) == ("credits", 50, balance(credits_db, org)[2])
    assert [entry["amount"] for entry in history(credits_db, org, kind="expiry")] == [-20]
    assert violations(credits_db) == []


def test_ten_sweeps_at_once_take_each_grant_once(credits_db: Database) -> None:
    orgs = [given_account(credits_db, balance=5) for _ in range(3)]
    for org_id in orgs:
        for number in range(3):
            give(credits_db, org_id, 10, f"{org_id}/{number}", days=1)

    counts = all_at_once(*[lambda: accounts.expire_grants(credits_db, now=IN_TWO_MONTHS)] * 10)

    assert sum(counts) == 9
    assert len(told(credits_db, CreditsExpired)) == 9
    assert [balance(credits_db, org_id)[0] for org_id in orgs] == [5, 5, 5]
    assert violations(credits_db) == []


def test_nothing_is_swept_before_its_time_or_when_nothing_is_left_of_it(credits_db: Database, org: str) -> None:
    give(credits_db, org, 10, "spent", days=1)
    give(credits_db, org, 20, "good", days=90)
    hold(credits_db, org, VARIANT)

    assert accounts.expire_grants(credits_db, now=IN_TWO_MONTHS) == 0
    assert told(credits_db, CreditsExpired) == []
    assert balance(credits_db, org)[:2] == (20, 10)


@pytest.mark.parametrize("swept", [False, True])
def test_what_comes_back_after_its_grant_expired_is_good_for_thirty_more_days(
    credits_db: Database, org: str, *, swept: bool
) -> None:
    give(credits_db, org, 12, "expiring", days=1)
    job = given_held_job(credits_db, org, VARIANT)
    if swept:
        accounts.expire_grants(credits_db, now=IN_TWO_MONTHS)

    settled_at(credits_db, job, now=IN_TWO_MONTHS)

    (own,) = returned_grants(credits_db, org)
    assert (own.id, own.kind) == (f"{job.job_id}/{job.line_ids[0]}/returned", "compensation")
    assert (own.amount, own.remaining, own.origin_id) == (10, 10, "expiring")
    assert own.expires_at == IN_TWO_MONTHS + timedelta(days=30)
    assert left_in_grants(credits_db, org)["expiring"] == (0 if swept else 2)
    assert violations(credits_db) == []
    held_at(credits_db, org, VARIANT, now=IN_TWO_MONTHS + timedelta(days=29))
    assert balance(credits_db, org)[:2] == ((0 if swept else 2), 10)


def test_what_came_back_late_expires_after_its_thirty_days(credits_db: Database, org: str) -> None:
    give(credits_db, org, 10, "expiring", days=1)
    job = given_held_job(credits_db, org, VARIANT)
    settled_at(credits_db, job, now=IN_TWO_MONTHS)

    early = accounts.expire_grants(credits_db, now=IN_TWO_MONTHS + timedelta(days=30, microseconds=-1))
    late = accounts.expire_grants(credits_db, now=IN_TWO_MONTHS + timedelta(days=30))

    assert (early, late) == (0, 1)
    assert balance(credits_db, org)[:2] == (0, 0)
    assert violations(credits_db) == []


def test_of_a_line_over_two_grants_only_the_expired_part_becomes_a_grant_of_its_own(
    credits_db: Database, org: str
) -> None:
    give(credits_db, org, 4, "expiring", days=1)
    give(credits_db, org, 50, "never")
    job = given_held_job(credits_db, org, VARIANT)

    settled_at(credits_db, job, now=IN_TWO_MONTHS)

    (own,) = returned_grants(credits_db, org)
    assert (own.amount, own.origin_id) == (4, "expiring")
    assert left_in_grants(credits_db, org) == {"expiring": 0, "never": 50, own.id: 4}
    assert balance(credits_db, org)[:2] == (54, 0)
    assert violations(credits_db) == []


def test_a_line_whose_two_grants_have_both_expired_comes_back_whole(credits_db: Database, org: str) -> None:
    give(credits_db, org, 4, "first", days=1)
    give(credits_db, org, 8, "second", days=2)
    job = given_held_job(credits_db, org, VARIANT)

    settled_at(credits_db, job, now=IN_TWO_MONTHS)

    assert sum(own.remaining for own in returned_grants(credits_db, org)) == 10
    held_at(credits_db, org, VARIANT, now=IN_TWO_MONTHS)
    assert violations(credits_db) == []


def test_a_charge_given_back_after_its_grant_expired_is_good_for_thirty_more_days(
    credits_db: Database, org: str
) -> None:
    give(credits_db, org, 4, "expiring", days=1)
    give(credits_db, org, 50, "never")
    job = given_held_job(credits_db, org, VARIANT)
    deliver(credits_db, generation_completed(job, amount=10))

    returned_at(credits_db, job, now=IN_TWO_MONTHS)

    (own,) = returned_grants(credits_db, org)
    assert (own.amount, own.kind, own.origin_id) == (4, "compensation", "expiring")
    assert own.expires_at == IN_TWO_MONTHS + timedelta(days=30)
    assert left_in_grants(credits_db, org) == {"expiring": 0, "never": 50, own.id: 4}
    assert violations(credits_db) == []


def test_a_charge_that_comes_back_later_leaves_the_grant_of_the_earlier_refund_as_it_was(
    credits_db: Database, org: str
) -> None:
    give(credits_db, org, 10, "expiring", days=1)
    job = given_held_job(credits_db, org, VARIANT)
    settled_at(credits_db, job, now=IN_TWO_MONTHS, amount=4)
    (refund,) = returned_grants(credits_db, org)
    other = held_at(credits_db, org, BASE_VIEWS, now=IN_TWO_MONTHS + timedelta(days=1))
    settled_at(credits_db, other, now=IN_TWO_MONTHS + timedelta(days=40))

    returned_at(credits_db, job, now=IN_TWO_MONTHS + timedelta(days=50))

    found = {own.id: own for own in returned_grants(credits_db, org)}
    assert (found[refund.id].remaining, found[refund.id].expires_at) == (3, refund.expires_at)
    assert sorted(own.amount for own in found.values()) == [3, 4, 6]
    assert violations(credits_db) == []


def test_both_halves_of_a_line_may_come_back_late_one_after_the_other(credits_db: Database, org: str) -> None:
    give(credits_db, org, 10, "expiring", days=1)
    job = given_held_job(credits_db, org, VARIANT)

    settled_at(credits_db, job, now=IN_TWO_MONTHS, amount=4)
    after_the_first = balance(credits_db, org)[:2]
    returned_at(credits_db, job, now=IN_TWO_MONTHS + timedelta(days=1))

    assert after_the_first == (6, 0)
    assert balance(credits_db, org)[:2] == (10, 0)
    assert sum(own.remaining for own in returned_grants(credits_db, org)) == 10
    held_at(credits_db, org, VARIANT, now=IN_TWO_MONTHS + timedelta(days=2))
    assert violations(credits_db) == []


def test_many_lines_of_many_organizations_come_back_late_in_one_batch(credits_db: Database) -> None:
    jobs = []
    for number in range(3):
        org_id = given_account(credits_db, balance=0)
        give(credits_db, org_id, 15, f"expiring_{number}", days=1)
        give(credits_db, org_id, 15, f"never_{number}")
        jobs.append(given_held_job(credits_db, org_id, VARIANT, VARIANT, VARIANT))
        settled_at(credits_db, jobs[-1], now=IN_TWO_MONTHS)

    assert [sorted(left_in_grants(credits_db, job.org_id).values()) for job in jobs] == [[0, 5, 10, 15]] * 3
    assert [balance(credits_db, job.org_id)[:2] for job in jobs] == [(30, 0)] * 3
    assert violations(credits_db) == []


def test_the_id_of_a_grant_serves_no_grant_of_another_kind_or_time(credits_db: Database, org: str) -> None:
    give(credits_db, org, 50, "grt_1", days=1)
    others: list[dict[str, Any]] = [{"kind": "promotional"}, {"expires_at": None}, {"days": 2}]

    for other in others:
        with pytest.raises(Conflict):
            give(credits_db, org, 50, "grt_1", **other)

    assert balance(credits_db, org)[0] == 50
    assert len(told(credits_db, CreditsGranted)) == 1


@pytest.mark.parametrize("expiry", ["2001-05-01T12:00:00Z", "tomorrow", "2031-05-01T12:00:00"])
def test_a_grant_that_expires_in_the_past_or_at_no_moment_is_refused(
    credits_db: Database, org: str, expiry: str
) -> None:
    with pytest.raises(BadRequest):
        give(credits_db, org, 50, "grt_1", expires_at=expiry)

    assert left_in_grants(credits_db, org) == {}


def test_a_grant_tells_when_it_expires(credits_db: Database, org: str) -> None:
    give(credits_db, org, 50, "grt_1", expires_at="2031-05-01T14:00:00+02:00")
    give(credits_db, org, 50, "grt_2")

    assert [event.expires_at for event in told(credits_db, CreditsGranted)] == ["2031-05-01T12:00:00.000Z", None]


def test_holds_refunds_and_sweeps_at_once_lose_nothing(credits_db: Database) -> None:
    orgs = [given_account(credits_db, balance=0) for _ in range(2)]
    for org_id in orgs:
        for number in range(6):
            give(credits_db, org_id, 7, f"{org_id}/{number}", days=1 + number % 3)

    def work(org_id: str) -> None:
        job = given_held_job(credits_db, org_id, SMALL_EDIT, BASE_VIEWS)
        settled_at(credits_db, job, job.line_ids[0], now=IN_TWO_MONTHS)
        settled_at(credits_db, job, job.line_ids[1], now=datetime.now(UTC), amount=1)
        returned_at(credits_db, job, now=IN_TWO_MONTHS)

    def sweep() -> None:
        accounts.expire_grants(credits_db, now=datetime.now(UTC) + timedelta(days=1, minutes=1))

    calls: list[Callable[[], None]] = [lambda org_id=org_id: work(org_id) for org_id in orgs * 6]

    answers = all_at_once(*calls, sweep, *calls, sweep)

    unexpected = [
        each for each in answers if isinstance(each, BaseException) and not isinstance(each, InsufficientCredits)
    ]
    assert unexpected == []
    assert [balance(credits_db, org_id)[1] for org_id in orgs] == [0, 0]
    assert violations(credits_db) == []


@given(
    amounts=st.lists(st.integers(1, 25), min_size=1, max_size=12),
    skus=st.lists(st.sampled_from([VARIANT, BASE_VIEWS, SMALL_EDIT]), min_size=1, max_size=12),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_lines_take_from_any_grants_one_after_the_other(
    credits_db: Database, amounts: list[int], skus: list[str]
) -> None:
    org = given_account(credits_db, balance=0)
    for number, amount in enumerate(amounts):
        give(credits_db, org, amount, f"{org}/{number:02}")
    prices = {VARIANT: 10, BASE_VIEWS: 3, SMALL_EDIT: 1}

    (outcome,) = ask(credits_db, request(org, *skus))

    scale = [f"{org}/{number:02}" for number, amount in enumerate(amounts) for _ in range(amount)]
    if sum(prices[sku] for sku in skus) > len(scale):
        assert isinstance(outcome, InsufficientCredits)
        return
    found = rows(credits_db, "SELECT grant_ids, grant_amounts FROM lines WHERE org_id = :org ORDER BY line_id", org=org)
    for sku, line in zip(skus, found, strict=True):
        units, scale = scale[: prices[sku]], scale[prices[sku] :]
        taken = dict(zip(line.grant_ids, line.grant_amounts, strict=True))
        assert taken == {grant_id: units.count(grant_id) for grant_id in units}
    assert left_in_grants(credits_db, org) == {
        grant_id: scale.count(grant_id) for grant_id in (f"{org}/{number:02}" for number in range(len(amounts)))
    }
    assert violations(credits_db) == []
