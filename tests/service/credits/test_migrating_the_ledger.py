"""A ledger of the first version, with everything that can be in one, moves to today's without a violation."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from deploy.local.stack import Postgres
from services.credits import accounts, handlers
from shared.database import Database
from shared.migrations import upgrade
from tests.builders import STUDIO_IMAGE, VARIANT, HeldJob, generation_completed, generation_failed, hold
from tests.service.credits.ledger_steps import balance, change, deliver, give, left_in_grants, rows, violations

MIGRATIONS = Path(__file__).resolve().parents[3] / "services" / "credits" / "migrations"
OPEN_ACCOUNT = """
    INSERT INTO organization_plans (org_id, plan) VALUES (:org, :plan);
    INSERT INTO accounts (org_id, unit, kind) SELECT :org, unit, kind
    FROM unnest(ARRAY['credits', 'plan_generations']) unit, unnest(ARRAY['wallet', 'held']) kind
"""
GIVE = "SELECT * FROM give(:id, :org, 'credits', :amount, 'purchased', 'invoice 7', 'admin Ada')"
HOLD = """
    SELECT * FROM reserve(ARRAY[:job || '/rsv'], ARRAY[CAST(:job AS text)], ARRAY[CAST(:org AS text)],
        ARRAY[now() + interval '1 hour'], array_fill(1, ARRAY[cardinality(CAST(:lines AS text[]))]),
        CAST(:lines AS text[]), array_fill('staging.variant'::text, ARRAY[cardinality(CAST(:lines AS text[]))]))
"""
SETTLE = """
    SELECT * FROM settle(ARRAY[CAST(:job AS text)], ARRAY[CAST(:line AS text)], ARRAY[CAST(:org AS text)],
        ARRAY[CAST(:amount AS bigint)], ARRAY['provider_error'])
"""


@pytest.fixture
def old(postgres: Postgres) -> Iterator[Database]:
    """A database of the ledger's first version, empty."""
    service = f"ledger_{secrets.token_hex(4)}"
    url = postgres.create_service_database(service)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    command.upgrade(config, "0001")
    database = Database(url, application=service)
    yield database
    database.engine.dispose()
    postgres.drop_database(service)


def to_head(db: Database) -> None:
    upgrade("credits", url=db.url.render_as_string(hide_password=False))
    db.engine.dispose()


def opened(db: Database, org_id: str, *amounts: int, plan: str = "pro") -> str:
    """Open an account of the first version, with a grant for each amount."""
    with db.transaction() as session:
        for statement in OPEN_ACCOUNT.split(";"):
            session.execute(sa.text(statement), {"org": org_id, "plan": plan})
    for number, amount in enumerate(amounts):
        change(db, GIVE, id=f"{org_id}/{number}", org=org_id, amount=amount)
    return org_id


def held(db: Database, org_id: str, job_id: str, lines: int) -> HeldJob:
    line_ids = [f"gen_{number}" for number in range(lines)]
    change(db, HOLD, job=job_id, org=org_id, lines=line_ids)
    return HeldJob(job_id=job_id, org_id=org_id, line_ids=line_ids)


def ended(db: Database, job: HeldJob, line: int, amount: int) -> None:
    change(db, SETTLE, job=job.job_id, line=job.line_ids[line], org=job.org_id, amount=amount)


def a_ledger_with_everything(db: Database) -> tuple[HeldJob, HeldJob]:
    """One organization with three grants; of its lines one is captured, one in part, one refunded, three are open."""
    org = opened(db, "org_a", 15, 20, 100)
    opened(db, "org_empty")
    opened(db, "org_untouched", 50, plan="free")
    done, running = held(db, org, "job_done", 4), held(db, org, "job_running", 2)
    ended(db, done, 0, 10)
    ended(db, done, 1, 4)
    ended(db, done, 2, 0)
    return done, running


def test_an_empty_ledger_moves(old: Database) -> None:
    to_head(old)

    assert violations(old) == []
    accounts.open_account(old, org_id="org_new", plan="free", amount=30)
    hold(old, "org_new", VARIANT, STUDIO_IMAGE)
    assert violations(old) == []


def test_a_ledger_with_open_captured_and_refunded_lines_moves_without_a_violation(old: Database) -> None:
    a_ledger_with_everything(old)
    before = [balance_at_first(old, org_id) for org_id in ("org_a", "org_empty", "org_untouched")]

    to_head(old)

    assert [balance(old, org_id) for org_id in ("org_a", "org_empty", "org_untouched")] == before
    assert before[0][:2] == (135 - 10 - 4 - 30, 30)
    assert violations(old) == []


def test_what_was_spent_came_from_the_oldest_grants(old: Database) -> None:
    a_ledger_with_everything(old)

    to_head(old)

    # Taken are 10 and 4 that were captured, and 30 that are held: 44 of 15 + 20 + 100.
    assert left_in_grants(old, "org_a") == {"org_a/0": 0, "org_a/1": 0, "org_a/2": 91}
    assert left_in_grants(old, "org_untouched") == {"org_untouched/0": 50}


def test_life_goes_on_after_the_move(old: Database) -> None:
    done, running = a_ledger_with_everything(old)
    to_head(old)

    deliver(old, generation_failed(running, line_id="gen_0"), generation_completed(running, line_id="gen_1", amount=3))
    deliver(old, generation_failed(done, line_id="gen_3"))
    hold(old, "org_a", VARIANT, job_id="job_done", line_ids=["gen_later"])
    hold(old, "org_a", VARIANT, job_id="job_new")
    give(old, "org_a", 7, "grt_soon", days=1)
    hold(old, "org_a", VARIANT, job_id="job_newer")

    assert balance(old, "org_a")[:2] == (135 - 10 - 4 - 3 + 7 - 30, 30)
    assert left_in_grants(old, "org_a")["grt_soon"] == 0
    assert violations(old) == []


def test_what_was_charged_before_the_move_can_be_given_back_after_it(old: Database) -> None:
    done, _ = a_ledger_with_everything(old)
    to_head(old)

    answer = handlers.refund(old, job_id=done.job_id, reason="blurred", actor="admin Ada")

    assert [line["amount"] for line in answer["refunded"]] == [10, 4]
    assert balance(old, "org_a")[:2] == (135 - 30, 30)
    assert violations(old) == []


def test_what_was_charged_before_the_move_counts_as_used(old: Database) -> None:
    done, _ = a_ledger_with_everything(old)
    to_head(old)
    statement = "SELECT workflow, generations, failed, credits, plan_generations FROM daily_usage"
    before = rows(old, statement)

    handlers.refund(old, job_id=done.job_id, generation_id="gen_1", reason="blurred", actor="admin Ada")

    assert before == [("staging", 2, 1, 14, 0)]
    assert rows(old, statement) == [("staging", 2, 1, 10, 0)]


def test_a_wallet_that_was_spent_to_the_last_credit_moves(old: Database) -> None:
    opened(old, "org_a", 10, 5, 5)
    job = held(old, "org_a", "job_1", 2)
    ended(old, job, 0, 10)

    to_head(old)

    assert balance(old, "org_a")[:2] == (0, 10)
    assert [sum(row.grant_amounts) for row in rows(old, "SELECT grant_amounts FROM lines")] == [10, 10]
    assert violations(old) == []


def test_a_job_closed_before_anything_was_held_and_its_prices_move(old: Database) -> None:
    opened(old, "org_a", 50)
    change(old, "INSERT INTO reservations (job_id, id, org_id, closed_at) VALUES ('job_x', 'rsv_x', 'org_a', now())")

    to_head(old)

    assert rows(old, "SELECT count(*) FROM reservations WHERE priced_at = created_at") == [(1,)]
    assert violations(old) == []


def balance_at_first(db: Database, org_id: str) -> tuple[int, int, int]:
    """Return what the first version has for ``(available, held, version)``."""
    statement = """
        SELECT w.available, w.held_total - h.captured_total AS held, w.version FROM accounts w
        JOIN accounts h ON h.org_id = w.org_id AND h.unit = w.unit AND h.kind = 'held'
        WHERE w.org_id = :org AND w.unit = 'credits' AND w.kind = 'wallet'
    """
    (row,) = rows(db, statement, org=org_id)
    return row.available, row.held, row.version
