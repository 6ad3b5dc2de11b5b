"""The audit is silent about a sound ledger and names the row that somebody tampered with."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.credits import accounts, audit, handlers, quotes
from services.credits.invariants import CHECKS
from shared.database import Database
from tests.builders import (
    STUDIO_IMAGE,
    VARIANT,
    HeldJob,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    hold,
)
from tests.polling import until
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
    assert report["chain"] == {"sealed": 0, "head": None, "unsealed": of_entries}


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


def test_a_larger_balance_is_named(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    tamper(f"UPDATE accounts SET available = 101 WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'")

    assert found(credits_db) == {
        ("wallet_equals_its_entries", f"{org}/credits"): (100, 101),
        ("grants_make_up_the_wallet", f"{org}/credits"): (100, 101),
    }


def test_a_changed_version_of_a_wallet_is_named(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    tamper(f"UPDATE accounts SET version = 2 WHERE org_id = '{org}' AND kind = 'wallet' AND unit = 'credits'")

    assert found(credits_db) == {("version_counts_the_entries", f"{org}/credits"): (1, 2)}


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

    assert found(credits_db) == {
        ("grant_was_paid_once", f"{org}/opening"): (200, 100),
        ("grant_has_what_nobody_took", f"{org}/opening"): (200, 100),
    }


def test_more_left_in_a_grant_than_nobody_took_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    tamper(f"UPDATE grants SET remaining = remaining + 1 WHERE org_id = '{job.org_id}'")

    assert found(credits_db) == {
        ("grant_has_what_nobody_took", f"{job.org_id}/opening"): (77, 78),
        ("grants_make_up_the_wallet", f"{job.org_id}/credits"): (78, 77),
    }


def test_a_line_that_was_captured_for_less_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = job.line_ids[0]

    tamper(f"UPDATE lines SET captured_amount = 9, reason = 'cache_hit' WHERE line_id = '{line}'")

    problems = found(credits_db)
    assert problems["line_was_captured", f"{job.job_id}/{line}"] == (9, 10)
    assert problems["line_was_refunded", f"{job.job_id}/{line}"] == (1, 0)
    assert problems["grant_has_what_nobody_took", f"{job.org_id}/opening"] == (78, 77)
    assert problems["usage_equals_what_was_charged", f"{job.org_id}/credits"] == (12, 13)


def test_a_failure_that_was_not_given_back_in_full_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = f"{job.job_id}/{job.line_ids[2]}"

    tamper(f"UPDATE entries SET amount = sign(amount) * 8 WHERE transfer_id = '{line}/refund'")

    assert found(credits_db)["failed_generation_nets_zero", line] == (0, -2)


def test_a_transfer_that_goes_where_its_kind_does_not_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    capture = f"{job.job_id}/{job.line_ids[0]}/capture"

    tamper(
        "UPDATE entries SET account_id = (SELECT id FROM accounts WHERE kind = 'expiry' AND unit = 'credits')"
        f" WHERE transfer_id = '{capture}' AND org_id IS NULL"
    )

    assert found(credits_db) == {("entry_goes_the_way_of_its_kind", capture): (1, 0)}


def test_a_line_that_takes_from_anothers_grant_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = job.line_ids[3]
    victim = given_account(credits_db)

    tamper(f"UPDATE lines SET grant_ids = ARRAY['{victim}/opening'] WHERE line_id = '{line}'")

    problems = found(credits_db)
    assert ("line_takes_from_its_own_grants", f"{job.job_id}/{line}") in problems
    assert problems["grant_has_what_nobody_took", f"{victim}/opening"] == (90, 100)


def test_a_line_that_takes_from_no_grant_is_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    line = job.line_ids[3]

    tamper(f"UPDATE lines SET grant_ids = '{{}}', grant_amounts = '{{}}' WHERE line_id = '{line}'")

    assert found(credits_db)["line_takes_from_grants_what_it_costs", f"{job.job_id}/{line}"] == (10, 0)


@pytest.mark.parametrize(
    ("column", "invariant"),
    [("expired", "grant_expired_by_its_entries"), ("withdrawn", "grant_was_withdrawn_by_its_entries")],
)
def test_what_left_a_grant_without_an_entry_is_named(
    credits_db: Database, org: str, tamper: Callable[..., None], column: str, invariant: str
) -> None:
    tamper(f"UPDATE grants SET {column} = 1, remaining = 99 WHERE org_id = '{org}'")

    assert found(credits_db) == {
        (invariant, f"{org}/opening"): (0, 1),
        ("grants_make_up_the_wallet", f"{org}/credits"): (99, 100),
    }


def test_a_changed_expectation_of_what_open_lines_cost_is_named(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    hold(credits_db, org, VARIANT, cost_microusd=40_000)

    tamper(f"UPDATE accounts SET expected_cost_total = 0 WHERE org_id = '{org}' AND kind = 'wallet'")

    assert found(credits_db) == {("expected_cost_equals_open_lines", f"{org}/credits"): (40_000, 0)}


@pytest.mark.usefixtures("job")
def test_usage_that_was_charged_to_nobody_is_named(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    tamper(f"UPDATE daily_usage SET credits = credits + 5 WHERE org_id = '{org}'")

    assert found(credits_db) == {("usage_equals_what_was_charged", f"{org}/credits"): (13, 18)}


def test_an_adjustment_that_was_changed_is_named(credits_db: Database, org: str, tamper: Callable[..., None]) -> None:
    accounts.adjust(credits_db, adjustment_id="adj_1", org_id=org, amount=-7, reason="paid twice", actor="Ada")

    tamper("UPDATE adjustments SET amount = -3 WHERE id = 'adj_1'")

    assert found(credits_db) == {("adjustment_equals_its_entries", "adj_1"): (-3, -7)}


def test_a_job_that_holds_more_than_its_quote_is_named(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    job_id = hold(credits_db, org, VARIANT, job_id="job_1", **quoted(credits_db, org)) and "job_1"

    tamper("UPDATE quotes SET amount = 9")

    assert found(credits_db) == {("job_holds_no_more_than_its_quote", job_id): (9, 10)}


def test_more_used_of_an_allowance_than_the_plan_has_is_named(
    credits_db: Database, tamper: Callable[..., None]
) -> None:
    org = given_account(credits_db, plan="free")
    hold(credits_db, org, *[STUDIO_IMAGE] * 3)

    tamper(
        "UPDATE organization_plans SET since = since - interval '40 days'",
        "UPDATE plans SET monthly_generations = 2 WHERE name = 'free'",
    )

    month = datetime.now(UTC).strftime("%Y-%m")
    assert found(credits_db) == {("allowance_is_used_within_the_plan", f"{org}/allowance/{month}"): (2, 3)}


def test_a_smaller_plan_in_the_middle_of_the_month_is_no_violation(credits_db: Database) -> None:
    org = given_account(credits_db, plan="pro")
    hold(credits_db, org, *[STUDIO_IMAGE] * 120)

    accounts.change_plan(credits_db, org_id=org, plan="free", actor="Ada")

    assert found(credits_db) == {}


def test_a_ledger_in_which_everything_happened_is_sound(credits_db: Database, org: str) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    asked = {"org_id": org, "reason": "a test", "actor": "Ada"}
    accounts.grant(credits_db, grant_id="soon", amount=15, kind="promotional", expires_at=soon, **asked)
    late = given_held_job(credits_db, org, VARIANT, VARIANT)  # takes 15 of that grant, and 5 of the opening one
    accounts.grant(credits_db, grant_id="left", amount=4, kind="promotional", expires_at=soon, **asked)
    accounts.adjust(credits_db, adjustment_id="adj_1", amount=20, **asked)
    until(lambda: accounts.expire_grants(credits_db) == 1, what="the expiry of a grant")
    deliver(credits_db, generation_failed(late), generation_completed(late, line_id=late.line_ids[1], amount=4))
    kept = given_held_job(credits_db, org, VARIANT, STUDIO_IMAGE)
    deliver(credits_db, generation_completed(kept), generation_completed(kept, line_id=kept.line_ids[1], amount=1))
    handlers.refund(credits_db, job_id=kept.job_id, reason="ugly", actor="Ada")
    accounts.adjust(credits_db, adjustment_id="adj_2", amount=-90, **asked)
    accounts.change_plan(credits_db, org_id=org, plan="free", actor="Ada")
    hold(credits_db, org, VARIANT, cost_microusd=5, **quoted(credits_db, org))

    assert found(credits_db) == {}
    kinds = {kind for (kind,) in rows(credits_db, "SELECT DISTINCT kind FROM entries")}
    assert kinds == {"hold", "capture", "refund", "return", "grant", "expiry", "adjustment", "allowance"}
    assert rows(credits_db, "SELECT id FROM grants WHERE origin_id = 'soon'")


def test_a_grant_for_what_came_back_late_is_only_as_large_as_that(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    asked = {"org_id": org, "reason": "a test", "actor": "Ada", "kind": "promotional", "expires_at": soon}
    accounts.grant(credits_db, grant_id="soon", amount=11, **asked)
    job = given_held_job(credits_db, org)
    until(lambda: accounts.expire_grants(credits_db) == 1, what="the expiry of a grant")
    deliver(credits_db, generation_failed(job))
    own = f"{job.job_id}/{job.line_ids[0]}/returned"
    assert found(credits_db) == {}

    tamper(f"UPDATE grants SET amount = 12, remaining = 12 WHERE id = '{own}'")

    assert found(credits_db) == {
        ("grant_was_paid_once", own): (12, 10),
        ("grants_make_up_the_wallet", f"{org}/credits"): (112, 110),
    }


def test_what_was_left_over_and_what_was_charged_may_both_come_back_late(credits_db: Database, org: str) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    asked = {"org_id": org, "reason": "a test", "actor": "Ada", "kind": "promotional", "expires_at": soon}
    accounts.grant(credits_db, grant_id="soon", amount=11, **asked)
    job = given_held_job(credits_db, org)
    until(lambda: accounts.expire_grants(credits_db) == 1, what="the expiry of a grant")

    deliver(credits_db, generation_completed(job, amount=4))
    assert found(credits_db) == {}
    handlers.refund(credits_db, job_id=job.job_id, reason="ugly", actor="Ada")

    assert found(credits_db) == {}
    own = rows(credits_db, "SELECT amount FROM grants WHERE origin_id = 'soon' ORDER BY amount")
    assert [amount for (amount,) in own] == [4, 6]


def test_the_first_of_many_violations_is_one_of_the_first_invariant(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    tamper(f"UPDATE entries SET amount = amount - 1 WHERE job_id = '{job.job_id}' AND version IS NOT NULL")

    names = [each["invariant"] for each in violations(credits_db)]
    assert names[0] == "units_sum_to_zero"
    assert names == sorted(names, key=list(CHECKS).index)


def quoted(db: Database, org_id: str) -> dict[str, Any]:
    """Return what a hold of one variant names that has a quote for it."""
    quotes.quote(
        db,
        org_id=org_id,
        livemode=True,
        quote_id="quo_1",
        workflow="staging",
        fingerprint="f",
        skus={VARIANT: 1},
        images=1,
        estimated_seconds=1,
    )
    return {"quote_id": "quo_1", "fingerprint": "f", "accepted_at": datetime.now(UTC).isoformat()}
