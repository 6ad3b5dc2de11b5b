"""Accounts and grants: opened once, filled once, shown as they are."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from services.credits import accounts, ledger, queries
from shared.database import Database
from shared.events import CreditsGranted
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, NotFound
from tests.builders import VARIANT, generation_failed, given_account, given_held_job, hold
from tests.service.credits.ledger_steps import at, balance, deliver, held_at, rows, settled_at, told, violations

IMAGE = "studio.image"  # 1 plan generation
GRANT: dict[str, Any] = {"amount": 50, "kind": "purchased", "reason": "invoice 7", "actor": "admin Ada"}


def shown(db: Database, org_id: str, **moment: Any) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return queries.balance(session, org_id=org_id, **moment)


def test_an_account_opens_with_its_first_credits_and_tells_of_them(credits_db: Database) -> None:
    answer = accounts.open_account(credits_db, org_id="org_a", plan="pro", amount=1000)

    assert answer == {"available": 1000, "held": 0, "version": 1}
    (event,) = told(credits_db)
    assert isinstance(event, CreditsGranted)
    assert (event.org_id, event.amount, event.unit, event.available) == ("org_a", 1000, "credits", 1000)
    assert violations(credits_db) == []


def test_an_account_may_open_empty_and_tells_nothing(credits_db: Database) -> None:
    answer = accounts.open_account(credits_db, org_id="org_a", plan="free")

    assert answer == {"available": 0, "held": 0, "version": 0}
    assert told(credits_db) == []


def test_opening_again_changes_nothing(credits_db: Database) -> None:
    accounts.open_account(credits_db, org_id="org_a", plan="pro", amount=1000)

    again = accounts.open_account(credits_db, org_id="org_a", plan="free", amount=5)

    assert again == {"available": 1000, "held": 0, "version": 1}
    assert shown(credits_db, "org_a")["plan"] == "pro"


def test_an_account_opened_ten_times_at_once_is_filled_once(credits_db: Database) -> None:
    with ThreadPoolExecutor(10) as pool:
        opened = [
            pool.submit(accounts.open_account, credits_db, org_id="org_a", plan="pro", amount=10) for _ in range(10)
        ]

    assert [each.result()["available"] for each in opened] == [10] * 10
    assert len(told(credits_db, CreditsGranted)) == 1


@pytest.mark.parametrize("wrong", [{"plan": "platinum"}, {"plan": "pro", "amount": -1}])
def test_an_account_that_makes_no_sense_is_refused(credits_db: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        accounts.open_account(credits_db, org_id="org_a", **wrong)

    assert rows(credits_db, "SELECT * FROM organization_plans") == []


def test_a_grant_adds_to_the_wallet_and_is_told(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    answer = accounts.grant(credits_db, grant_id="grt_1", org_id=org, **GRANT)

    assert (answer["available"], answer["held"]) == (150, 0)
    event = told(credits_db, CreditsGranted)[-1]
    assert (event.grant_id, event.amount, event.kind, event.available) == ("grt_1", 50, "purchased", 150)
    assert violations(credits_db) == []


def test_a_grant_repeated_ten_times_at_once_is_given_once(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0)

    with ThreadPoolExecutor(10) as pool:
        given = [pool.submit(accounts.grant, credits_db, grant_id="grt_1", org_id=org, **GRANT) for _ in range(10)]

    assert [each.result()["available"] for each in given] == [50] * 10
    assert len(told(credits_db, CreditsGranted)) == 1


def test_the_id_of_a_grant_serves_no_other_grant(credits_db: Database) -> None:
    first, second = given_account(credits_db), given_account(credits_db)
    accounts.grant(credits_db, grant_id="grt_1", org_id=first, **GRANT)

    for other in ({"org_id": second, **GRANT}, {"org_id": first, **GRANT, "amount": 51}):
        with pytest.raises(Conflict):
            accounts.grant(credits_db, grant_id="grt_1", **other)

    assert (balance(credits_db, first)[0], balance(credits_db, second)[0]) == (150, 100)


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"amount": -5}, {"kind": "stolen"}])
def test_a_grant_that_makes_no_sense_is_refused(credits_db: Database, wrong: dict[str, Any]) -> None:
    org = given_account(credits_db)

    with pytest.raises(BadRequest):
        accounts.grant(credits_db, grant_id="grt_1", org_id=org, **{**GRANT, **wrong})


def test_an_organization_without_an_account_gets_no_grant_and_has_no_balance(credits_db: Database) -> None:
    with pytest.raises(NotFound):
        accounts.grant(credits_db, grant_id="grt_1", org_id="org_unknown", **GRANT)
    with pytest.raises(NotFound):
        shown(credits_db, "org_unknown")

    assert rows(credits_db, "SELECT * FROM grants") == []


def test_the_balance_shows_what_is_free_what_is_held_and_the_plan(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100, plan="pro")
    hold(credits_db, org, VARIANT, VARIANT)

    found = shown(credits_db, org)

    assert (found["available"], found["held"], found["plan"]) == (80, 20, "pro")
    assert (found["quota"]["limit"], found["quota"]["used"]) == (None, 0)


def test_the_quota_counts_the_plan_generations_of_a_month_less_those_given_back(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free")
    late, first = at("2031-11-30T23:59:59.999"), at("2031-12-01T00:00:00")
    last_month = held_at(credits_db, org, *[IMAGE] * 5, now=late)
    job = held_at(credits_db, org, *[IMAGE] * 4, now=first)
    settled_at(credits_db, job, job.line_ids[0], now=first)
    settled_at(credits_db, job, job.line_ids[1], amount=1, now=first)
    settled_at(credits_db, last_month, last_month.line_ids[0], now=first)

    november, december = (shown(credits_db, org, now=now)["quota"] for now in (late, first))

    assert november == {"limit": 100, "used": 4, "resets_at": "2031-12-01T00:00:00.000Z"}
    assert december == {"limit": 100, "used": 3, "resets_at": "2032-01-01T00:00:00.000Z"}


def test_the_quota_of_a_month_in_which_nothing_was_held_is_unused(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free")

    quota = shown(credits_db, org, now=at("2032-02-29T12:00:00"))["quota"]

    assert quota == {"limit": 100, "used": 0, "resets_at": "2032-03-01T00:00:00.000Z"}


def test_the_quota_resets_on_the_first_of_the_month_that_follows_today(credits_db: Database) -> None:
    resets_at = datetime.fromisoformat(shown(credits_db, given_account(credits_db))["quota"]["resets_at"])

    now = datetime.now(UTC)
    assert now < resets_at <= now + timedelta(days=31)
    assert (resets_at.day, resets_at.time(), resets_at.utcoffset()) == (1, time(), timedelta(0))


def test_a_plan_without_limit_counts_what_is_used_all_the_same(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro")
    job = held_at(credits_db, org, *[IMAGE] * 3, now=at("2031-12-01T00:00:00"))
    settled_at(credits_db, job, job.line_ids[0], now=at("2031-12-02T00:00:00"))

    quota = shown(credits_db, org, now=at("2031-12-03T00:00:00"))["quota"]

    assert (quota["limit"], quota["used"]) == (None, 2)


def test_what_was_used_stays_used_when_the_plan_changes(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free")
    now = at("2031-12-01T00:00:00")
    held_at(credits_db, org, *[IMAGE] * 3, now=now)

    with credits_db.transaction() as session:
        ledger.change_plan(session, org_id=org, plan="pro", actor="Una", now=now)
    larger = shown(credits_db, org, now=now)
    with credits_db.transaction() as session:
        ledger.change_plan(session, org_id=org, plan="free", actor="Una", now=now)
    smaller = shown(credits_db, org, now=now)

    assert (larger["plan"], larger["quota"]["limit"], larger["quota"]["used"]) == ("pro", None, 3)
    assert (smaller["plan"], smaller["quota"]["limit"], smaller["quota"]["used"]) == ("free", 100, 3)


def test_the_version_rises_with_every_change_of_the_wallet(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    versions = [balance(credits_db, org)[2]]

    for _ in range(3):
        job = given_held_job(credits_db, org)
        versions.append(balance(credits_db, org)[2])
        deliver(credits_db, generation_failed(job))
        versions.append(balance(credits_db, org)[2])

    assert versions == sorted(set(versions))


def test_ids_of_grants_may_be_of_any_form(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0)

    accounts.grant(credits_db, grant_id=new_id("grt"), org_id=org, **GRANT)
    accounts.grant(credits_db, grant_id=f"{org}/bonus", org_id=org, **GRANT)

    assert balance(credits_db, org)[0] == 100
    assert violations(credits_db) == []
