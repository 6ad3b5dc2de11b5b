"""The history an organization reads, and the price list."""

from typing import Any

import pytest

from services.credits import queries
from shared.database import Database
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
from tests.service.credits.ledger_steps import balance, deliver, history


def page(db: Database, org_id: str, **chosen: Any) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return queries.entries(session, org_id=org_id, **chosen)


@pytest.fixture
def org(credits_db: Database) -> str:
    """An organization with a hold, a capture, a partial capture and a refund behind it."""
    org_id = given_account(credits_db, balance=100)
    job = given_held_job(credits_db, org_id, VARIANT, VARIANT, VARIANT, VARIANT)
    first, second, third, _ = job.line_ids
    deliver(credits_db, generation_completed(job, line_id=first), generation_completed(job, line_id=second, amount=3))
    deliver(credits_db, generation_failed(job, line_id=third))
    return org_id


def test_the_entries_sum_up_to_the_balance(credits_db: Database, org: str) -> None:
    entries = history(credits_db, org)

    available, held, _ = balance(credits_db, org)
    assert sum(entry["amount"] for entry in entries) == available == 77
    assert sum(entry["held"] for entry in entries) == held == 10


def test_each_change_of_the_wallet_says_what_was_there_before_and_after(credits_db: Database, org: str) -> None:
    changes = [entry for entry in reversed(history(credits_db, org)) if entry["version"] is not None]

    assert [entry["version"] for entry in changes] == list(range(1, len(changes) + 1))
    available = 0
    for entry in changes:
        assert (entry["available_before"], entry["available_after"]) == (available, available + entry["amount"])
        available = entry["available_after"]


def test_the_newest_entry_comes_first_and_names_its_job_generation_and_reason(credits_db: Database, org: str) -> None:
    newest, *_ = history(credits_db, org)

    assert (newest["kind"], newest["amount"], newest["reason"]) == ("refund", 10, "provider_error")
    assert newest["job_id"].startswith("job_")
    assert newest["generation_id"].startswith("gen_")
    assert newest["created_at"].endswith("Z")


def test_pages_follow_one_another_without_gap_or_repeat(credits_db: Database, org: str) -> None:
    whole = history(credits_db, org)

    collected, cursor, more = [], None, True
    while more:
        part = page(credits_db, org, limit=3, after=cursor)
        assert len(part["data"]) <= 3
        collected += part["data"]
        cursor, more = part["next_cursor"], part["has_more"]

    assert collected == whole
    assert cursor is None


def test_an_entry_written_meanwhile_does_not_move_the_pages(credits_db: Database, org: str) -> None:
    first = page(credits_db, org, limit=2)
    expected = history(credits_db, org)[2:4]
    hold(credits_db, org, VARIANT)

    second = page(credits_db, org, limit=2, after=first["next_cursor"])

    assert second["data"] == expected


def test_entries_can_be_chosen_by_product_and_by_job(credits_db: Database, org: str) -> None:
    job = given_held_job(credits_db, org, BASE_VIEWS)

    assert [entry["job_id"] for entry in history(credits_db, org, product="tech_pack")] == [job.job_id]
    assert [entry["amount"] for entry in history(credits_db, org, job=job.job_id)] == [-3]
    assert history(credits_db, org, product="headshot") == []


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 201}, {"after": "abc"}, {"after": "-1"}, {"after": "9" * 30}]
)
def test_a_page_that_cannot_be_is_refused(credits_db: Database, org: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        page(credits_db, org, **wrong)


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
