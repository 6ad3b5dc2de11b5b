"""What the database itself refuses, whatever the code asks: other organizations' rows, rewriting, overdrawing."""

from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from services.credits import accounts, history, queries, quotes, receipts
from shared.database import Database
from shared.problems import NotFound
from tests.builders import VARIANT, generation_completed, given_account, given_held_job
from tests.service.credits.ledger_steps import deliver, rows

PRIVATE = (
    "accounts",
    "entries",
    "reservations",
    "lines",
    "grants",
    "organization_plans",
    "quotes",
    "adjustments",
    "daily_usage",
)


@pytest.fixture
def org(credits_db: Database) -> str:
    """An organization with rows in every table."""
    org_id = given_account(credits_db)
    deliver(credits_db, generation_completed(given_held_job(credits_db, org_id)))
    accounts.adjust(credits_db, adjustment_id="adj_1", org_id=org_id, amount=5, reason="goodwill", actor="admin Ada")
    quotes.quote(
        credits_db,
        org_id=org_id,
        livemode=True,
        quote_id="quo_1",
        workflow="staging",
        fingerprint="abc",
        skus={VARIANT: 1},
        images=1,
        estimated_seconds=30,
    )
    return org_id


def answers(db: Database, asked: str, *, asker: str | None) -> dict[str, Any]:
    """Return all that can be asked about an organization, asked in a transaction of the asker's."""
    with db.transaction(org_id=asker) as session:
        job_id = session.scalar(sa.text("SELECT job_id FROM reservations WHERE org_id = :org"), {"org": asked})
        return {
            "balance": queries.balance(session, org_id=asked),
            "usage": queries.usage(session, org_id=asked),
            "entries": history.entries(session, org_id=asked),
            "receipt": receipts.receipt(session, org_id=asked, job_id=job_id or ""),
            "prices": queries.pricing(session),
            "plans": queries.plans(session),
        }


def run(db: Database, statement: str, *, org_id: str | None = None) -> sa.Result[Any]:
    with db.transaction(org_id=org_id, livemode=True) as session:
        return session.execute(sa.text(statement))


def refusal(db: Database, statement: str, *, org_id: str | None = None) -> type[BaseException]:
    """Run a statement that must fail; return the class of the database's error."""
    with pytest.raises(DBAPIError) as error:
        run(db, statement, org_id=org_id)
    assert error.value.orig
    return type(error.value.orig)


@pytest.mark.parametrize("table", PRIVATE)
def test_a_second_organization_sees_nothing_with_the_where_removed(credits_db: Database, org: str, table: str) -> None:
    with credits_db.transaction(org_id="org_second", livemode=True) as session:
        theirs = session.execute(sa.text(f"SELECT * FROM {table}")).all()
    with credits_db.transaction(org_id=org, livemode=True) as session:
        own = session.execute(sa.text(f"SELECT * FROM {table}")).all()

    assert theirs == []
    assert own
    assert {row.org_id for row in own} == {org}


def test_an_organization_may_ask_for_all_that_is_its_own(credits_db: Database, org: str) -> None:
    assert answers(credits_db, org, asker=org) == answers(credits_db, org, asker=None)


def test_asked_in_a_transaction_of_another_organization_nothing_is_known(credits_db: Database, org: str) -> None:
    (job_id,) = rows(credits_db, "SELECT job_id FROM reservations WHERE org_id = :org", org=org)[0]

    with credits_db.transaction(org_id="org_second") as session:
        assert history.entries(session, org_id=org)["data"] == []
        assert queries.usage(session, org_id=org)["data"] == []
        with pytest.raises(NotFound):
            queries.balance(session, org_id=org)
        with pytest.raises(NotFound):
            receipts.receipt(session, org_id=org, job_id=job_id)


@pytest.mark.parametrize("table", ["accounts", "reservations", "lines", "quotes"])
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


@pytest.mark.parametrize("table", ["accounts", "grants", "organization_plans", "adjustments", "daily_usage"])
def test_a_tenant_can_open_no_account_and_give_itself_nothing(credits_db: Database, org: str, table: str) -> None:
    statement = f"INSERT INTO {table} (org_id) VALUES ('{org}')"

    assert refusal(credits_db, statement, org_id=org) is psycopg2.errors.InsufficientPrivilege


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE grants SET amount = amount + 1",
        "UPDATE grants SET expired = 0, withdrawn = 0",
        "UPDATE grants SET expires_at = NULL",
        "UPDATE daily_usage SET provider_cost_microusd = 0",
        "UPDATE organization_plans SET daily_cost_cap_microusd = NULL",
        "UPDATE adjustments SET amount = 1",
        "DELETE FROM grants",
        "DELETE FROM daily_usage",
    ],
)
def test_a_tenant_cannot_make_its_grants_larger_or_its_usage_smaller(
    credits_db: Database, org: str, statement: str
) -> None:
    assert refusal(credits_db, statement, org_id=org) is psycopg2.errors.InsufficientPrivilege


def test_a_tenant_cannot_spend_from_the_grants_of_another(credits_db: Database, org: str) -> None:
    before = rows(credits_db, "SELECT id, remaining FROM grants WHERE org_id = :org ORDER BY id", org=org)

    run(credits_db, "UPDATE grants SET remaining = 0", org_id="org_second")

    assert rows(credits_db, "SELECT id, remaining FROM grants WHERE org_id = :org ORDER BY id", org=org) == before


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
