"""Pooled connections: how often they talk to PostgreSQL, and what becomes of a transaction that fails."""

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InternalError

from deploy.local.stack import Postgres
from shared.database import Database
from tests.polling import until
from tests.service.shared.wire import refunded

INSERT = sa.text("INSERT INTO effects (line_id) VALUES (:line)")
LINES = "SELECT line_id FROM effects ORDER BY line_id"
LOGGED = re.compile(r"LOG:  statement: (.*)")

Heard = Callable[[], list[str]]


@pytest.fixture
def heard(db: Database, server: Postgres) -> Iterator[Heard]:
    """Return a function that returns what the server was told since, a line for each message: each is a round trip."""
    superuser = sa.create_engine(server.superuser_url, isolation_level="AUTOCOMMIT")
    with superuser.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {db.url.database} SET log_statement = 'all'"))
    with db.transaction():  # the connection is open when the test begins
        pass
    before = len(LOGGED.findall(server.log.read_text()))

    def told() -> list[str]:
        last = f"SELECT '{secrets.token_hex(8)}'"
        with contextlib.closing(db.connect()) as other:
            other.autocommit = True
            other.cursor().execute(last)
        until(lambda: last in server.log.read_text(), what="the log")
        return LOGGED.findall(server.log.read_text())[before:-1]

    yield told
    superuser.dispose()


def lines(db: Database) -> list[str]:
    with db.transaction() as session:
        return list(session.execute(sa.text(LINES)).scalars())


def as_owner(db: Database, *statements: str) -> None:
    with db.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def in_outbox(db: Database) -> list[str]:
    with db.transaction() as session:
        return list(session.execute(sa.text("SELECT event_id FROM outbox ORDER BY id")).scalars())


def insert_twice(db: Database) -> None:
    with db.transaction() as session:
        session.execute(INSERT, [{"line": "twice"}, {"line": "twice"}])


def insert_and_publish(db: Database) -> None:
    with db.transaction() as session:
        session.execute(INSERT, {"line": "a"})
        db.publish(session, [refunded()])


def insert_and_let_fail(db: Database) -> None:
    with db.transaction() as session:
        session.execute(INSERT, {"line": "a"})
        with contextlib.suppress(DBAPIError):
            session.execute(sa.text("SELECT 1 / 0"))


def test_a_transaction_takes_a_round_trip_a_statement_and_two_more(db: Database, heard: Heard) -> None:
    with db.transaction() as session:
        session.execute(INSERT, {"line": "a"})
        db.publish(session, [refunded(), refunded()])
        db.publish(session, [refunded()])

    opened, inserted, committed = heard()
    assert opened.startswith("BEGIN; SELECT set_config(")
    assert inserted == "INSERT INTO effects (line_id) VALUES ('a')"
    assert committed.startswith("INSERT INTO outbox ")
    assert committed.endswith("; NOTIFY outbox; COMMIT")


def test_one_that_fails_is_rolled_back_and_takes_its_events_along(db: Database, heard: Heard) -> None:
    with db.transaction() as session:
        session.execute(sa.text("SELECT 1"))
    with contextlib.suppress(ZeroDivisionError), db.transaction() as session:
        db.publish(session, [refunded()])
        _ = 1 / 0

    said = [told.split(" ")[0] for told in heard()]
    assert said == ["BEGIN;", "SELECT", "COMMIT", "BEGIN;", "ROLLBACK"]
    assert in_outbox(db) == []


def test_events_of_several_calls_are_written_in_the_order_they_were_published(db: Database) -> None:
    first, second, third = (refunded() for _ in range(3))

    with db.transaction() as session:
        db.publish(session, [first, second])
        db.publish(session, [third])

    assert in_outbox(db) == [event.meta.id for event in (first, second, third) if event.meta]


def test_where_the_events_cannot_be_written_nothing_is_committed(db: Database) -> None:
    as_owner(db, "ALTER TABLE outbox ADD CONSTRAINT closed CHECK (event_id = '')")

    with pytest.raises(DBAPIError, match="closed"):
        insert_and_publish(db)

    assert lines(db) == []


def test_a_constraint_that_is_checked_at_the_commit_fails_it(db: Database) -> None:
    as_owner(db, "ALTER TABLE effects ADD CONSTRAINT one_each UNIQUE (line_id) DEFERRABLE INITIALLY DEFERRED")

    with pytest.raises(DBAPIError, match="one_each"):
        insert_twice(db)

    assert lines(db) == []


def test_a_transaction_in_which_a_statement_failed_is_not_taken_for_committed(db: Database) -> None:
    with pytest.raises(InternalError, match="can only be rolled back"):
        insert_and_let_fail(db)

    assert lines(db) == []
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # QueuePool has it, Pool's type does not


def test_many_rows_at_once_are_one_transaction(db: Database) -> None:
    as_owner(db, "ALTER TABLE effects ALTER line_id SET NOT NULL")

    with contextlib.suppress(psycopg2.Error), db.engine.connect() as connection:
        connection.connection.cursor().executemany("INSERT INTO effects VALUES (%s)", [("a",), (None,)])
        connection.commit()

    assert lines(db) == []


def test_a_connection_without_transactions_commits_each_statement(db: Database) -> None:
    as_owner(db, "ALTER TABLE effects NO FORCE ROW LEVEL SECURITY")

    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM effects"))
        connection.execute(INSERT, {"line": "kept"})
        connection.rollback()
    with db.engine.connect() as connection:  # the same one of the pool, which is as it was before
        connection.execute(INSERT, {"line": "undone"})

    assert lines(db) == ["kept"]


def test_an_isolation_level_nobody_has_thought_about_is_refused(db: Database) -> None:
    with db.engine.connect() as connection, pytest.raises(psycopg2.NotSupportedError, match="READ COMMITTED"):
        connection.execution_options(isolation_level="SERIALIZABLE")
