"""The nightly audit: once a night on one replica, taken up again when that crashed, shown by all."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
import structlog
from prometheus_client import REGISTRY

from services.credits import metrics
from services.credits.nightly import audit_nightly
from shared.database import Database
from shared.events import LedgerInvariantViolated
from tests.builders import given_account, given_held_job
from tests.service.credits.ledger_steps import change, rows, told

NIGHT = datetime(2031, 5, 2, 3, 0, 1, tzinfo=UTC)
GAUGE = "darkroom_ledger_invariant_violations"


@pytest.fixture(autouse=True)
def gauge_of_another_test() -> None:
    metrics.invariant_violations.set(-1)


def audits(db: Database) -> list[tuple[date, int | None]]:
    """Return ``(night, violations)`` of each, oldest first."""
    return [tuple(row) for row in rows(db, "SELECT night, violations FROM audits ORDER BY night")]


def test_the_ledger_is_audited_once_a_night(credits_db: Database) -> None:
    given_held_job(credits_db, given_account(credits_db))

    with structlog.testing.capture_logs() as lines:
        for hours in (0, 1, 12, 23.9):
            audit_nightly(credits_db, now=NIGHT + timedelta(hours=hours))
        audit_nightly(credits_db, now=NIGHT + timedelta(days=1))

    assert audits(credits_db) == [(date(2031, 5, 2), 0), (date(2031, 5, 3), 0)]
    finished = [line for line in lines if line["event"] == "ledger_audit_finished"]
    assert [line["night"] for line in finished] == ["2031-05-02", "2031-05-03"]
    assert finished[0]["entries"] == finished[0]["sealed"] == 4
    assert REGISTRY.get_sample_value(GAUGE) == 0


def test_a_night_begins_at_three(credits_db: Database) -> None:
    audit_nightly(credits_db, now=NIGHT - timedelta(seconds=2))
    audit_nightly(credits_db, now=NIGHT)

    assert [night for night, _ in audits(credits_db)] == [date(2031, 5, 1), date(2031, 5, 2)]


def test_of_two_replicas_one_runs_it_and_both_show_it(credits_db: Database, tamper: Callable[..., None]) -> None:
    org = given_account(credits_db)
    tamper(f"UPDATE accounts SET version = 7 WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'")

    with structlog.testing.capture_logs() as lines, ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(audit_nightly, credits_db, now=NIGHT) for _ in range(2)]:
            each.result()
    metrics.invariant_violations.set(-1)
    audit_nightly(credits_db, now=NIGHT + timedelta(minutes=1))  # as a replica that only looks

    assert [line["event"] for line in lines if line["event"].startswith("ledger_audit")] == ["ledger_audit_finished"]
    assert audits(credits_db) == [(NIGHT.date(), 1)]
    assert REGISTRY.get_sample_value(GAUGE) == 1


def test_the_first_broken_row_is_named(credits_db: Database, tamper: Callable[..., None]) -> None:
    org = given_account(credits_db)
    tamper(f"UPDATE accounts SET available = 5 WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'")

    with structlog.testing.capture_logs() as lines:
        audit_nightly(credits_db, now=NIGHT)

    first = {"invariant": "wallet_equals_its_entries", "subject": f"{org}/credits", "expected": 100, "found": 5}
    (alarm,) = [line for line in lines if line["log_level"] == "error"]
    assert alarm["event"] == "ledger_invariant_violated"
    assert alarm["violations"] == 2
    assert first.items() <= alarm.items()
    assert rows(credits_db, "SELECT first FROM audits") == [(first,)]
    (event,) = told(credits_db, LedgerInvariantViolated)
    assert (event.night, event.violations, event.invariant) == ("2031-05-02", 2, "wallet_equals_its_entries")


def test_a_repaired_ledger_is_shown_after_the_next_night(credits_db: Database, tamper: Callable[..., None]) -> None:
    org = given_account(credits_db)
    wallet = f"WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'"
    tamper(f"UPDATE accounts SET version = version + 1 {wallet}")
    audit_nightly(credits_db, now=NIGHT)
    tamper(f"UPDATE accounts SET version = version - 1 {wallet}")

    audit_nightly(credits_db, now=NIGHT + timedelta(days=1))

    assert [violations for _, violations in audits(credits_db)] == [1, 0]
    assert REGISTRY.get_sample_value(GAUGE) == 0


def test_a_run_that_crashed_is_taken_up_again_after_half_an_hour(credits_db: Database) -> None:
    change(credits_db, "INSERT INTO audits (night, started_at) VALUES ('2031-05-02', :at)", at=NIGHT)

    audit_nightly(credits_db, now=NIGHT + timedelta(minutes=29))
    assert audits(credits_db) == [(NIGHT.date(), None)]
    assert REGISTRY.get_sample_value(GAUGE) == -1

    audit_nightly(credits_db, now=NIGHT + timedelta(minutes=31))
    assert audits(credits_db) == [(NIGHT.date(), 0)]


def test_audits_are_forgotten_after_ninety_days(credits_db: Database) -> None:
    for days in (91, 90, 1):
        audit_nightly(credits_db, now=NIGHT - timedelta(days=days))

    audit_nightly(credits_db, now=NIGHT)

    nights = [night for night, _ in audits(credits_db)]
    assert nights == [(NIGHT - timedelta(days=days)).date() for days in (90, 1, 0)]


def test_without_a_moment_given_it_is_the_databases(credits_db: Database) -> None:
    audit_nightly(credits_db)

    ((night, finished_at),) = rows(credits_db, "SELECT night, finished_at FROM audits")
    assert abs(datetime.now(UTC) - finished_at) < timedelta(minutes=1)
    assert night in {(datetime.now(UTC) - timedelta(hours=3)).date(), datetime.now(UTC).date()}
