"""Statements that are planned once for a connection."""

import contextlib
import sys

import pytest
import sqlalchemy as sa

from shared.database import Database
from shared.prepared import Prepared, warm

KEEP = Prepared(
    "keep_lines",
    "INSERT INTO effects (line_id) SELECT unnest(CAST(:lines AS text[])) RETURNING line_id, CAST(:mark AS text) mark",
)
COUNT = Prepared("count_lines", "SELECT count(*) FROM effects WHERE line_id LIKE :like OR line_id = :like")
JOIN = Prepared(
    "join_inbox",
    "SELECT count(*) FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS seen (consumer text, event_id text)"
    " JOIN inbox USING (consumer, event_id)",
)
LOCKED = Prepared("count_locked", "SELECT count(*) FROM effects", first="SELECT pg_advisory_xact_lock(:lock)")


@pytest.fixture
def one(database_url: str) -> Database:
    """A database with a single connection."""
    return Database(database_url, application="test", pool_size=1)


def kept(db: Database, *lines: str) -> list[tuple[str, str]]:
    with db.transaction() as session:
        rows = KEEP.execute(session, {"lines": list(lines), "mark": "it's 100%"})
        return [(row.line_id, row.mark) for row in rows]


def plans(db: Database) -> dict[str, int]:
    with db.transaction() as session:
        rows = session.execute(
            sa.text("SELECT name, generic_plans + custom_plans AS plans FROM pg_prepared_statements")
        )
        return {row.name: row.plans for row in rows}


def test_values_go_in_by_name_and_rows_come_back(one: Database) -> None:
    assert kept(one, "a", "b") == [("a", "it's 100%"), ("b", "it's 100%")]
    assert kept(one) == []

    with one.transaction() as session:
        assert COUNT.execute(session, {"like": "a%"}).scalar_one() == 1


def test_it_is_prepared_once_for_a_connection(one: Database) -> None:
    for line in ("a", "b", "c"):
        kept(one, line)

    assert plans(one) == {"keep_lines": 3}


def test_it_outlasts_a_transaction_that_is_undone(one: Database) -> None:
    with contextlib.suppress(ZeroDivisionError), one.transaction() as session:
        KEEP.execute(session, {"lines": ["undone"], "mark": ""})
        _ = 1 / 0

    assert kept(one, "a") == [("a", "it's 100%")]
    with one.transaction() as session:
        assert COUNT.execute(session, {"like": "%"}).scalar_one() == 1


def test_another_connection_prepares_its_own(one: Database) -> None:
    kept(one, "a")
    one.engine.dispose()

    assert kept(one, "b") == [("b", "it's 100%")]


def test_a_table_that_changes_is_planned_for_anew(one: Database) -> None:
    kept(one, "a")
    owner = sa.create_engine(one.url)
    with owner.begin() as connection:
        connection.execute(sa.text("ALTER TABLE effects ADD COLUMN since timestamptz DEFAULT now()"))
    owner.dispose()

    assert kept(one, "b") == [("b", "it's 100%")]


def test_a_plan_made_while_a_table_is_empty_does_not_read_it_through_when_it_has_filled(one: Database) -> None:
    with one.transaction() as session:
        assert JOIN.execute(session, {"rows": "[]"}).scalar_one() == 0

    with one.transaction() as session:
        plan = "\n".join(session.execute(sa.text("EXPLAIN EXECUTE join_inbox('[]')")).scalars())

    assert "Seq Scan" not in plan, plan


def test_what_goes_first_is_sent_along_with_parameters_of_its_own(one: Database) -> None:
    with one.transaction() as session:
        assert LOCKED.execute(session, {"lock": 42}).scalar_one() == 0
        held = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42")
        assert session.execute(held).scalar_one() == 1


def test_a_warm_connection_has_planned_its_statements_and_run_none(database_url: str) -> None:
    db = Database(database_url, application="test", pool_size=2)

    warm(db, sys.modules[__name__], connections=2)

    with db.transaction() as first, db.transaction() as second:
        for session in (first, second):
            rows = session.execute(
                sa.text("SELECT name, generic_plans + custom_plans AS plans FROM pg_prepared_statements")
            )
            assert {row.name: row.plans for row in rows} == {
                "keep_lines": 1,
                "count_lines": 1,
                "join_inbox": 1,
                "count_locked": 1,
            }
        assert first.scalar(sa.text("SELECT count(*) FROM effects")) == 0
    assert kept(db, "a") == [("a", "it's 100%")]
