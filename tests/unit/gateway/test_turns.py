"""A few at a time, and no organization all of them."""

from contextlib import ExitStack

import pytest

from services.gateway.turns import Turns
from shared.problems import Unavailable


def test_one_organization_leaves_room_for_the_others():
    turns = Turns(in_all=4, per_organization=2)
    with turns.of("org_a"), turns.of("org_a"):
        with pytest.raises(Unavailable) as refusal, turns.of("org_a"):
            pass
        with turns.of("org_b"):
            pass

    assert refusal.value.extra == {"retry_after": 2}


def test_all_together_are_no_more_than_there_is_room_for():
    turns = Turns(in_all=3)
    with ExitStack() as at_work:
        for number in range(3):
            at_work.enter_context(turns.of(f"org_{number}"))
        with pytest.raises(Unavailable), turns.of("org_x"):
            pass


def test_a_turn_ends_with_its_work_however_that_ends():
    turns = Turns(in_all=1)
    with pytest.raises(ValueError, match="broken"), turns.of("org_a"):
        raise ValueError("broken")

    with turns.of("org_a"):
        pass
