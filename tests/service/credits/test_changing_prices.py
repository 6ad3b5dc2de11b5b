"""Changing the price book: from some time on, and never what was in force."""

from datetime import UTC, datetime, timedelta

import pytest

from services.credits import prices, queries
from shared.database import Database
from shared.problems import BadRequest, Conflict, NotFound
from tests.builders import VARIANT
from tests.service.credits.ledger_steps import rows


def in_minutes(minutes: int) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def amount_at(db: Database, sku: str, moment: datetime) -> int | None:
    found = rows(db, "SELECT amount FROM price_at(:sku, :moment)", sku=sku, moment=moment)
    return found[0].amount if found else None


def test_a_new_price_is_announced_and_counts_from_its_time_on(credits_db: Database) -> None:
    begins = in_minutes(60)

    changed = prices.change(credits_db, sku=VARIANT, amount=12, actor="ada", valid_from=begins.isoformat())

    assert (changed["amount"], changed["unit"], changed["product"]) == (12, "credits", "staging")
    assert amount_at(credits_db, VARIANT, begins - timedelta(seconds=1)) == 10
    assert amount_at(credits_db, VARIANT, begins) == 12
    with credits_db.transaction() as session:
        assert [(each["sku"], each["amount"]) for each in queries.pricing(session)["upcoming"]] == [(VARIANT, 12)]


def test_without_a_time_a_price_changes_as_soon_as_it_may(credits_db: Database) -> None:
    changed = prices.change(credits_db, sku=VARIANT, amount=12, actor="ada")

    begins = datetime.fromisoformat(changed["valid_from"])
    assert timedelta() < begins - datetime.now(UTC) <= prices.NOTICE


def test_a_price_that_ended_refuses_its_sku_from_then_on(credits_db: Database) -> None:
    ends = in_minutes(60)

    prices.end(credits_db, sku=VARIANT, actor="ada", valid_to=ends.isoformat())

    assert amount_at(credits_db, VARIANT, ends - timedelta(seconds=1)) == 10
    assert amount_at(credits_db, VARIANT, ends) is None


def test_a_new_sku_needs_its_unit(credits_db: Database) -> None:
    with pytest.raises(BadRequest):
        prices.change(credits_db, sku="video.second", amount=5, actor="ada")

    assert prices.change(credits_db, sku="video.second", amount=5, actor="ada", unit="credits")["product"] == "video"


@pytest.mark.parametrize("wrong", [{"amount": -1}, {"unit": "euros"}, {"valid_from": "2020-01-01T00:00:00Z"}])
def test_a_price_that_makes_no_sense_is_refused(credits_db: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        prices.change(credits_db, **{"sku": VARIANT, "amount": 12, "actor": "ada", **wrong})


def test_two_prices_cannot_begin_at_the_same_time(credits_db: Database) -> None:
    begins = in_minutes(60).isoformat()
    prices.change(credits_db, sku=VARIANT, amount=12, actor="ada", valid_from=begins)

    with pytest.raises(Conflict):
        prices.change(credits_db, sku=VARIANT, amount=13, actor="ada", valid_from=begins)


def test_what_has_no_price_cannot_end(credits_db: Database) -> None:
    with pytest.raises(NotFound):
        prices.end(credits_db, sku="video.second", actor="ada")
