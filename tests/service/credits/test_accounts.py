"""Accounts and grants: opened once, filled once, shown as they are."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from services.credits import accounts, queries
from shared.database import Database
from shared.events import CreditsGranted
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, NotFound
from tests.builders import VARIANT, generation_failed, given_account, given_held_job, hold
from tests.service.credits.ledger_steps import balance, change, deliver, rows, told, violations

GRANT: dict[str, Any] = {"amount": 50, "kind": "purchased", "reason": "invoice 7", "actor": "admin Ada"}


def shown(db: Database, org_id: str) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return queries.balance(session, org_id=org_id)


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


def test_the_quota_counts_the_plan_generations_of_this_month_less_those_given_back(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free")
    change(credits_db, "UPDATE accounts SET available = 100 WHERE unit = 'plan_generations' AND kind = 'wallet'")
    job = given_held_job(credits_db, org, *["studio.image"] * 4)
    last_month = given_held_job(credits_db, org, *["studio.image"] * 4)
    change(
        credits_db,
        "UPDATE lines SET created_at = date_trunc('month', now(), 'UTC') - interval '1 second' WHERE job_id = :job",
        job=last_month.job_id,
    )
    deliver(credits_db, generation_failed(job))

    quota = shown(credits_db, org)["quota"]

    assert (quota["limit"], quota["used"]) == (100, 3)
    resets_at = datetime.fromisoformat(quota["resets_at"])
    now = datetime.now(UTC)
    assert resets_at == datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


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
