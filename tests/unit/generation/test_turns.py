"""Long loops, and the others of the process."""

import threading

from services.generation.turns import STEP, in_turns


def test_everything_comes_in_its_order() -> None:
    items = list(range(3 * STEP + 1))

    assert list(in_turns(items)) == items


def test_others_have_their_turn_while_a_long_loop_runs() -> None:
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(position))
    position = 0
    other.start()

    for position in in_turns(range(3 * STEP)):  # noqa: B007  the other thread reads it
        pass

    assert seen
    assert seen[0] <= STEP
