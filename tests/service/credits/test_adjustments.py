"""Corrections of a wallet by an administrator: once per id, never below what there is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.credits import accounts
from shared.database import Database
from shared.events import CreditsAdjusted
from shared.problems import BadRequest, Conflict, NotFound, QuotaExceeded
from tests.builders import STUDIO_IMAGE, VARIANT, given_account, given_held_job, hold
from tests.service.credits.ledger_steps import (
    all_at_once,
    ask,
    balance,
    change,
    give,
    held_at,
    history,
    left_in_grants,
    request,
    rows,
    settled_at,
    told,
    violations,
)


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=0)


def adjust(db: Database, org_id: str, amount: int, adjustment_id: str = "adj_1", **fields: Any) -> dict[str, Any]:
    known = {"reason": "paid twice", "actor": "admin Ada"}
    return accounts.adjust(db, adjustment_id=adjustment_id, org_id=org_id, amount=amount, **{**known, **fields})


def test_a_positive_correction_adds_and_is_told(credits_db: Database, org: str) -> None:
    answer = adjust(credits_db, org, 30)

    assert (answer["available"], answer["held"]) == (30, 0)
    (event,) = told(credits_db, CreditsAdjusted)
    assert (event.adjustment_id, event.org_id, event.amount, event.unit) == ("adj_1", org, 30, "credits")
    assert (event.reason, event.available, event.version) == ("paid twice", 30, answer["version"])
    hold(credits_db, org, VARIANT, VARIANT, VARIANT)
    assert violations(credits_db) == []


def test_a_negative_correction_takes_in_the_order_of_spending(credits_db: Database, org: str) -> None:
    give(credits_db, org, 10, "never")
    give(credits_db, org, 10, "never_but_promised", kind="promotional")
    give(credits_db, org, 10, "later", days=20)
    give(credits_db, org, 10, "soon", days=2)

    answer = adjust(credits_db, org, -25)

    assert answer["available"] == 15
    assert left_in_grants(credits_db, org) == {"soon": 0, "later": 0, "never_but_promised": 5, "never": 10}
    (event,) = told(credits_db, CreditsAdjusted)
    assert (event.amount, event.available, event.version) == (-25, 15, answer["version"])
    taken = rows(credits_db, "SELECT actor, reason, amount FROM entries WHERE kind = 'adjustment' AND version > 0")
    assert sorted(entry.amount for entry in taken) == [-10, -10, -5]
    assert {(entry.actor, entry.reason) for entry in taken} == {("admin Ada", "paid twice")}
    assert sum(entry["amount"] for entry in history(credits_db, org, kind="adjustment")) == -25
    assert violations(credits_db) == []


def test_everything_there_is_can_be_taken_and_not_one_credit_more(credits_db: Database, org: str) -> None:
    give(credits_db, org, 30, "grt_1")
    hold(credits_db, org, VARIANT)

    with pytest.raises(Conflict, match="21 are to be taken back, and 20 are available"):
        adjust(credits_db, org, -21)
    after_the_refusal = balance(credits_db, org)[:2]
    adjust(credits_db, org, -20)

    assert after_the_refusal == (20, 10)
    assert balance(credits_db, org)[:2] == (0, 10)
    assert len(told(credits_db, CreditsAdjusted)) == 1
    assert violations(credits_db) == []


def test_what_has_expired_cannot_be_taken_back_and_does_not_count(credits_db: Database, org: str) -> None:
    give(credits_db, org, 50, "expired", days=1)
    give(credits_db, org, 20, "never")
    change(credits_db, "UPDATE grants SET expires_at = now() - interval '1 second' WHERE id = 'expired'")

    with pytest.raises(Conflict, match="20 are available"):
        adjust(credits_db, org, -21)
    adjust(credits_db, org, -5, "adj_2")

    assert left_in_grants(credits_db, org) == {"expired": 50, "never": 15}
    assert violations(credits_db) == []


def test_what_was_held_comes_back_to_a_grant_that_was_corrected(credits_db: Database, org: str) -> None:
    give(credits_db, org, 30, "grt_1")
    job = given_held_job(credits_db, org)
    adjust(credits_db, org, -20)

    settled_at(credits_db, job, now=datetime.now(UTC))

    assert balance(credits_db, org)[:2] == (10, 0)
    assert violations(credits_db) == []


@pytest.mark.parametrize("amount", [-30, 30])
def test_ten_corrections_with_one_id_at_once_are_one(credits_db: Database, org: str, amount: int) -> None:
    give(credits_db, org, 100, "grt_1")

    answers = all_at_once(*[lambda: adjust(credits_db, org, amount)] * 10)

    assert [answer["available"] for answer in answers] == [100 + amount] * 10
    assert len(told(credits_db, CreditsAdjusted)) == 1
    assert rows(credits_db, "SELECT count(*) FROM adjustments") == [(1,)]
    assert violations(credits_db) == []


def test_corrections_and_holds_at_once_never_take_the_same_credit(credits_db: Database, org: str) -> None:
    give(credits_db, org, 60, "soon", days=1)
    give(credits_db, org, 40, "never")
    holds = [lambda: hold(credits_db, org, VARIANT)] * 10
    corrections = [lambda number=number: adjust(credits_db, org, -10, f"adj_{number}") for number in range(10)]

    answers = all_at_once(*[call for pair in zip(holds, corrections, strict=True) for call in pair])

    assert sum(isinstance(answer, dict) for answer in answers) == 10
    held = len(rows(credits_db, "SELECT FROM lines"))
    assert balance(credits_db, org)[:2] == (0, held * 10)
    assert violations(credits_db) == []


@pytest.mark.parametrize("first", [20, -20])
@pytest.mark.parametrize("change_of", ["amount", "sign", "organization", "unit"])
def test_the_id_of_a_correction_serves_no_other_one(credits_db: Database, org: str, first: int, change_of: str) -> None:
    give(credits_db, org, 100, "grt_1")
    other = given_account(credits_db, balance=100)
    adjust(credits_db, org, first)
    before = balance(credits_db, org)

    wrong: dict[str, Any] = {
        "amount": {"org_id": org, "amount": first * 2},
        "sign": {"org_id": org, "amount": -first},
        "organization": {"org_id": other, "amount": first},
        "unit": {"org_id": org, "amount": first, "unit": "plan_generations"},
    }[change_of]
    with pytest.raises(Conflict):
        adjust(credits_db, **wrong)

    assert balance(credits_db, org) == before
    assert balance(credits_db, other)[0] == 100
    assert violations(credits_db) == []


def test_a_correction_whose_id_is_that_of_a_grant_is_refused(credits_db: Database, org: str) -> None:
    give(credits_db, org, 20, "x", kind="compensation")

    with pytest.raises(Conflict):
        adjust(credits_db, org, 20, "x")

    assert balance(credits_db, org)[0] == 20
    assert violations(credits_db) == []


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"amount": 5, "unit": "euros"}])
def test_a_correction_that_makes_no_sense_is_refused(credits_db: Database, org: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        adjust(credits_db, org, **wrong)


@pytest.mark.parametrize("amount", [5, -5])
def test_an_organization_without_an_account_is_not_found(credits_db: Database, amount: int) -> None:
    with pytest.raises(NotFound):
        adjust(credits_db, "org_none", amount)

    assert rows(credits_db, "SELECT * FROM adjustments") == []


def test_plan_generations_can_be_added_and_taken_back_too(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free", balance=0)
    hold(credits_db, org, *[STUDIO_IMAGE] * 100)

    adjust(credits_db, org, 5, unit="plan_generations")
    adjust(credits_db, org, -2, "adj_2", unit="plan_generations")

    (refused,) = ask(credits_db, request(org, *[STUDIO_IMAGE] * 4))
    assert refused.extra["max_affordable"] == 3
    held_at(credits_db, org, *[STUDIO_IMAGE] * 3, now=datetime.now(UTC) + timedelta(seconds=1))
    assert balance(credits_db, org)[:2] == (0, 0)
    assert violations(credits_db) == []


def test_what_was_taken_of_an_allowance_does_not_come_back_with_a_change_of_plan(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0, plan="free")
    adjust(credits_db, org, -99, unit="plan_generations")

    for plan in ("pro", "free"):
        accounts.change_plan(credits_db, org_id=org, plan=plan, actor="usr_1")

    (refused,) = ask(credits_db, request(org, STUDIO_IMAGE, STUDIO_IMAGE))
    assert isinstance(refused, QuotaExceeded)
    assert (refused.extra["used"], refused.extra["max_affordable"]) == (99, 1)
    assert violations(credits_db) == []
