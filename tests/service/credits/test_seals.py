"""The chain of hashes: every entry gets its place in it, once, whenever it was committed; nobody rewrites it unseen."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from services.credits import audit, ledger
from services.credits.models import Entry
from services.credits.movements import Request
from services.credits.seals import LONGEST_TRANSACTION, seal_entries
from shared.database import Database
from tests.builders import VARIANT, HeldJob, generation_completed, generation_failed, given_account, given_held_job
from tests.service.credits.ledger_steps import deliver, rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_ONCE_SETTLED = timedelta(0)


@pytest.fixture
def org(credits_db: Database) -> str:
    return given_account(credits_db, balance=100)


@pytest.fixture
def job(credits_db: Database, org: str) -> HeldJob:
    """A job with a captured line, two that were refunded for different reasons, and an open one; all is sealed."""
    held = given_held_job(credits_db, org, VARIANT, VARIANT, VARIANT, VARIANT)
    first, second, third, _ = held.line_ids
    deliver(credits_db, generation_completed(held, line_id=first))
    deliver(credits_db, generation_failed(held, line_id=second, reason="timeout"))
    deliver(credits_db, generation_failed(held, line_id=third, reason="no_image"))
    seal_entries(credits_db)
    return held


def proof(db: Database) -> dict[str, Any]:
    with db.transaction() as session:
        return audit.run(session, grace=timedelta(minutes=10))


def found(db: Database) -> set[tuple[str, str]]:
    """Return ``(invariant, subject)`` of what the audit finds."""
    return {(each["invariant"], each["subject"]) for each in proof(db)["violations"]}


def entry_of(db: Database, transfer_id: str, *, wallet: bool = True) -> tuple[int, str]:
    """Return the id of one leg of a transfer, and how the audit names it."""
    ((entry_id,),) = rows(
        db,
        "SELECT id FROM entries WHERE transfer_id = :transfer AND (version IS NOT NULL) = :wallet",
        transfer=transfer_id,
        wallet=wallet,
    )
    return entry_id, f"{transfer_id}, entry {entry_id}"


def sealed_ids(db: Database) -> list[int]:
    """Return the ids of the sealed entries, in the order of the chain."""
    return [entry_id for (entry_id,) in rows(db, "SELECT entry_id FROM entry_seals ORDER BY position")]


def request(org_id: str, job_id: str, *lines: str) -> Request:
    deadline_at = datetime.now(UTC) + timedelta(hours=1)
    return Request(org_id=org_id, job_id=job_id, deadline_at=deadline_at, lines=dict.fromkeys(lines, VARIANT))


def test_every_entry_is_sealed_once(credits_db: Database, job: HeldJob) -> None:
    given_held_job(credits_db, job.org_id)

    first, second = seal_entries(credits_db), seal_entries(credits_db)

    assert (first, second) == (2, 0)
    assert sealed_ids(credits_db) == [entry_id for (entry_id,) in rows(credits_db, "SELECT id FROM entries ORDER BY 1")]
    report = proof(credits_db)
    assert report["violations"] == []
    assert report["chain"]["sealed"] == report["entries"]
    assert report["chain"]["unsealed"] == 0


def test_what_is_not_sealed_yet_is_counted(credits_db: Database, job: HeldJob) -> None:
    given_held_job(credits_db, job.org_id)

    assert proof(credits_db)["chain"]["unsealed"] == 2


@pytest.mark.usefixtures("job")
def test_anyone_with_the_entries_comes_to_the_same_head(credits_db: Database) -> None:
    columns = ", ".join(column.name for column in Entry.__table__.columns)

    head = bytes(32)
    for row in rows(credits_db, f"SELECT {columns} FROM entries ORDER BY id"):
        *said, created_at = row
        said.append((created_at - _EPOCH) // timedelta(microseconds=1))
        text = json.dumps(said, ensure_ascii=False).encode()
        head = hashlib.sha256(head + hashlib.sha256(text).digest()).digest()

    assert proof(credits_db)["chain"]["head"] == head.hex()


@pytest.mark.usefixtures("job")
def test_what_was_sealed_is_logged_for_a_witness_outside(credits_db: Database, org: str) -> None:
    given_held_job(credits_db, org)

    with structlog.testing.capture_logs() as lines:
        seal_entries(credits_db)

    chain = proof(credits_db)["chain"]
    assert [(line["event"], line["number"], line["entries"]) for line in lines] == [("ledger_sealed", 2, 2)]
    assert (lines[0]["position"], lines[0]["head"]) == (chain["sealed"], chain["head"])


@pytest.mark.usefixtures("job")
def test_the_digest_of_an_entry_covers_each_of_its_columns(credits_db: Database) -> None:
    others = {
        column.name: "987654" if isinstance(column.type, sa.BigInteger) else "2001-02-03T00:00:00.000001Z"
        for column in Entry.__table__.columns
    }

    covered = rows(
        credits_db,
        "SELECT other.key, bool_and(entry_digest(e) <> entry_digest("
        " jsonb_populate_record(e, jsonb_build_object(other.key, other.value))))"
        " FROM entries e, jsonb_each_text(CAST(:others AS jsonb)) other GROUP BY other.key",
        others=json.dumps(others),
    )

    assert dict(tuple(row) for row in covered) == dict.fromkeys(others, True)


@pytest.mark.usefixtures("job")
def test_the_digest_tells_nothing_from_an_empty_text(credits_db: Database) -> None:
    statement = (
        "SELECT count(*) FROM entries e WHERE reason IS NULL"
        ' AND entry_digest(e) = entry_digest(jsonb_populate_record(e, \'{"reason": ""}\'))'
    )

    assert rows(credits_db, statement) == [(0,)]


@pytest.mark.usefixtures("job")
def test_the_digest_is_the_same_in_every_session(credits_db: Database) -> None:
    digests = "SELECT array_agg(entry_digest(e) ORDER BY id) FROM entries e"

    with credits_db.transaction() as session:
        usual = session.scalar(sa.text(digests))
        session.execute(sa.text("SET LOCAL timezone = 'Asia/Kathmandu'"))
        session.execute(sa.text("SET LOCAL datestyle = 'SQL, DMY'"))
        session.execute(sa.text("SET LOCAL intervalstyle = 'sql_standard'"))
        unusual = session.scalar(sa.text(digests))

    assert [bytes(each) for each in usual] == [bytes(each) for each in unusual]


def test_a_backlog_is_sealed_in_many_small_transactions(credits_db: Database, org: str) -> None:
    given_held_job(credits_db, org, *[VARIANT] * 5)  # 10 entries, and 2 of the opening grant

    sealed = seal_entries(credits_db, at_once=5)

    assert sealed == 12
    assert rows(credits_db, "SELECT number, last_position FROM seals ORDER BY 1") == [(1, 5), (2, 10), (3, 12)]
    assert found(credits_db) == set()


@pytest.mark.parametrize("at_once", [1, 5000])
def test_what_was_committed_late_is_sealed_behind_higher_ids(credits_db: Database, org: str, at_once: int) -> None:
    with credits_db.transaction(org_id=org) as slow:
        ledger.reserve(slow, [request(org, "job_slow", "gen_1", "gen_2")])
        given_held_job(credits_db, given_account(credits_db))
        seal_entries(credits_db, at_once=at_once)
        before = sealed_ids(credits_db)

    late = seal_entries(credits_db, at_once=at_once)

    assert late == 4
    added = sealed_ids(credits_db)[len(before) :]
    assert max(added) < max(before)
    assert proof(credits_db)["violations"] == []
    assert proof(credits_db)["chain"]["unsealed"] == 0


@pytest.mark.parametrize("at_once", [1, 5000])
def test_what_was_committed_late_is_sealed_after_the_sealer_was_away_for_long(
    credits_db: Database, org: str, tamper: Callable[..., None], at_once: int
) -> None:
    with credits_db.transaction(org_id=org) as slow:
        ledger.reserve(slow, [request(org, "job_slow", "gen_1", "gen_2")])
        given_held_job(credits_db, given_account(credits_db))
        seal_entries(credits_db)
    tamper("UPDATE seals SET sealed_at = sealed_at - interval '1 hour'")

    late = seal_entries(credits_db, at_once=at_once)

    assert late == 4
    assert proof(credits_db)["chain"]["unsealed"] == 0


def test_ids_are_settled_only_when_no_transaction_may_be_left_that_has_them(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    settled = "SELECT settled_entry_id, up_to_entry_id FROM seals ORDER BY number DESC LIMIT 1"
    given_held_job(credits_db, job.org_id)
    seal_entries(credits_db, at_once=1)
    (young, _) = rows(credits_db, settled)[0]

    tamper(f"UPDATE seals SET sealed_at = sealed_at - interval '{LONGEST_TRANSACTION.seconds + 1} seconds'")
    sealed = seal_entries(credits_db)

    (old, highest) = rows(credits_db, settled)[0]
    assert (young, sealed) == (0, 0)
    assert old == highest == max(sealed_ids(credits_db))
    assert seal_entries(credits_db) == 0
    assert found(credits_db) == set()


@pytest.mark.usefixtures("org")
def test_a_sealer_leaves_the_work_to_the_one_that_is_at_it(credits_db: Database) -> None:
    with credits_db.transaction() as session:
        session.execute(sa.text("SELECT * FROM seal_entries(1, interval '10 minutes')"))
        meanwhile = seal_entries(credits_db)

    assert meanwhile == 0
    assert seal_entries(credits_db) == 1
    assert found(credits_db) == set()


def test_many_sealers_at_once_make_one_chain(credits_db: Database, org: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        moves = [pool.submit(given_held_job, credits_db, org) for _ in range(10)]
        seals = [pool.submit(seal_entries, credits_db, at_once=2) for _ in range(20)]
    sealed = sum(each.result() for each in seals) + seal_entries(credits_db)

    assert all(each.result() for each in moves)
    assert sealed == 22
    assert found(credits_db) == set()


@pytest.mark.parametrize("change", ["amount = amount + 1", "reason = 'oh'", "actor = 'thief'", "created_at = now()"])
def test_a_changed_entry_breaks_the_chain_at_its_place(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None], change: str
) -> None:
    entry_id, name = entry_of(credits_db, f"{job.job_id}/{job.line_ids[1]}/refund")

    tamper(f"UPDATE entries SET {change} WHERE id = {entry_id}")

    broken = {subject for invariant, subject in found(credits_db) if invariant == "sealed_entry_is_unchanged"}
    assert broken == {name}


def test_swapped_reasons_are_found_by_the_chain_alone(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    refunds = [f"{job.job_id}/{line_id}/refund" for line_id in job.line_ids[1:3]]
    names = {entry_of(credits_db, refund, wallet=wallet)[1] for refund in refunds for wallet in (True, False)}

    tamper(
        "UPDATE entries SET reason = CASE reason WHEN 'timeout' THEN 'no_image' ELSE 'timeout' END"
        " WHERE reason IN ('timeout', 'no_image')"
    )

    assert found(credits_db) == {("sealed_entry_is_unchanged", name) for name in names}


def test_a_deleted_entry_is_missed(credits_db: Database, job: HeldJob, tamper: Callable[..., None]) -> None:
    refund = f"{job.job_id}/{job.line_ids[1]}/refund"
    entry_id, _ = entry_of(credits_db, refund)

    tamper(f"DELETE FROM entries WHERE id = {entry_id}")

    assert {("sealed_entry_is_there", f"entry {entry_id}"), ("transfer_has_two_legs", refund)} <= found(credits_db)


def test_an_entry_deleted_together_with_its_seal_leaves_a_gap(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    entry_id, _ = entry_of(credits_db, f"{job.job_id}/{job.line_ids[1]}/refund")
    ids = sealed_ids(credits_db)
    after = ids[ids.index(entry_id) + 1]

    tamper(
        f"DELETE FROM entry_seals WHERE entry_id = {entry_id}",
        f"DELETE FROM entries WHERE id = {entry_id}",
    )

    assert ("chain_has_no_gap", f"entry {after}") in found(credits_db)


def test_entries_put_between_old_ones_are_never_sealed_and_named(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    seal_entries(credits_db, longest_transaction=AT_ONCE_SETTLED)
    grant = f"{job.org_id}/second/grant"

    tamper(
        "INSERT INTO entries (id, transfer_id, account_id, org_id, unit, kind, amount, available_after, version, actor)"
        f" OVERRIDING SYSTEM VALUE SELECT -id, '{grant}', id, org_id, unit, 'grant',"
        " CASE kind WHEN 'wallet' THEN 5 ELSE -5 END, CASE kind WHEN 'wallet' THEN available + 5 END,"
        " CASE kind WHEN 'wallet' THEN version + 1 END, 'thief'"
        f" FROM accounts WHERE unit = 'credits' AND (org_id = '{job.org_id}' AND kind = 'wallet' OR kind = 'issuance')",
        "UPDATE accounts SET available = available + 5, version = version + 1"
        f" WHERE org_id = '{job.org_id}' AND kind = 'wallet' AND unit = 'credits'",
    )

    assert seal_entries(credits_db) == 0
    inserted = {
        ("entry_is_sealed", f"{grant}, entry {entry_id}")
        for (entry_id,) in rows(credits_db, "SELECT id FROM entries WHERE id < 0")
    }
    assert len(inserted) == 2
    assert found(credits_db) == {*inserted, ("grants_make_up_the_wallet", f"{job.org_id}/credits")}


def test_an_invented_grant_is_named_though_it_was_sealed(
    credits_db: Database, job: HeldJob, tamper: Callable[..., None]
) -> None:
    tamper(
        "INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, grant_id,"
        " actor) SELECT 'gift/grant', id, org_id, unit, 'grant', CASE kind WHEN 'wallet' THEN 5 ELSE -5 END,"
        " CASE kind WHEN 'wallet' THEN available + 5 END, CASE kind WHEN 'wallet' THEN version + 1 END, 'gift', 'thief'"
        f" FROM accounts WHERE unit = 'credits' AND (org_id = '{job.org_id}' AND kind = 'wallet' OR kind = 'issuance')",
        "UPDATE accounts SET available = available + 5, version = version + 1"
        f" WHERE org_id = '{job.org_id}' AND kind = 'wallet' AND unit = 'credits'",
    )
    seal_entries(credits_db)

    assert found(credits_db) == {
        ("grant_was_paid_once", "gift"),
        ("grants_make_up_the_wallet", f"{job.org_id}/credits"),
    }


def test_swapped_places_break_the_chain(credits_db: Database, job: HeldJob, tamper: Callable[..., None]) -> None:
    first, first_name = entry_of(credits_db, f"{job.job_id}/{job.line_ids[1]}/refund")
    second, second_name = entry_of(credits_db, f"{job.job_id}/{job.line_ids[2]}/refund")

    tamper(
        f"UPDATE entry_seals SET entry_id = -1 WHERE entry_id = {first}",
        f"UPDATE entry_seals SET entry_id = {first} WHERE entry_id = {second}",
        f"UPDATE entry_seals SET entry_id = {second} WHERE entry_id = -1",
    )

    broken = {("sealed_entry_is_unchanged", first_name), ("sealed_entry_is_unchanged", second_name)}
    assert found(credits_db) == broken


@pytest.mark.usefixtures("job")
def test_a_changed_hash_breaks_the_chain(credits_db: Database, tamper: Callable[..., None]) -> None:
    tamper("UPDATE entry_seals SET hash = sha256('') WHERE position = 3")

    names = {
        name
        for (name,) in rows(
            credits_db,
            "SELECT transfer_id || ', entry ' || id FROM entries JOIN entry_seals ON entry_id = id"
            " WHERE position IN (3, 4)",
        )
    }
    assert found(credits_db) == {("sealed_entry_is_unchanged", name) for name in names}


@pytest.mark.usefixtures("job")
def test_a_changed_seal_contradicts_the_chain(credits_db: Database, tamper: Callable[..., None]) -> None:
    tamper("UPDATE seals SET hash = sha256('') WHERE number = 1")

    assert found(credits_db) == {("seal_is_in_the_chain", "seal 1")}


def test_a_chain_that_was_cut_short_is_found(credits_db: Database, job: HeldJob, tamper: Callable[..., None]) -> None:
    given_held_job(credits_db, job.org_id)
    seal_entries(credits_db)

    tamper("DELETE FROM entry_seals WHERE position = (SELECT max(position) FROM entry_seals)")

    assert found(credits_db) == {("chain_ends_with_its_last_seal", "chain"), ("seal_is_in_the_chain", "seal 2")}


def test_a_deleted_seal_leaves_a_gap(credits_db: Database, job: HeldJob, tamper: Callable[..., None]) -> None:
    given_held_job(credits_db, job.org_id)
    seal_entries(credits_db)

    tamper("DELETE FROM seals WHERE number = 1")

    assert found(credits_db) == {("seals_have_no_gap", "seal 2")}


def test_entries_that_nobody_seals_are_named_after_a_quarter_of_an_hour(
    credits_db: Database, org: str, tamper: Callable[..., None]
) -> None:
    tamper("UPDATE entries SET created_at = created_at - interval '16 minutes'")
    assert found(credits_db) == set()  # nothing has moved since: the system may have been switched off

    held = given_held_job(credits_db, org)

    opening = f"{org}/opening/grant"
    assert found(credits_db) == {
        ("entry_is_sealed", entry_of(credits_db, opening, wallet=wallet)[1]) for wallet in (True, False)
    }
    assert held.line_ids


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("table", ["entry_seals", "seals", "audits"])
@pytest.mark.parametrize("statement", ["SELECT * FROM {}", "DELETE FROM {}", "INSERT INTO {} DEFAULT VALUES"])
def test_a_tenant_has_no_business_with_the_proof(credits_db: Database, org: str, table: str, statement: str) -> None:
    with pytest.raises(DBAPIError) as error, credits_db.transaction(org_id=org) as session:
        session.execute(sa.text(statement.format(table)))

    assert isinstance(error.value.orig, psycopg2.errors.InsufficientPrivilege)


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("table", ["entry_seals", "seals"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET hash = hash", "DELETE FROM {}", "TRUNCATE {}"])
def test_nobody_rewrites_the_chain(credits_db: Database, table: str, statement: str) -> None:
    with pytest.raises(DBAPIError) as error, credits_db.transaction() as session:
        session.execute(sa.text(statement.format(table)))
    assert isinstance(error.value.orig, psycopg2.errors.InsufficientPrivilege)

    with credits_db.engine.connect() as owner, pytest.raises(DBAPIError, match=f"{table} are append-only"):
        owner.execute(sa.text(statement.format(table)))
