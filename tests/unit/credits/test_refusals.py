"""What a refused hold says: which figures, in which words, and what can be done about it."""

from typing import Any

import pytest

from services.credits.movements import hold_refused, refusal
from shared.problems import (
    DailyCapReached,
    HoldRefused,
    InsufficientCredits,
    JobClosed,
    NotFound,
    Problem,
    QuotaExceeded,
    QuoteExpired,
    QuoteMismatch,
    QuoteUsed,
    UnknownSku,
    from_dict,
)

CREDITS = {"unit": "credits", "required": 20, "available": 15, "max_affordable": 1}
QUOTA = {
    "unit": "plan_generations",
    "limit": 100,
    "used": 85,
    "requested": 180,
    "max_affordable": 15,
    "resets_at": "2031-06-01T00:00:00+00:00",
}
CAP = {"max_affordable": 3, "resets_at": "2031-05-02T00:00:00+00:00"}
HOLDS: list[tuple[str, dict[str, Any], type[HoldRefused]]] = [
    ("insufficient_credits", CREDITS, InsufficientCredits),
    ("quota_exceeded", QUOTA, QuotaExceeded),
    ("daily_cap_reached", CAP, DailyCapReached),
]
QUOTES: list[tuple[str, type[Problem], int]] = [
    ("quote_not_found", NotFound, 404),
    ("quote_used", QuoteUsed, 409),
    ("quote_expired", QuoteExpired, 409),
    ("quote_mismatch", QuoteMismatch, 422),
]


@pytest.mark.parametrize(("code", "figures", "kind"), HOLDS)
def test_a_hold_that_cannot_be_paid_for_is_a_402_with_its_figures(
    code: str, figures: dict[str, Any], kind: type[HoldRefused]
) -> None:
    problem = refusal(code, {"code": code, **figures})

    assert type(problem) is kind
    assert (problem.status, problem.code) == (402, code)
    assert problem.extra == figures


@pytest.mark.parametrize(("code", "figures", "kind"), HOLDS)
def test_it_says_that_nothing_was_charged(code: str, figures: dict[str, Any], kind: type[HoldRefused]) -> None:
    assert "Nothing was charged" in hold_refused(code, figures).detail
    assert kind.title not in hold_refused(code, figures).detail


@pytest.mark.parametrize(("code", "figures", "kind"), HOLDS)
def test_it_survives_the_way_to_another_service(code: str, figures: dict[str, Any], kind: type[HoldRefused]) -> None:
    sent = hold_refused(code, figures)

    received = from_dict(sent.as_dict())

    assert type(received) is kind
    assert (received.extra, received.detail, received.retryable) == (figures, sent.detail, sent.retryable)


def test_too_few_credits_are_told_with_both_numbers() -> None:
    assert "needs 20 credits, and 15 are available" in hold_refused("insufficient_credits", CREDITS).detail


def test_a_used_up_allowance_is_told_with_the_three_choices() -> None:
    detail = hold_refused("quota_exceeded", QUOTA).detail

    assert "100 plan generations 85 are used, and this asks for 180" in detail
    assert detail.endswith("ask for at most 15, upgrade the plan, or wait until 2031-06-01.")


def test_nobody_is_told_to_ask_for_none() -> None:
    detail = hold_refused("quota_exceeded", {**QUOTA, "used": 100, "max_affordable": 0}).detail

    assert detail.endswith("Nothing was charged: upgrade the plan, or wait until 2031-06-01.")


def test_only_the_limit_of_a_day_is_worth_trying_again_and_its_figures_tell_no_cost() -> None:
    assert [hold_refused(code, figures).retryable for code, figures, _ in HOLDS] == [False, False, True]
    assert "2031-05-02T00:00 UTC" in hold_refused("daily_cap_reached", CAP).detail
    assert "microusd" not in str(hold_refused("daily_cap_reached", CAP).as_dict())


@pytest.mark.parametrize(("outcome", "kind", "status"), QUOTES)
def test_a_quote_that_is_no_good_is_told_in_words_of_its_own(outcome: str, kind: type[Problem], status: int) -> None:
    problem = refusal(outcome, {})

    assert (type(problem), problem.status, problem.extra) == (kind, status, {})
    assert "quote" in problem.detail.lower()


def test_a_line_without_a_price_is_named() -> None:
    problem = refusal("unknown_sku", {"sku": "teleportation.image"})

    assert type(problem) is UnknownSku
    assert (problem.status, problem.extra) == (400, {"sku": "teleportation.image"})
    assert "teleportation.image" in problem.detail


def test_a_job_that_has_ended_is_a_conflict() -> None:
    problem = refusal("job_closed", {})

    assert (type(problem), problem.status) == (JobClosed, 409)
