"""Holding credits for a job: whole or not at all, once, and only while the job lives."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.credits import handlers, ledger
from services.credits.models import Grant
from services.credits.movements import Request, Reserved, UnknownSku
from shared.database import Database
from shared.events import CreditReserved
from shared.ids import new_id
from shared.problems import BadRequest, InsufficientCredits, JobClosed
from tests.builders import ANALYSIS, BASE_VIEWS, VARIANT, given_account, given_held_job, hold, in_an_hour, job_finished
from tests.service.credits.ledger_steps import available, balance, deliver, history, rows, told, violations


def traces(db: Database) -> list[int]:
    """Count whatever a reservation could leave behind."""
    return [rows(db, f"SELECT count(*) FROM {table}")[0][0] for table in ("reservations", "lines", "entries", "outbox")]


def held_lines(*line_ids: str) -> list[dict[str, Any]]:
    return [{"line_id": line_id, "sku": VARIANT, "unit": "credits", "amount": 10} for line_id in line_ids]


def test_a_hold_moves_the_price_of_each_line_from_available_to_held(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    answer = hold(credits_db, org, VARIANT, VARIANT, line_ids=["gen_a", "gen_b"])

    assert answer["lines"] == held_lines("gen_a", "gen_b")
    assert (answer["available"], answer["held"]) == (80, 20)
    assert answer["reservation_id"].startswith("rsv_")
    assert balance(credits_db, org) == (80, 20, answer["version"])
    assert violations(credits_db) == []


def test_a_hold_is_told_once_with_its_lines_and_the_wallet_after_it(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    answer = hold(credits_db, org, VARIANT, VARIANT, job_id="job_1", line_ids=["gen_a", "gen_b"])

    (event,) = told(credits_db, CreditReserved)
    assert (event.reservation_id, event.job_id, event.org_id) == (answer["reservation_id"], "job_1", org)
    assert (event.amount, event.unit, event.available, event.version) == (20, "credits", 80, answer["version"])
    assert [(line.line_id, line.amount) for line in event.lines] == [("gen_a", 10), ("gen_b", 10)]


def test_a_repeat_answers_alike_and_holds_nothing_more(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    first = hold(credits_db, org, VARIANT, VARIANT, job_id="job_1", line_ids=["gen_a", "gen_b"])

    again = hold(credits_db, org, VARIANT, VARIANT, job_id="job_1", line_ids=["gen_a", "gen_b"])

    assert again == first
    assert len(told(credits_db, CreditReserved)) == 1


def test_a_later_call_adds_lines_to_the_same_reservation(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    first = hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_a"])

    later = hold(credits_db, org, VARIANT, VARIANT, job_id="job_1", line_ids=["gen_a", "gen_b"])

    assert later["reservation_id"] == first["reservation_id"]
    assert later["lines"] == held_lines("gen_a", "gen_b")
    assert (later["available"], later["held"]) == (80, 20)
    assert [line.line_id for line in told(credits_db, CreditReserved)[-1].lines] == ["gen_b"]


def test_a_line_named_twice_in_a_call_is_held_once(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    answer = hold(credits_db, org, VARIANT, VARIANT, line_ids=["gen_a", "gen_a"])

    assert (answer["lines"], answer["available"]) == (held_lines("gen_a"), 90)


def test_too_little_is_refused_with_the_figures_and_leaves_no_trace(credits_db: Database) -> None:
    org = given_account(credits_db, balance=15)
    before = traces(credits_db)

    with pytest.raises(InsufficientCredits) as refusal:
        hold(credits_db, org, VARIANT, VARIANT)

    assert refusal.value.extra == {"required": 20, "available": 15, "unit": "credits", "max_affordable": 1}
    assert traces(credits_db) == before
    assert balance(credits_db, org)[:2] == (15, 0)


def test_the_last_credit_can_be_held(credits_db: Database) -> None:
    org = given_account(credits_db, balance=20)

    answer = hold(credits_db, org, VARIANT, VARIANT)

    assert (answer["available"], answer["held"]) == (0, 20)


def test_lines_that_cannot_be_added_leave_the_earlier_ones_held(credits_db: Database) -> None:
    org = given_account(credits_db, balance=15)
    hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_a"])

    with pytest.raises(InsufficientCredits):
        hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_b"])

    assert balance(credits_db, org)[:2] == (5, 10)
    assert hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_a"])["lines"] == held_lines("gen_a")


def test_an_organization_without_an_account_has_nothing_to_hold(credits_db: Database) -> None:
    with pytest.raises(InsufficientCredits) as refusal:
        hold(credits_db, "org_unknown", VARIANT)

    assert refusal.value.extra["available"] == 0


def test_a_line_without_a_price_is_refused_and_named(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    before = traces(credits_db)

    with pytest.raises(UnknownSku, match=r"teleportation\.image"):
        hold(credits_db, org, VARIANT, "teleportation.image")

    assert traces(credits_db) == before


def test_what_is_free_of_charge_needs_no_reservation(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0)
    before = traces(credits_db)

    answer = hold(credits_db, org, ANALYSIS, line_ids=["gen_a"])

    assert answer["reservation_id"] is None
    assert answer["lines"] == [{"line_id": "gen_a", "sku": ANALYSIS, "unit": "credits", "amount": 0}]
    assert traces(credits_db) == before


def test_a_free_line_beside_a_paid_one_is_answered_and_not_held(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)

    answer = hold(credits_db, org, ANALYSIS, BASE_VIEWS)

    assert [line["amount"] for line in answer["lines"]] == [0, 3]
    assert (answer["available"], answer["held"]) == (97, 3)
    assert [len(event.lines) for event in told(credits_db, CreditReserved)] == [1]


def test_a_job_that_has_ended_takes_no_further_line(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    job = given_held_job(credits_db, org)
    deliver(credits_db, job_finished(job))

    with pytest.raises(JobClosed):
        hold(credits_db, org, VARIANT, job_id=job.job_id)

    assert available(credits_db, org) == 90


def test_the_job_of_another_organization_looks_like_one_that_has_ended(credits_db: Database) -> None:
    first, second = given_account(credits_db), given_account(credits_db)
    job = given_held_job(credits_db, first)

    with pytest.raises(JobClosed):
        hold(credits_db, second, VARIANT, job_id=job.job_id)

    assert balance(credits_db, second)[:2] == (100, 0)
    assert balance(credits_db, first)[:2] == (90, 10)


def test_lines_of_different_jobs_may_have_the_same_name(credits_db: Database) -> None:
    first, second = given_account(credits_db), given_account(credits_db)

    hold(credits_db, first, VARIANT, line_ids=["line_1"])
    hold(credits_db, first, VARIANT, line_ids=["line_1"])
    hold(credits_db, second, VARIANT, line_ids=["line_1"])

    assert (available(credits_db, first), available(credits_db, second)) == (80, 90)
    assert violations(credits_db) == []


def test_each_unit_of_a_call_is_told_by_an_event_of_its_own(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    with credits_db.transaction() as session:
        give = Grant(id="g", org_id=org, unit="plan_generations", amount=5, kind="monthly", reason="plan", actor="test")
        ledger.give(session, give)

    hold(credits_db, org, VARIANT, "studio.image", "studio.image")

    told_of = {event.unit: (event.amount, event.available) for event in told(credits_db, CreditReserved)}
    assert told_of == {"credits": (10, 90), "plan_generations": (2, 3)}
    assert violations(credits_db) == []


def test_a_call_that_lacks_one_of_two_units_holds_neither(credits_db: Database) -> None:
    org = given_account(credits_db, balance=5)

    with pytest.raises(InsufficientCredits) as refusal:
        hold(credits_db, org, "studio.image", VARIANT)

    assert refusal.value.extra == {"required": 10, "available": 5, "unit": "credits", "max_affordable": 1}
    assert balance(credits_db, org)[:2] == (5, 0)
    assert rows(credits_db, "SELECT sum(available) FROM accounts WHERE unit = 'plan_generations'")[0][0] == 0


def test_a_new_price_counts_for_new_jobs_and_not_for_one_that_is_open(
    credits_db: Database, tamper: Callable[..., None]
) -> None:
    org = given_account(credits_db, balance=100)
    hold(credits_db, org, VARIANT, job_id="job_old")
    set_price(tamper, VARIANT, 12)

    hold(credits_db, org, VARIANT, job_id="job_old")
    hold(credits_db, org, VARIANT, job_id="job_new")

    assert [entry["amount"] for entry in history(credits_db, org)] == [-12, -10, -10, 100]


def test_a_sku_whose_price_has_ended_is_refused(credits_db: Database, tamper: Callable[..., None]) -> None:
    org = given_account(credits_db, balance=100)
    set_price(tamper, VARIANT, 12, ends="now()")

    with pytest.raises(UnknownSku):
        hold(credits_db, org, VARIANT)


def set_price(tamper: Callable[..., None], sku: str, amount: int, *, ends: str = "NULL") -> None:
    """Write the price book; no tenant and no handler may do that."""
    tamper(
        "INSERT INTO price_book (sku, product, unit, amount, valid_from, valid_to)"
        f" VALUES ('{sku}', split_part('{sku}', '.', 1), 'credits', {amount}, now() - interval '1 microsecond', {ends})"
    )


@pytest.mark.parametrize("deadline", ["tomorrow", "2031-05-01T12:00:00"])
def test_a_deadline_that_is_no_moment_is_refused(credits_db: Database, deadline: str) -> None:
    org = given_account(credits_db)

    with pytest.raises(BadRequest):
        handlers.reserve(
            credits_db, org_id=org, job_id="job_1", deadline_at=deadline, lines=[{"line_id": "gen_a", "sku": VARIANT}]
        )


def test_a_later_deadline_extends_the_reservation_and_an_earlier_one_does_not_shorten_it(credits_db: Database) -> None:
    org = given_account(credits_db)
    hold(credits_db, org, VARIANT, job_id="job_1", line_ids=["gen_a"])
    later = datetime.now(UTC) + timedelta(hours=5)

    for deadline in (later.isoformat(), in_an_hour()):
        handlers.reserve(
            credits_db, org_id=org, job_id="job_1", deadline_at=deadline, lines=[{"line_id": "gen_a", "sku": VARIANT}]
        )

    assert rows(credits_db, "SELECT deadline_at FROM reservations")[0].deadline_at == later


def asked(org_id: str, *line_ids: str, job_id: str | None = None) -> Request:
    return Request(
        org_id=org_id,
        job_id=job_id or new_id("job"),
        deadline_at=datetime.now(UTC) + timedelta(hours=1),
        lines=dict.fromkeys(line_ids, VARIANT),
    )


def test_a_batch_answers_each_request_in_order_as_if_it_were_alone(credits_db: Database) -> None:
    rich, poor = given_account(credits_db, balance=100), given_account(credits_db, balance=15)
    twice = asked(rich, "a")

    with credits_db.transaction() as session:
        outcomes = ledger.reserve(
            session, [asked(poor, "a", "b"), asked(poor, "a"), asked(poor, "b"), twice, asked(rich, "a", "b"), twice]
        )

    assert [isinstance(outcome, Reserved) for outcome in outcomes] == [False, True, False, True, True, True]
    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, Reserved)] == [InsufficientCredits] * 2
    assert (available(credits_db, poor), available(credits_db, rich)) == (5, 70)
    assert rows(credits_db, "SELECT count(*) FROM reservations")[0][0] == 3
    assert [len(outcome.holds) for outcome in outcomes if isinstance(outcome, Reserved)] == [1, 1, 1, 0]
    assert violations(credits_db) == []


def test_a_batch_refuses_the_job_of_another_organization_though_it_may_see_it(credits_db: Database) -> None:
    first, second = given_account(credits_db), given_account(credits_db)
    job = given_held_job(credits_db, first)

    with credits_db.transaction() as session:
        (outcome,) = ledger.reserve(session, [asked(second, "a", job_id=job.job_id)])

    assert isinstance(outcome, JobClosed)
    assert balance(credits_db, second)[:2] == (100, 0)


def test_each_answer_of_a_batch_has_the_wallet_as_it_was_after_it(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    requests = [asked(org, "a", job_id="job_1"), asked(org, "a", "b", job_id="job_2")]

    with credits_db.transaction() as session:
        outcomes = ledger.reserve(session, requests)

    holds = [hold for outcome in outcomes if isinstance(outcome, Reserved) for hold in outcome.holds]
    assert [(hold.amount, hold.available, hold.version) for hold in holds] == [(10, 90, 2), (20, 70, 4)]
