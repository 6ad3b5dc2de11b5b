"""Time budgets: they only ever shrink, and an interruption names what was waited for."""

import time

import eventlet
import pytest

from shared import budget
from shared.budget import TimeLimitExceeded


def test_without_a_budget_the_default_is_left() -> None:
    assert budget.remaining_seconds(2.0) == 2.0


def test_inside_a_budget_at_most_that_is_left() -> None:
    with budget.limited_to(0.5):
        assert 0.4 < budget.remaining_seconds(2.0) <= 0.5
        assert budget.remaining_seconds(0.1) == 0.1


def test_an_inner_budget_never_lengthens_an_outer_one() -> None:
    with budget.limited_to(0.5), budget.limited_to(10):
        assert budget.remaining_seconds(99) <= 0.5


def test_after_the_block_the_outer_budget_holds_again() -> None:
    with budget.limited_to(5):
        with budget.limited_to(0.1):
            pass
        assert budget.remaining_seconds(99) > 4
    assert budget.remaining_seconds(99) == 99


def test_a_budget_that_is_used_up_is_told() -> None:
    with budget.limited_to(0.01):
        time.sleep(0.02)

        with pytest.raises(TimeLimitExceeded):
            budget.remaining_seconds(2.0)


def test_a_green_thread_does_not_inherit_the_budget_of_another() -> None:
    with budget.limited_to(0.1):
        assert eventlet.spawn(budget.remaining_seconds, 9.0).wait() == 9.0


def test_waiting_too_long_is_interrupted_and_told_what_for() -> None:
    with pytest.raises(TimeLimitExceeded, match="the answer took longer"), budget.interrupted_after(0.05, "the answer"):
        time.sleep(5)


def test_work_that_ends_in_time_is_not_interrupted_later() -> None:
    with budget.interrupted_after(0.05, "the answer"):
        pass

    time.sleep(0.1)
