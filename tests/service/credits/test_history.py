"""The history an organization reads, and the price list."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.credits import accounts, history, queries
from shared.database import Database
from shared.ids import new_id
from shared.problems import BadRequest
from tests.builders import (
    BASE_VIEWS,
    VARIANT,
    generation_completed,
    generation_failed,
    given_account,
    given_held_job,
    hold,
)
from tests.service.credits.ledger_steps import (
    ask,
    at,
    balance,
    change,
    deliver,
    give,
    held_at,
    request,
    returned_at,
    rows,
    settled_at,
)

IMAGE = "studio.image"  # 1 plan generation


def page(db: Database, org_id: str, **chosen: Any) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return history.entries(session, org_id=org_id, **chosen)


def entries(db: Database, org_id: str, **chosen: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page(db, org_id, limit=200, **chosen)["data"]
    return found


@pytest.fixture
def org(credits_db: Database) -> str:
    """An organization with a hold, a capture, a partial capture and a refund behind it."""
    org_id = given_account(credits_db, balance=100)
    job = given_held_job(credits_db, org_id, VARIANT, VARIANT, VARIANT, VARIANT)
    first, second, third, _ = job.line_ids
    deliver(credits_db, generation_completed(job, line_id=first), generation_completed(job, line_id=second, amount=3))
    deliver(credits_db, generation_failed(job, line_id=third))
    return org_id


@pytest.fixture
def busy(credits_db: Database) -> str:
    """An organization to which everything happened that can happen to a wallet."""
    org_id = given_account(credits_db, balance=100, plan="free")
    deadline, noon = datetime.now().astimezone(), at("2031-05-01T12:00:00")
    give(credits_db, org_id, 30, f"{org_id}/gift", kind="promotional", days=10)
    asked = request(org_id, VARIANT, VARIANT, BASE_VIEWS, prefix=new_id("gen"), session_id="ses_1", actor="user Una")
    ask(credits_db, asked, now=deadline)
    ask(credits_db, request(org_id, IMAGE, IMAGE, session_id="ses_2"), now=noon)
    job = held_at(credits_db, org_id, VARIANT, VARIANT, now=noon)
    settled_at(credits_db, job, job.line_ids[0], now=noon + timedelta(hours=1), amount=10)
    settled_at(credits_db, job, job.line_ids[1], now=noon + timedelta(hours=1), reason="timed_out")
    returned_at(credits_db, job, line_id=job.line_ids[0], now=noon + timedelta(hours=2))
    accounts.expire_grants(credits_db, now=noon + timedelta(hours=3))
    accounts.adjust(credits_db, adjustment_id="adj_1", org_id=org_id, amount=7, reason="goodwill", actor="admin Ada")
    accounts.adjust(credits_db, adjustment_id="adj_2", org_id=org_id, amount=-5, reason="typo", actor="admin Ada")
    return org_id


def test_the_entries_sum_up_to_the_balance(credits_db: Database, org: str) -> None:
    found = entries(credits_db, org)

    available, held, _ = balance(credits_db, org)
    assert sum(entry["amount"] for entry in found) == available == 77
    assert sum(entry["held"] for entry in found) == held == 10


def test_entries_of_every_kind_sum_up_to_the_balance_of_their_unit(credits_db: Database, busy: str) -> None:
    found = entries(credits_db, busy)

    assert {entry["kind"] for entry in found} == set(history.KINDS)
    for unit in ("credits", "plan_generations"):
        (wallet,) = rows(
            credits_db,
            "SELECT w.available, w.held_total - h.captured_total AS held FROM accounts w JOIN accounts h"
            " USING (org_id, unit) WHERE org_id = :org AND unit = :unit AND w.kind = 'wallet' AND h.kind = 'held'",
            org=busy,
            unit=unit,
        )
        assert sum(entry["amount"] for entry in found if entry["unit"] == unit) == wallet.available
        assert sum(entry["held"] for entry in found if entry["unit"] == unit) == wallet.held > 0


@pytest.mark.parametrize(
    ("kind", "causes"),
    [
        ("hold", {"job_accepted"}),
        ("capture", {"generation_completed"}),
        ("refund", {"timed_out"}),
        ("return", {"refunded_by_support"}),
        ("grant", {"promotional"}),
        ("allowance", {"allowance"}),
        ("expiry", {"expired"}),
        ("adjustment", {"adjustment"}),
    ],
)
def test_an_entry_says_in_a_word_what_brought_it_about(
    credits_db: Database, busy: str, kind: str, causes: set[str]
) -> None:
    assert {entry["cause"] for entry in entries(credits_db, busy, kind=kind)} == causes


def test_each_change_of_the_wallet_says_what_was_there_before_and_after(credits_db: Database, busy: str) -> None:
    for unit in ("credits", "plan_generations"):
        changes = [entry for entry in reversed(entries(credits_db, busy, unit=unit)) if entry["version"] is not None]

        assert [entry["version"] for entry in changes] == list(range(1, len(changes) + 1))
        available = 0
        for entry in changes:
            assert (entry["available_before"], entry["available_after"]) == (available, available + entry["amount"])
            available = entry["available_after"]


def test_a_change_by_an_administrator_names_who_made_it_and_why(credits_db: Database, busy: str) -> None:
    (returned,) = entries(credits_db, busy, kind="return")
    taken, added = entries(credits_db, busy, kind="adjustment")

    assert (returned["actor"], returned["reason"], returned["amount"]) == ("admin Ada", "blurred", 10)
    assert (taken["actor"], taken["reason"], taken["amount"]) == ("admin Ada", "typo", -5)
    assert (added["actor"], added["reason"], added["amount"]) == ("admin Ada", "goodwill", 7)


def test_the_newest_entry_comes_first_and_names_its_job_generation_and_reason(credits_db: Database, org: str) -> None:
    newest, *_ = entries(credits_db, org)

    assert (newest["kind"], newest["amount"], newest["reason"]) == ("refund", 10, "provider_error")
    assert newest["job_id"].startswith("job_")
    assert newest["generation_id"].startswith("gen_")
    assert newest["created_at"].endswith("Z")


def test_pages_follow_one_another_without_gap_or_repeat(credits_db: Database, busy: str) -> None:
    whole = entries(credits_db, busy)

    collected, cursor, more = [], None, True
    while more:
        part = page(credits_db, busy, limit=3, after=cursor)
        assert len(part["data"]) <= 3
        collected += part["data"]
        cursor, more = part["next_cursor"], part["has_more"]

    assert collected == whole
    assert cursor is None


def test_an_entry_written_meanwhile_does_not_move_the_pages(credits_db: Database, org: str) -> None:
    first = page(credits_db, org, limit=2)
    expected = entries(credits_db, org)[2:4]
    hold(credits_db, org, VARIANT)

    second = page(credits_db, org, limit=2, after=first["next_cursor"])

    assert second["data"] == expected


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("product", "product", "tech_pack"),
        ("kind", "kind", "capture"),
        ("unit", "unit", "plan_generations"),
        ("session", "session_id", "ses_1"),
        ("job", "job_id", None),
        ("generation", "generation_id", None),
    ],
)
def test_entries_can_be_chosen_by_what_they_say(
    credits_db: Database, busy: str, name: str, field: str, value: str | None
) -> None:
    whole = entries(credits_db, busy)
    value = value or next(entry[field] for entry in whole if entry[field])

    chosen = entries(credits_db, busy, **{name: value})

    assert chosen == [entry for entry in whole if entry[field] == value]
    assert 0 < len(chosen) < len(whole)


def test_entries_can_be_chosen_by_several_things_at_once(credits_db: Database, busy: str) -> None:
    whole = entries(credits_db, busy)

    chosen = entries(credits_db, busy, session="ses_1", product="staging", kind="hold", unit="credits")

    assert chosen == [entry for entry in whole if entry["session_id"] == "ses_1" and entry["product"] == "staging"]
    assert len(chosen) == 2


def test_nothing_is_chosen_by_what_nothing_has(credits_db: Database, busy: str) -> None:
    for name in ("product", "job", "generation", "session"):
        assert entries(credits_db, busy, **{name: "nothing"}) == []


def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(credits_db: Database, busy: str) -> None:
    one, two = "2031-05-01T13:00:00Z", "2031-05-01T14:00:00+00:00"

    assert {entry["kind"] for entry in entries(credits_db, busy, since=one, until=two)} == {"capture", "refund"}
    assert {entry["kind"] for entry in entries(credits_db, busy, since=two)} == {"return", "expiry"}
    assert entries(credits_db, busy, since="2099-01-01T00:00:00Z") == []
    assert entries(credits_db, busy, until="2020-01-01T00:00:00Z") == []


def test_pages_of_a_choice_hold_only_what_was_chosen(credits_db: Database, busy: str) -> None:
    whole = entries(credits_db, busy, kind="hold")

    first = page(credits_db, busy, kind="hold", limit=2)
    second = page(credits_db, busy, kind="hold", limit=2, after=first["next_cursor"])

    assert first["data"] + second["data"] == whole[:4]


def test_an_entry_and_its_generation_lead_to_each_other(credits_db: Database, org: str) -> None:
    newest, *_ = entries(credits_db, org)

    of_generation = entries(credits_db, org, generation=newest["generation_id"])

    assert [entry["kind"] for entry in of_generation] == ["refund", "hold"]
    assert {entry["job_id"] for entry in of_generation} == {newest["job_id"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 201},
        {"after": "abc"},
        {"after": "-1"},
        {"after": "9" * 30},
        {"kind": "theft"},
        {"unit": "dollars"},
        {"since": "yesterday"},
        {"until": "2031-05-01T12:00:00"},
        {"color": "red"},
    ],
)
def test_a_page_that_cannot_be_is_refused(credits_db: Database, org: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        page(credits_db, org, **wrong)


def test_the_place_in_the_history_of_another_organization_is_no_cursor(credits_db: Database, org: str) -> None:
    cursor = page(credits_db, org, limit=1)["next_cursor"]

    with pytest.raises(BadRequest):
        page(credits_db, given_account(credits_db), after=cursor)


def test_the_price_list_has_every_price_of_the_contract(credits_db: Database) -> None:
    with credits_db.transaction() as session:
        prices = queries.pricing(session)["data"]

    assert {(price["sku"], price["amount"]) for price in prices} == {
        ("staging.empty_room", 10),
        ("staging.variant", 10),
        ("staging.edit", 10),
        ("tech_pack.category", 0),
        ("tech_pack.base_views", 3),
        ("tech_pack.close_ups", 3),
        ("tech_pack.sketches", 3),
        ("tech_pack.edit", 1),
        ("tech_pack.regenerate", 1),
        ("studio.analysis", 0),
        ("studio.inspiration", 0),
        ("studio.image", 1),
        ("headshot.image", 2),
    }
    assert {price["sku"] for price in prices if price["unit"] == "plan_generations"} == {"studio.image"}
    assert {price["product"] for price in prices} == {"staging", "tech_pack", "studio", "headshot"}


def test_the_price_list_announces_what_will_cost_something_else(credits_db: Database) -> None:
    change(
        credits_db,
        "INSERT INTO price_book (sku, product, unit, amount, valid_from, valid_to) VALUES"
        " ('staging.variant', 'staging', 'credits', 12, '2099-01-01T00:00:00Z', NULL),"
        " ('staging.mirror', 'staging', 'credits', 4, '2099-01-01T00:00:00Z', '2099-03-01T00:00:00Z')",
    )

    with credits_db.transaction(org_id="org_a") as session:
        today = queries.pricing(session)
        then = queries.pricing(session, now=at("2099-01-01T00:00:00"))
        later = queries.pricing(session, now=at("2099-03-01T00:00:00"))

    (variant,) = [price for price in today["data"] if price["sku"] == "staging.variant"]
    assert (variant["amount"], variant["valid_to"]) == (10, "2099-01-01T00:00:00.000Z")
    assert [(price["sku"], price["amount"], price["valid_from"], price["valid_to"]) for price in today["upcoming"]] == [
        ("staging.mirror", 4, "2099-01-01T00:00:00.000Z", "2099-03-01T00:00:00.000Z"),
        ("staging.variant", 12, "2099-01-01T00:00:00.000Z", None),
    ]
    in_force = {price["sku"]: price for price in then["data"]}
    assert (in_force["staging.variant"]["amount"], in_force["staging.mirror"]["amount"]) == (12, 4)
    assert in_force["staging.variant"]["price_version"] != variant["price_version"]
    assert then["upcoming"] == []
    assert "staging.mirror" not in {price["sku"] for price in later["data"]}


def test_the_plans_are_listed_the_cheapest_first(credits_db: Database) -> None:
    with credits_db.transaction(org_id="org_a") as session:
        plans = queries.plans(session)["data"]

    assert plans == [
        {"name": "free", "monthly_generations": 100, "price_usd_cents": 0},
        {"name": "pro", "monthly_generations": None, "price_usd_cents": 4900},
        {"name": "team", "monthly_generations": None, "price_usd_cents": 9900},
    ]
