from typing import Any

import pytest

from services.generation.failures import SENDINGS_AT_MOST, TAXONOMY, reason
from services.generation.operations import (
    Answered,
    AwaitCall,
    GiveUp,
    LookUp,
    Lost,
    MadeImage,
    Outcome,
    Refused,
    Repeat,
    Spent,
    Succeed,
    another_seed,
    decide,
    next_poll_seconds,
    spent,
)

PICTURE = Answered(images=(MadeImage(data=b"jpeg", content_type="image/jpeg"),), model="m")


def decided(
    outcome: Outcome, *, attempt: int = 1, after_lost_answer: str = "give_up", makes_image: bool = True
) -> object:
    return decide(outcome, attempt=attempt, after_lost_answer=after_lost_answer, makes_image=makes_image)


def test_an_answer_with_an_image_is_kept() -> None:
    assert decided(PICTURE) == Succeed(answer=PICTURE)


def test_an_answer_without_the_image_asked_for_is_no_success() -> None:
    assert isinstance(decided(Answered(model="m")), Repeat)


def test_an_analysis_needs_no_image() -> None:
    analysis = Answered(result={"category": "chair"}, model="m")

    assert decided(analysis, makes_image=False) == Succeed(answer=analysis)


@pytest.mark.parametrize(("attempt", "wait_seconds"), [(1, 5), (2, 10)])
def test_a_provider_error_is_tried_three_times_after_5_and_10_seconds(attempt: int, wait_seconds: float) -> None:
    decision = decided(Refused(code="provider_error", detail="HTTP 500"), attempt=attempt)

    assert isinstance(decision, Repeat)
    assert decision.after_seconds == wait_seconds


def test_the_third_provider_error_is_the_last() -> None:
    decision = decided(Refused(code="provider_error", detail="HTTP 500"), attempt=3)

    assert decision == GiveUp(code="provider_error", detail="HTTP 500")


@pytest.mark.parametrize(
    ("after_lost_answer", "kind"), [("give_up", AwaitCall), ("lookup", LookUp), ("resend", Repeat)]
)
def test_a_lost_answer_that_can_neither_be_sent_again_nor_looked_up_waits_for_the_providers_call(
    after_lost_answer: str, kind: type
) -> None:
    lost = Lost(detail="broken off", may_call_back=True)

    assert isinstance(decided(lost, after_lost_answer=after_lost_answer), kind)
    assert isinstance(decided(Lost(detail="broken off")), GiveUp)


def test_a_provider_that_says_when_to_come_back_is_obeyed() -> None:
    decision = decided(Refused(code="rate_limited", detail="429", retry_after_seconds=42))

    assert isinstance(decision, Repeat)
    assert decision.after_seconds == 42


def test_a_lost_answer_is_never_asked_for_again_where_it_would_be_billed_again() -> None:
    assert decided(Lost(detail="reset"), after_lost_answer="give_up") == GiveUp(code="outcome_unknown", detail="reset")


def test_a_lost_answer_that_costs_nothing_is_asked_for_again_at_once_but_not_for_ever() -> None:
    first = decided(Lost(detail="reset"), after_lost_answer="resend")
    later = [decided(Lost(detail="reset"), after_lost_answer="resend", attempt=attempt) for attempt in range(1, 20)]

    assert first == Repeat(after_seconds=0, code="outcome_unknown", detail="reset")
    assert isinstance(later[-1], GiveUp)


def test_what_a_model_withheld_is_asked_for_once_more_with_another_seed() -> None:
    withheld = Refused(code="moderation_output", detail="IMAGE_SAFETY", ran=True)

    first = decided(withheld)
    second = decided(withheld, attempt=2)

    assert isinstance(first, Repeat)
    assert first.new_seed
    assert isinstance(second, GiveUp)


def test_an_operation_that_made_no_image_is_tried_twice_more() -> None:
    attempts = [decided(Answered(model="m"), attempt=attempt) for attempt in (1, 2, 3)]

    assert [type(each) for each in attempts] == [Repeat, Repeat, GiveUp]


@pytest.mark.parametrize("code", sorted(code for code, row in TAXONOMY.items() if row.billed != "no"))
def test_what_is_billed_is_repeated_only_with_another_seed(code: str) -> None:
    repeated = [decided(Refused(code=code, detail="", ran=True), attempt=attempt) for attempt in range(1, 9)]

    again = [each for each in repeated if isinstance(each, Repeat)]
    assert all(each.new_seed for each in again) or TAXONOMY[code].billed == "once"
    assert TAXONOMY[code].bills_at_most == (1 + len(again) if TAXONOMY[code].billed == "each" else 1)


@pytest.mark.parametrize("code", sorted(set(TAXONOMY) - {"storage_failed"}))
def test_whatever_it_comes_to_an_operation_is_sent_three_times_at_most(code: str) -> None:
    assert isinstance(decided(Refused(code=code, detail=""), attempt=SENDINGS_AT_MOST), GiveUp)
    assert SENDINGS_AT_MOST == 3


@pytest.mark.parametrize("code", ["outcome_unknown", "deadline_exceeded", "result_expired", "auth_failed"])
def test_what_may_cost_twice_or_cannot_help_is_never_repeated_by_itself(code: str) -> None:
    assert isinstance(decided(Refused(code=code, detail="")), GiveUp)


def test_an_invalid_input_is_not_tried_again() -> None:
    assert isinstance(decided(Refused(code="invalid_input", detail="422")), GiveUp)


def test_an_unknown_reason_reads_as_our_own_bug() -> None:
    assert reason("no_such_reason").code == "internal_error"


@pytest.mark.parametrize("code", sorted(TAXONOMY))
def test_every_reason_tells_the_user_something_without_the_vendors_words(code: str) -> None:
    message = reason(code).message

    assert message.endswith(".")
    assert not any(name in message.lower() for name in ("replicate", "openai", "gemini", "exception", "http"))


@pytest.mark.parametrize("attempt", [1, 5, 50])
def test_a_lost_answer_is_looked_for_where_the_provider_can_be_searched(attempt: int) -> None:
    lost = decided(Lost(detail="reset"), after_lost_answer="lookup", attempt=attempt)

    assert lost == LookUp(detail="reset")


def test_another_seed_is_another_one_each_time_and_fits_its_column() -> None:
    seeds = [another_seed(2**31 - 1, attempt=attempt) for attempt in range(100)]

    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds == [another_seed(2**31 - 1, attempt=attempt) for attempt in range(100)]


def test_a_provider_is_asked_often_at_first_and_then_less_and_less_but_never_too_seldom() -> None:
    waits = [next_poll_seconds(age, time_limit_seconds=300) for age in (0, 4, 20, 40, 60, 299)]

    assert waits == [1, 1, 5, 10, 15, 15]
    assert next_poll_seconds(299, time_limit_seconds=40) == 4


def test_work_of_half_a_minute_is_asked_for_a_few_times_only() -> None:
    age, asked = 0.0, 0
    while age < 30:
        age += next_poll_seconds(age, time_limit_seconds=300)
        asked += 1

    assert asked < 15


def test_a_provider_that_calls_back_is_asked_seldom() -> None:
    waits = [next_poll_seconds(age, time_limit_seconds=300, calls_back=True) for age in (0, 20, 299)]

    assert waits == [30, 30, 30]
    assert next_poll_seconds(0, time_limit_seconds=40, calls_back=True) == 10
    assert next_poll_seconds(0, time_limit_seconds=300, wished_seconds=50, calls_back=True) == 50


@pytest.mark.parametrize(("wished", "waits"), [(0.01, 1), (30, 30), (1e9, 60), (float("inf"), 60)])
def test_a_provider_is_left_alone_as_it_wishes_within_reason(wished: float, waits: float) -> None:
    assert next_poll_seconds(0, time_limit_seconds=300, wished_seconds=wished) == waits


def test_what_was_billed_is_known_of_answers_and_of_refusals() -> None:
    answered = spent(Answered(model="m", cost_microusd=40, prompt_tokens=3, completion_tokens=4))

    assert (answered.model, answered.cost_microusd, answered.prompt_tokens, answered.completion_tokens) == (
        "m",
        40,
        3,
        4,
    )
    assert spent(Refused(code="moderation_output", detail="", ran=True, cost_microusd=7)).cost_microusd == 7
    assert spent(Lost(detail="")) == Spent()
    assert spent(PICTURE).digest != spent(Answered(model="m")).digest


@pytest.mark.parametrize(
    ("said", "kept"), [(7, 7), (-7, 0), (10**40, 2**31 - 1), (1.5, None), ("7", None), ({}, None), (None, None)]
)
def test_what_a_vendor_counts_is_kept_where_the_log_has_room_for_it(said: Any, kept: int | None) -> None:
    used = spent(Answered(model="m", prompt_tokens=said, completion_tokens=said, cost_microusd=said))

    assert (used.prompt_tokens, used.completion_tokens) == (kept, kept)
    assert used.cost_microusd in {kept, 10**12}
