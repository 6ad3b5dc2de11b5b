"""Holds of as many lines as can be, in the order asked for; and holds that are only tried."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.credits.movements import Reserved
from shared.database import Database
from shared.events import CreditReserved
from shared.problems import (
    BadRequest,
    DailyCapReached,
    InsufficientCredits,
    JobClosed,
    NotFound,
    Problem,
    QuotaExceeded,
    QuoteMismatch,
    UnknownSku,
)
from tests.builders import (
    ANALYSIS,
    BASE_VIEWS,
    SMALL_EDIT,
    STUDIO_IMAGE,
    VARIANT,
    given_account,
    given_held_job,
    hold,
    job_finished,
)
from tests.service.credits.ledger_steps import (
    all_at_once,
    ask,
    balance,
    change,
    deliver,
    give,
    request,
    rows,
    told,
    violations,
)

TABLES = (
    "accounts",
    "adjustments",
    "daily_usage",
    "entries",
    "grants",
    "lines",
    "organization_plans",
    "outbox",
    "quotes",
    "reservations",
)
COUNTERS = ("darkroom_credits_reserved_total", "darkroom_events_published_total")


def partly(db: Database, org_id: str, *skus: str, **asked: Any) -> dict[str, Any]:
    """Hold what can be held of lines gen_0, gen_1, ..."""
    line_ids = [f"gen_{number}" for number in range(len(skus))]
    return hold(db, org_id, *skus, **{"job_id": "job_1", "line_ids": line_ids, "partial": True, **asked})


def held_ids(answer: dict[str, Any]) -> list[str]:
    return [line["line_id"] for line in answer["lines"]]


def everything(db: Database) -> dict[str, Any]:
    return {table: rows(db, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in TABLES}


def counted() -> list[float | None]:
    return [REGISTRY.get_sample_value(name) for name in COUNTERS]


# --- in part --------------------------------------------------------------------------------------------------------


def test_as_many_lines_are_held_as_can_be_paid_for(credits_db: Database) -> None:
    org = given_account(credits_db, balance=25)

    answer = partly(credits_db, org, VARIANT, VARIANT, VARIANT, VARIANT)

    assert held_ids(answer) == ["gen_0", "gen_1"]
    assert (answer["available"], answer["held"]) == (5, 20)
    shortfall = {
        name: answer["shortfall"][name] for name in ("code", "unit", "required", "available", "max_affordable")
    }
    assert shortfall == {
        "code": "insufficient_credits",
        "unit": "credits",
        "required": 40,
        "available": 25,
        "max_affordable": 2,
    }
    assert answer["shortfall"]["detail"]
    (event,) = told(credits_db, CreditReserved)
    assert ([line.line_id for line in event.lines], event.amount) == (["gen_0", "gen_1"], 20)
    assert violations(credits_db) == []


def test_the_lines_held_are_the_first_ones_even_where_a_later_one_would_fit(credits_db: Database) -> None:
    org = given_account(credits_db, balance=12)

    answer = partly(credits_db, org, SMALL_EDIT, VARIANT, VARIANT, SMALL_EDIT)

    assert held_ids(answer) == ["gen_0", "gen_1"]
    assert (answer["available"], answer["shortfall"]["max_affordable"]) == (1, 2)


def test_the_order_is_that_of_the_call_whatever_the_ids(credits_db: Database) -> None:
    org = given_account(credits_db, balance=10)

    answer = hold(credits_db, org, VARIANT, VARIANT, line_ids=["gen_z", "gen_a"], partial=True)

    assert held_ids(answer) == ["gen_z"]


def test_what_can_be_paid_for_entirely_has_no_shortfall(credits_db: Database) -> None:
    org = given_account(credits_db, balance=20)

    answer = partly(credits_db, org, VARIANT, VARIANT)

    assert held_ids(answer) == ["gen_0", "gen_1"]
    assert answer["shortfall"] is None


def test_where_not_one_line_can_be_paid_for_it_is_refused_without_a_trace(credits_db: Database) -> None:
    org = given_account(credits_db, balance=9)
    before = everything(credits_db)

    with pytest.raises(InsufficientCredits) as refused:
        partly(credits_db, org, VARIANT, SMALL_EDIT)

    assert refused.value.extra["max_affordable"] == 0
    assert everything(credits_db) == before


def test_of_the_plan_as_many_are_held_as_are_left(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free", balance=0)
    hold(credits_db, org, *[STUDIO_IMAGE] * 85)

    answer = partly(credits_db, org, *[STUDIO_IMAGE] * 180)

    assert len(answer["lines"]) == 15
    shortfall = answer["shortfall"]
    assert (shortfall["code"], shortfall["limit"], shortfall["used"]) == ("quota_exceeded", 100, 85)
    assert (shortfall["requested"], shortfall["max_affordable"]) == (180, 15)
    assert violations(credits_db) == []


def test_the_first_unit_that_does_not_suffice_ends_the_lines_held(credits_db: Database) -> None:
    org = given_account(credits_db, plan="free", balance=10)
    hold(credits_db, org, *[STUDIO_IMAGE] * 99)

    answer = partly(credits_db, org, STUDIO_IMAGE, VARIANT, STUDIO_IMAGE, VARIANT)

    assert held_ids(answer) == ["gen_0", "gen_1"]
    assert answer["shortfall"]["code"] == "quota_exceeded"
    assert violations(credits_db) == []


def test_free_lines_go_along_up_to_the_one_that_cannot_be_paid_for(credits_db: Database) -> None:
    org = given_account(credits_db, balance=10)

    answer = partly(credits_db, org, ANALYSIS, VARIANT, ANALYSIS, VARIANT, ANALYSIS)

    assert held_ids(answer) == ["gen_0", "gen_1", "gen_2"]
    assert answer["shortfall"]["max_affordable"] == 3


def test_the_same_again_adds_nothing_and_says_what_is_missing(credits_db: Database) -> None:
    org = given_account(credits_db, balance=25)
    first = partly(credits_db, org, VARIANT, VARIANT, VARIANT)

    again = partly(credits_db, org, VARIANT, VARIANT, VARIANT)

    assert held_ids(again) == held_ids(first)
    assert again["reservation_id"] == first["reservation_id"]
    assert (again["shortfall"]["required"], again["shortfall"]["max_affordable"]) == (10, 0)
    assert len(told(credits_db, CreditReserved)) == 1


def test_the_same_again_after_a_top_up_adds_the_rest(credits_db: Database) -> None:
    org = given_account(credits_db, balance=25)
    partly(credits_db, org, VARIANT, VARIANT, VARIANT, VARIANT)
    give(credits_db, org, 5, "grt_1")
    third = partly(credits_db, org, VARIANT, VARIANT, VARIANT, VARIANT)
    give(credits_db, org, 100, "grt_2")

    last = partly(credits_db, org, VARIANT, VARIANT, VARIANT, VARIANT)

    assert held_ids(third) == ["gen_0", "gen_1", "gen_2"]
    assert held_ids(last) == ["gen_0", "gen_1", "gen_2", "gen_3"]
    assert (last["shortfall"], last["available"], last["held"]) == (None, 90, 40)
    assert [[line.line_id for line in event.lines] for event in told(credits_db, CreditReserved)] == [
        ["gen_0", "gen_1"],
        ["gen_2"],
        ["gen_3"],
    ]
    assert violations(credits_db) == []


def test_of_a_batch_the_first_takes_what_the_second_lacks(credits_db: Database) -> None:
    org = given_account(credits_db, balance=35)
    first = request(org, VARIANT, VARIANT, VARIANT, VARIANT, partial=True)
    second = request(org, VARIANT, partial=True)
    third = request(org, BASE_VIEWS, BASE_VIEWS, partial=True)

    answers = ask(credits_db, first, second, third)

    assert isinstance(answers[0], Reserved)
    assert isinstance(answers[1], InsufficientCredits)
    assert isinstance(answers[2], Reserved)
    assert [len(answer.lines) for answer in answers if isinstance(answer, Reserved)] == [3, 1]
    assert (answers[1].extra["available"], answers[1].extra["required"]) == (5, 10)
    assert answers[2].shortfall
    assert answers[2].shortfall.extra["available"] == 5
    assert balance(credits_db, org)[:2] == (2, 33)
    assert violations(credits_db) == []


def test_of_a_batch_with_one_job_twice_the_later_request_completes_the_earlier(credits_db: Database) -> None:
    org = given_account(credits_db, balance=20)
    whole = request(org, VARIANT, VARIANT, job_id="job_1", partial=True)
    start = request(org, VARIANT, job_id="job_1")

    answers = ask(credits_db, start, whole)

    assert [len(answer.lines) for answer in answers if isinstance(answer, Reserved)] == [1, 2]
    assert balance(credits_db, org)[:2] == (0, 20)
    assert violations(credits_db) == []


def test_many_at_once_share_what_there_is_and_never_more(credits_db: Database) -> None:
    org = given_account(credits_db, balance=0)
    for number in range(5):
        give(credits_db, org, 11, f"grt_{number}", days=1 + number)

    answers = all_at_once(*[lambda: hold(credits_db, org, *[BASE_VIEWS] * 4, partial=True)] * 20)

    passed = [answer for answer in answers if isinstance(answer, dict)]
    assert {type(answer) for answer in answers if not isinstance(answer, dict)} == {InsufficientCredits}
    assert sum(len(answer["lines"]) for answer in passed) == 55 // 3
    assert balance(credits_db, org)[:2] == (1, 54)
    assert violations(credits_db) == []


# --- only tried -----------------------------------------------------------------------------------------------------


def outcome(call: Callable[[], dict[str, Any]]) -> Any:
    """Return what can be compared of an answer or a refusal; the id of a reservation is new each time."""
    try:
        return {**call(), "reservation_id": None}
    except Problem as refused:
        return type(refused), refused.as_dict()


CASES: dict[str, tuple[tuple[str, ...], dict[str, Any], type[Problem] | None]] = {
    "held": ((VARIANT, BASE_VIEWS), {}, None),
    "partly held": ((VARIANT,) * 9, {"partial": True}, None),
    "free": ((ANALYSIS,), {}, None),
    "plan": ((STUDIO_IMAGE,) * 90, {}, None),
    "no credits": ((VARIANT,) * 9, {}, InsufficientCredits),
    "no allowance": ((STUDIO_IMAGE,) * 101, {}, QuotaExceeded),
    "too expensive for us": ((VARIANT,), {"cost_microusd": 1_000_000_000}, DailyCapReached),
    "no price": (("teleportation.image",), {}, UnknownSku),
    "no quote": ((VARIANT,), {"quote_id": "quo_none", "fingerprint": "x"}, NotFound),
    "closed": ((VARIANT,), {"job_id": "job_closed"}, JobClosed),
    "open job": ((VARIANT,), {"job_id": "job_open"}, None),
    "open job without that quote": ((VARIANT,), {"job_id": "job_open", "quote_id": "quo_1"}, QuoteMismatch),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hold_that_is_tried_ends_as_the_real_one_and_leaves_nothing(credits_db: Database, case: str) -> None:
    skus, asked, refused = CASES[case]
    org = given_account(credits_db, plan="free", balance=50)
    given_held_job(credits_db, org, SMALL_EDIT)
    hold(credits_db, org, SMALL_EDIT, job_id="job_open")
    closed = given_held_job(credits_db, org, SMALL_EDIT)
    deliver(credits_db, job_finished(closed))
    change(
        credits_db,
        "INSERT INTO quotes"
        " (id, org_id, livemode, workflow, fingerprint, lines, amount, images, estimated_seconds, expires_at)"
        " VALUES ('quo_1', :org, true, 'staging', 'x', '[]', 100, 1, 1, now() + interval '1 hour')",
        org=org,
    )
    asked = {**asked, "job_id": closed.job_id} if case == "closed" else asked
    line_ids = [f"gen_{number}" for number in range(len(skus))]

    def attempt(**more: Any) -> dict[str, Any]:
        return hold(credits_db, org, *skus, **{"job_id": "job_1", "line_ids": line_ids, **asked, **more})

    before = everything(credits_db), counted()
    tried = [outcome(lambda: attempt(dry_run=True)) for _ in range(2)]
    after = everything(credits_db), counted()
    real = outcome(attempt)

    assert tried == [real, real]
    assert after == before
    assert (isinstance(real, tuple) and real[0]) == (refused or False)
    assert violations(credits_db) == []


def test_twenty_tries_at_once_keep_nothing_from_each_other(credits_db: Database) -> None:
    org = given_account(credits_db, balance=10)
    before = everything(credits_db)

    answers = all_at_once(*[lambda: hold(credits_db, org, VARIANT, dry_run=True)] * 20)

    assert [answer["available"] for answer in answers] == [0] * 20
    assert everything(credits_db) == before


def test_a_hold_asked_for_wrongly_is_refused_when_tried_too(credits_db: Database) -> None:
    org = given_account(credits_db)

    with pytest.raises(BadRequest):
        hold(credits_db, org, VARIANT, dry_run=True, accepted_at="yesterday")
