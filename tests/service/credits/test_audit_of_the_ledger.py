"""The audit is silent about a sound ledger and names the row that somebody tampered with."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from services.credits import accounts, audit
from shared.database import Database
from tests.builders import VARIANT, HeldJob, generation_completed, generation_failed, given_account, given_held_job
from tests.service.credits.ledger_steps import deliver, rows, violations


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=100)


@pytest.fixture
def job(credits_db: Database, org: str) -> HeldJob:
    """A job with a captured line, one captured in part, a refunded and an open one."""
    held = given_held_job(credits_db, org, VARIANT, VARIANT, VARIANT, VARIANT)
    first, second, third, _ = held.line_ids
    deliver(credits_db, generation_completed(held, line_id=first), generation_completed(held, line_id=second, amount=3))
    deliver(credits_db, generation_failed(held, line_id=third))
    return held


def found(db: Database) -> dict[tuple[str, str], tuple[int, int]]:
    """Return ``{(invariant, subject): (expected, found)}``."""
    return {(each["invariant"], each["subject"]): (each["expected"], each["found"]) for each in violations(db)}


def test_a_sound_ledger_has_no_violation_and_is_counted(credits_db: Database, job: HeldJob) -> None:
    accounts.grant(
        credits_db, grant_id="g", org_id=job.org_id, amount=5, kind="compensation", reason="sorry", actor="Ada"
    )

    with credits_db.transaction() as session:
        report = audit.run(session, grace=timedelta(minutes=10))

    assert report["violations"] == []
    of_accounts, of_entries = rows(
        credits_db, "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM entries)"
    )[0]
    assert (report["accounts"], report["entries"]) == (of_accounts, of_entries)
    assert report["checked_at"].endswith("Z")
    assert REGISTRY.get_sample_value("darkroom_ledger_invariant_violations") == 0


def test_an_empty_ledger_is_sound(credits_db: Database) -> None:
    assert violations(credits_db) == []


def test_a_changed_entry_is_named_by_its_transfer(
    credits_db: Database, org: str, job: HeldJob, tamper: Callable[..., None]
) -> None:
    hold = f"{job.job_id}/{job.line_ids[0]}/hold"

    tamper(f"UPDATE entries SET amount = -9 WHERE transfer_id = '{hold}' AND version IS NOT NULL")

    problems = found(credits_db)
    assert problems["transfer_balances", hold] == (0, 1)
    assert problems["units_sum_to_zero", "credits"] == (0, 1)
    assert problems["wallet_equals_its_entries", f"{org}/credits"] == (78, 77)
    assert problems["available_follows_from_the_entry_before", hold] == (91, 90)
    assert REGISTRY.get_sample_value("darkroom_ledger_invariant_violations") == len(problems)


def test_a_transfer_changed_on_both_sides_is_named_by_its_line(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = f"{job.job_id}/{job.line_ids[0]}"

    tamper(f"UPDATE entries SET amount = sign(amount) * 7 WHERE transfer_id = '{line}/hold'")

    assert found(credits_db)["line_was_held", line] == (10, 7)


def test_a_removed_entry_is_named_by_its_transfer(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    refund = f"{job.job_id}/{job.line_ids[2]}/refund"

    tamper(f"DELETE FROM entries WHERE transfer_id = '{refund}' AND version IS NULL")

    assert found(credits_db)["transfer_has_two_legs", refund] == (2, 1)


def test_a_removed_transfer_is_named_by_its_line_and_its_wallet(
    credits_db: Database, org: str, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = f"{job.job_id}/{job.line_ids[2]}"

    tamper(f"DELETE FROM entries WHERE transfer_id = '{line}/refund'")

    problems = found(credits_db)
    assert problems["line_was_refunded", line] == (10, 0)
    assert problems["version_counts_the_entries", f"{org}/credits"][1] == 7
    assert problems["wallet_equals_its_entries", f"{org}/credits"] == (67, 77)


def test_an_invented_transfer_is_named_by_its_line(credits_db: Database, tamper: Callable[..., None]) -> None:
    account = "(SELECT id FROM accounts WHERE kind = 'revenue' AND unit = 'credits')"

    tamper(
        "INSERT INTO entries (transfer_id, account_id, unit, kind, amount, job_id, line_id, actor) VALUES"
        f" ('job_x/gen_x/capture', {account}, 'credits', 'capture', 5, 'job_x', 'gen_x', 'thief'),"
        f" ('job_x/gen_x/capture', {account} + 1000, 'credits', 'capture', -5, 'job_x', 'gen_x', 'thief')"
    )

    problems = found(credits_db)
    assert problems["line_was_captured", "job_x/gen_x"] == (0, 5)
    assert ("entry_belongs_to_its_account", "job_x/gen_x/capture") in problems


@pytest.mark.parametrize(
    ("column", "invariant"), [("available", "wallet_equals_its_entries"), ("version", "version_counts_the_entries")]
)
def test_a_changed_wallet_is_named(
    credits_db: Database, org: str, tamper: Callable[..., None], column: str, invariant: str
) -> None:
    tamper(
        f"UPDATE accounts SET {column} = {column} + 1 WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'"
    )

    problems = found(credits_db)
    assert list(problems) == [(invariant, f"{org}/credits")]
    (expected, actual) = problems[invariant, f"{org}/credits"]
    assert actual == expected + 1


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(("column", "kind"), [("held_total", "wallet"), ("captured_total", "held")])
def test_a_changed_sum_of_what_is_held_is_named(
    credits_db: Database, org: str, tamper: Callable[..., None], column: str, kind: str
) -> None:
    tamper(
        f"UPDATE accounts SET {column} = {column} + 1 WHERE org_id = '{org}' AND kind = '{kind}' AND unit = 'credits'"
    )

    assert list(found(credits_db)) == [("held_equals_open_lines", f"{org}/credits")]


def test_a_wallet_below_zero_is_named(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    tamper(
        "ALTER TABLE accounts DROP CONSTRAINT accounts_available",
        f"UPDATE accounts SET available = -1 WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'",
    )

    assert found(credits_db)["never_below_zero", f"{org}/credits"] == (0, -1)


def test_a_line_whose_end_was_changed_is_named(credits_db: Database, job: HeldJob, tamper: Callable[..., None]) -> None:
    line = job.line_ids[0]

    tamper(
        f"UPDATE lines SET status = 'refunded', captured_amount = 0, reason = 'provider_error' WHERE line_id = '{line}'"
    )

    problems = found(credits_db)
    assert problems["line_was_captured", f"{job.job_id}/{line}"] == (0, 10)
    assert problems["line_was_refunded", f"{job.job_id}/{line}"] == (10, 0)


def test_an_open_line_that_vanished_is_named(
    credits_db: Database, org: str, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = job.line_ids[3]

    tamper(f"DELETE FROM lines WHERE line_id = '{line}'")

    problems = found(credits_db)
    assert problems["held_account_equals_open_lines", f"{org}/credits"] == (0, 10)
    assert problems["line_was_held", f"{job.job_id}/{line}"] == (0, 10)


def test_a_line_moved_to_another_organization_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = job.line_ids[3]

    tamper(f"UPDATE lines SET org_id = 'org_thief' WHERE line_id = '{line}'")

    assert ("line_has_the_organization_of_its_job", f"{job.job_id}/{line}") in found(credits_db)


def test_a_version_that_was_skipped_is_named(credits_db: Database, job: HeldJob, tamper: Callable[..., None]) -> None:
    refund = f"{job.job_id}/{job.line_ids[2]}/refund"

    tamper(f"UPDATE entries SET version = version + 1 WHERE transfer_id = '{refund}' AND version IS NOT NULL")

    assert found(credits_db) == {("versions_have_no_gap", refund): (7, 8)}


def test_a_grant_that_was_made_larger_is_named(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    tamper(f"UPDATE grants SET amount = amount * 2 WHERE org_id = '{org}'")

    assert found(credits_db) == {("grant_was_paid_once", f"{org}/opening"): (200, 100)}
