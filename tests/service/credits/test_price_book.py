"""The price book: rows are added ahead and ended ahead, and never change what something was priced by."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from services.credits.movements import UnknownSku
from shared.database import Database
from tests.builders import VARIANT, given_account, hold
from tests.service.credits.ledger_steps import balance, change, rows

ADD = "INSERT INTO price_book (sku, product, unit, amount, valid_from) VALUES (:sku, 'staging', 'credits', 12, :begins)"


def soon(**ahead: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ahead)


def price(db: Database, moment: datetime, sku: str = VARIANT) -> int | None:
    """Return the price of a SKU at a moment."""
    found = rows(db, "SELECT amount FROM price_at(:sku, :moment)", sku=sku, moment=moment)
    return found[0].amount if found else None


def refusal(db: Database, statement: str, **values: Any) -> type[BaseException]:
    with pytest.raises(DBAPIError) as error:
        change(db, statement, **values)
    assert error.value.orig
    return type(error.value.orig)


def test_a_price_that_begins_later_leaves_todays_alone(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    change(credits_db, ADD, sku=VARIANT, begins=soon(hours=1))

    assert hold(credits_db, org, VARIANT)["available"] == 90
    assert price(credits_db, soon(minutes=59)) == 10
    assert price(credits_db, soon(minutes=61)) == 12


def test_a_new_price_counts_from_its_first_moment(credits_db: Database) -> None:
    begins = soon(hours=1)

    change(credits_db, ADD, sku=VARIANT, begins=begins)

    assert price(credits_db, begins - timedelta(microseconds=1)) == 10
    assert price(credits_db, begins) == 12


def test_a_price_ends_at_its_last_moment_and_the_sku_is_then_unknown(credits_db: Database) -> None:
    ends = soon(hours=1)

    change(credits_db, "UPDATE price_book SET valid_to = :ends WHERE sku = :sku", sku=VARIANT, ends=ends)

    assert price(credits_db, ends - timedelta(microseconds=1)) == 10
    assert price(credits_db, ends) is None


def test_a_price_that_follows_an_ended_one_is_in_force_again(credits_db: Database) -> None:
    change(credits_db, "UPDATE price_book SET valid_to = :ends WHERE sku = :sku", sku=VARIANT, ends=soon(hours=1))
    change(credits_db, ADD, sku=VARIANT, begins=soon(hours=2))

    assert [price(credits_db, soon(minutes=minutes)) for minutes in (30, 90, 150)] == [10, None, 12]


@pytest.mark.parametrize("begins", [{"days": -1}, {"seconds": -1}, {"seconds": 1}])
def test_no_price_begins_in_the_past_or_at_once(credits_db: Database, begins: dict[str, float]) -> None:
    found = refusal(credits_db, ADD, sku=VARIANT, begins=soon(**begins))

    assert found is psycopg2.errors.RestrictViolation
    assert price(credits_db, soon(seconds=5)) == 10


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE price_book SET amount = 1",
        "UPDATE price_book SET valid_from = valid_from - interval '1 day'",
        "UPDATE price_book SET unit = 'plan_generations'",
        "UPDATE price_book SET sku = sku || '.old'",
        "DELETE FROM price_book",
    ],
)
def test_no_price_is_rewritten_or_deleted(credits_db: Database, statement: str) -> None:
    before = rows(credits_db, "SELECT * FROM price_book ORDER BY id")

    found = refusal(credits_db, statement)

    assert found in (psycopg2.errors.RestrictViolation, psycopg2.errors.InsufficientPrivilege)
    assert rows(credits_db, "SELECT * FROM price_book ORDER BY id") == before


@pytest.mark.parametrize("ends", [{"days": -1}, {"seconds": 0}])
def test_no_price_ends_in_the_past_or_at_once(credits_db: Database, ends: dict[str, float]) -> None:
    statement = "UPDATE price_book SET valid_to = :ends WHERE sku = :sku"

    assert refusal(credits_db, statement, sku=VARIANT, ends=soon(**ends)) is psycopg2.errors.RestrictViolation


def test_no_organization_writes_the_price_book(credits_db: Database) -> None:
    org = given_account(credits_db)

    for statement in (ADD, "UPDATE price_book SET valid_to = :begins WHERE sku = :sku"):
        with pytest.raises(DBAPIError, match="permission denied"), credits_db.transaction(org_id=org) as session:
            session.execute(sa.text(statement), {"sku": VARIANT, "begins": soon(hours=1)})


def test_a_job_has_the_prices_of_its_begin_to_its_end(credits_db: Database, tamper: Any) -> None:
    org = given_account(credits_db, balance=100)
    hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_a"])
    tamper(
        "UPDATE price_book SET valid_to = clock_timestamp() WHERE sku = 'staging.variant'",
        "INSERT INTO price_book (sku, product, unit, amount, valid_from)"
        " VALUES ('tech_pack.edit', 'tech_pack', 'credits', 50, clock_timestamp())",
    )

    later = hold(credits_db, org, VARIANT, VARIANT, "tech_pack.edit", job_id="job_1", line_ids=["gen_a", "b", "c"])

    assert [line["amount"] for line in later["lines"]] == [10, 10, 1]
    assert balance(credits_db, org)[:2] == (79, 21)
    with pytest.raises(UnknownSku):
        hold(credits_db, org, VARIANT, job_id="job_2")


def test_a_line_keeps_the_version_of_its_price(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    hold(credits_db, org, VARIANT)

    (line,) = rows(
        credits_db, "SELECT l.amount, p.amount AS price, p.sku FROM lines l JOIN price_book p ON p.id = price_version"
    )
    assert (line.amount, line.price, line.sku) == (10, 10, VARIANT)
