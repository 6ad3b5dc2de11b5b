"""A page of a long history is found in an index, whatever is asked for; plans, not times, are looked at."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from services.credits import history
from shared.database import Database


@pytest.mark.parametrize(
    ("chosen", "index"),
    [
        ({}, "entries_history"),
        ({"product": "headshot"}, "entries_history"),
        ({"kind": "grant", "unit": "plan_generations"}, "entries_history"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, "entries_history"),
        ({"job": "job_7"}, "entries_of_job"),
        ({"session": "ses_7"}, "entries_of_job"),
        ({"generation": "gen_77"}, "entries_of_job"),
    ],
)
def test_a_page_is_found_in_an_index_whatever_is_asked_for(
    credits_db: Database, chosen: dict[str, Any], index: str
) -> None:
    given_long_history(credits_db)

    plan = plan_of_the_page(credits_db, "org_long", **chosen)

    found = [node for node in nodes(plan) if node.get("Index Name") == index]
    assert found, json.dumps(plan, indent=1)
    if index == "entries_history":
        assert {node["Node Type"] for node in found} == {"Index Only Scan"}
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]


LONG_HISTORY = (
    # Without waiting for the disk, rows would not yet count as visible to everybody when they are vacuumed.
    "SET LOCAL synchronous_commit = on",
    """
    INSERT INTO reservations (job_id, id, org_id, closed_at, session_id)
    SELECT 'job_' || n, 'rsv_' || n, CASE n % 8 WHEN 7 THEN 'org_long' ELSE 'org_other' END, now(), 'ses_' || n
    FROM generate_series(0, 799) n
    """,
    """
    INSERT INTO lines (job_id, line_id, org_id, sku, product, price_version, unit, amount, grant_ids, grant_amounts)
    SELECT job_id, 'gen_' || n, org_id, 'staging.variant', 'staging', 1, 'credits', 10, '{}', '{}'
    FROM generate_series(0, 7999) n JOIN reservations ON job_id = 'job_' || n / 10
    """,
    """
    INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, job_id,
        line_id, sku, product, actor, created_at)
    SELECT job_id || line_id, 1, org_id, unit, 'hold', -10, 0, row_number() OVER (), job_id, line_id, sku, product,
        'generation', timestamptz '2026-01-01' + row_number() OVER () * interval '1 minute'
    FROM lines
    """,
)


def given_long_history(db: Database) -> None:
    """Write 8,000 holds, 10 a job, one in eight of an organization, as they would stand there."""
    with db.transaction() as session:
        for statement in LONG_HISTORY:
            session.execute(sa.text(statement))
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("entries", "lines", "reservations"):
            connection.execute(sa.text(f"VACUUM ANALYZE {table}"))


def plan_of_the_page(db: Database, org_id: str, **chosen: Any) -> dict[str, Any]:
    """Return PostgreSQL's plan of the last statement that `entries` runs."""
    with db.transaction(org_id=org_id) as session, statements_of(db) as statements:
        history.entries(session, org_id=org_id, **chosen)
        statement, parameters = statements[-1]
        explained = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        plan: dict[str, Any] = explained.scalar_one()[0]["Plan"]
        return plan


@contextmanager
def statements_of(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is sent to the database meanwhile."""
    sent: list[tuple[str, Any]] = []

    def collect(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", collect)
    try:
        yield sent
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", collect)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
