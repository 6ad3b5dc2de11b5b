"""What the database itself refuses, whatever the code asks: other organizations' rows, rewriting, overdrawing."""

from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from shared.database import Database
from tests.builders import generation_completed, given_account, given_held_job
from tests.service.credits.ledger_steps import deliver, rows

PRIVATE = ("accounts", "entries", "reservations", "lines", "grants", "organization_plans")


@pytest.fixture
def org(credits_db: Database) -> str:
    """An organization with rows in every table."""
    org_id = given_account(credits_db)
    deliver(credits_db, generation_completed(given_held_job(credits_db, org_id)))
    return org_id


def run(db: Database, statement: str, *, org_id: str | None = None) -> sa.Result[Any]:
    with db.transaction(org_id=org_id) as session:
        return session.execute(sa.text(statement))


def refusal(db: Database, statement: str, *, org_id: str | None = None) -> type[BaseException]:
    """Run a statement that must fail; return the class of the database's error."""
    with pytest.raises(DBAPIError) as error:
        run(db, statement, org_id=org_id)
    assert error.value.orig
    return type(error.value.orig)


@pytest.mark.parametrize("table", PRIVATE)
def test_a_second_organization_sees_nothing_with_the_where_removed(credits_db: Database, org: str, table: str) -> None:
    with credits_db.transaction(org_id="org_second") as session:
        theirs = session.execute(sa.text(f"SELECT * FROM {table}")).all()
    with credits_db.transaction(org_id=org) as session:
        own = session.execute(sa.text(f"SELECT * FROM {table}")).all()

    assert theirs == []
    assert own
    assert {row.org_id for row in own} == {org}


@pytest.mark.parametrize("table", ["accounts", "reservations", "lines"])
def test_a_second_organization_changes_nothing_with_the_where_removed(
    credits_db: Database, org: str, table: str
) -> None:
    before = rows(credits_db, f"SELECT * FROM {table} WHERE org_id = :org ORDER BY 1, 2", org=org)

    run(credits_db, f"UPDATE {table} SET org_id = org_id", org_id="org_second")

    assert rows(credits_db, f"SELECT * FROM {table} WHERE org_id = :org ORDER BY 1, 2", org=org) == before


def test_a_tenant_cannot_write_an_entry_for_another_organization(credits_db: Database, org: str) -> None:
    statement = (
        "INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, actor)"
        f" VALUES ('t', 1, '{org}', 'credits', 'hold', 1, 'thief')"
    )

    assert refusal(credits_db, statement, org_id="org_second") is psycopg2.errors.InsufficientPrivilege


@pytest.mark.parametrize("table", ["accounts", "grants", "organization_plans"])
def test_a_tenant_can_open_no_account_and_give_itself_nothing(credits_db: Database, org: str, table: str) -> None:
    statement = f"INSERT INTO {table} (org_id) VALUES ('{org}')"

    assert refusal(credits_db, statement, org_id=org) is psycopg2.errors.InsufficientPrivilege


@pytest.mark.parametrize("who", ["tenant", "system"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE entries SET amount = 1", "DELETE FROM entries", "TRUNCATE entries", "UPDATE price_book SET amount = 0"],
)
def test_nobody_who_serves_requests_may_rewrite_the_ledger(
    credits_db: Database, org: str, statement: str, who: str
) -> None:
    assert (
        refusal(credits_db, statement, org_id=org if who == "tenant" else None) is psycopg2.errors.InsufficientPrivilege
    )


@pytest.mark.usefixtures("org")
@pytest.mark.parametrize("statement", ["UPDATE entries SET amount = 1", "DELETE FROM entries", "TRUNCATE entries"])
def test_not_even_the_owner_of_the_tables_changes_an_entry(credits_db: Database, statement: str) -> None:
    with credits_db.engine.connect() as connection:
        connection.execute(sa.text("ALTER TABLE entries NO FORCE ROW LEVEL SECURITY"))

        with pytest.raises(DBAPIError, match="append-only") as error:
            connection.execute(sa.text(statement))

    assert isinstance(error.value.orig, psycopg2.errors.RestrictViolation)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET available = -1 WHERE kind = 'wallet'",
        "UPDATE accounts SET available = 1 WHERE kind = 'held'",
        "UPDATE accounts SET org_id = NULL WHERE kind = 'wallet'",
        "UPDATE lines SET captured_amount = amount + 1",
        "UPDATE lines SET status = 'held'",
        "UPDATE lines SET status = 'refunded'",
        "UPDATE lines SET status = 'gone'",
        "UPDATE reservations SET deadline_at = NULL",
    ],
)
@pytest.mark.usefixtures("org")
def test_a_row_that_makes_no_sense_is_refused(credits_db: Database, statement: str) -> None:
    assert refusal(credits_db, statement) is psycopg2.errors.CheckViolation


@pytest.mark.usefixtures("org")
def test_a_movement_is_written_once(credits_db: Database) -> None:
    statement = (
        "INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, actor)"
        " SELECT transfer_id, account_id, org_id, unit, kind, amount, actor FROM entries LIMIT 1"
    )

    assert refusal(credits_db, statement) is psycopg2.errors.UniqueViolation
