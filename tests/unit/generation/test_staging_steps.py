"""The steps of a staging session: every step from every state. What is expected is written out, not read there."""

from itertools import product

import pytest

from services.generation import jobs, staging_steps
from services.generation.staging_steps import ROOM_STATES, STATUSES, STEPS, Standing
from shared.problems import LimitExceeded, StepNotAllowed

GENERATE, EMPTY = "generate_empty", "already_empty"
# (room state, status) -> what may be done there, where nothing is lacking.
EXPECTED = {
    (GENERATE, "draft"): {"choose_room_state", "generate_empty_room"},
    (GENERATE, "generating"): {"select_empty_room"},
    (GENERATE, "selecting"): {"generate_empty_room", "select_empty_room", "lock_empty_room"},
    (GENERATE, "locked"): {"stage"},
    (GENERATE, "staging"): {"stage"},
    (GENERATE, "completed"): {"stage"},
    (EMPTY, "draft"): {"choose_room_state", "stage"},
    (EMPTY, "staging"): {"stage"},
    (EMPTY, "completed"): {"stage"},
    # A room that was empty already has no empty rooms made, selected or locked: it never gets there.
    (EMPTY, "generating"): set(),
    (EMPTY, "selecting"): set(),
    (EMPTY, "locked"): set(),
}
FOLLOWS = {
    "draft": {"generating", "staging"},
    "generating": {"draft", "selecting"},
    "selecting": {"generating", "locked"},
    "locked": {"staging"},
    "staging": {"draft", "locked", "completed"},
    "completed": {"staging"},
}


def a_standing(room_state: str = GENERATE, status: str = "selecting", **facts: object) -> Standing:
    full = {"empty_rooms": 1, "variants": 0, "begun": False, "selected": True, "locked": False}
    return Standing(room_state=room_state, status=status, **{**full, **facts})  # type: ignore[arg-type]  # by name


def takes(step: str, standing: Standing) -> bool:
    try:
        staging_steps.require(step, standing)
    except StepNotAllowed:
        return False
    return True


@pytest.mark.parametrize(("room_state", "status"), list(product(ROOM_STATES, STATUSES)))
@pytest.mark.parametrize("step", STEPS)
def test_every_step_from_every_status(room_state: str, status: str, step: str) -> None:
    assert takes(step, a_standing(room_state, status)) == (step in EXPECTED[room_state, status])


@pytest.mark.parametrize(("room_state", "status"), list(product(ROOM_STATES, STATUSES)))
def test_what_is_refused_says_where_the_session_stands_and_what_is_allowed_there(room_state: str, status: str) -> None:
    standing = a_standing(room_state, status)

    for step in set(STEPS) - EXPECTED[room_state, status]:
        with pytest.raises(StepNotAllowed) as refused:
            staging_steps.require(step, standing)
        assert refused.value.status == 409
        assert refused.value.extra["session_status"] == status
        assert set(refused.value.extra["allowed"]) == EXPECTED[room_state, status]
        assert all(one in refused.value.detail for one in EXPECTED[room_state, status])


@pytest.mark.parametrize("status", ["draft", "staging", "completed"])
@pytest.mark.parametrize("step", ["generate_empty_room", "select_empty_room", "lock_empty_room"])
def test_who_asks_for_an_empty_room_of_one_that_was_empty_is_told_just_that(step: str, status: str) -> None:
    with pytest.raises(StepNotAllowed, match="said to be empty already"):
        staging_steps.require(step, a_standing(EMPTY, status, empty_rooms=0, selected=False))


@pytest.mark.parametrize(("before", "after"), list(product(STATUSES, STATUSES)))
def test_every_status_after_every_other(before: str, after: str) -> None:
    assert jobs.may_follow(staging_steps.SESSION_STEPS, before, after) == (after in FOLLOWS[before])


def test_a_lock_needs_a_selection() -> None:
    assert not takes("lock_empty_room", a_standing(selected=False))
    assert takes("lock_empty_room", a_standing(selected=True))


def test_a_selection_needs_an_empty_room() -> None:
    assert not takes("select_empty_room", a_standing(status="generating", empty_rooms=0, selected=False))
    assert takes("select_empty_room", a_standing(status="generating", empty_rooms=1, selected=False))


@pytest.mark.parametrize("room_state", ROOM_STATES)
def test_the_room_state_is_settled_by_the_first_generation(room_state: str) -> None:
    assert takes("choose_room_state", a_standing(room_state, "draft", begun=False))
    assert not takes("choose_room_state", a_standing(room_state, "draft", begun=True))


@pytest.mark.parametrize(("made", "next_one"), [(0, 0), (1, 1), (2, 2), (3, 3), (9, 9)])
@pytest.mark.parametrize("asked", range(-1, 11))
def test_an_attempt_is_the_one_after_the_last_that_succeeded(made: int, next_one: int, asked: int) -> None:
    standing = a_standing(empty_rooms=made)

    if asked == next_one:
        staging_steps.require_retry_number(asked, standing)
        return
    with pytest.raises(StepNotAllowed) as refused:
        staging_steps.require_retry_number(asked, standing)
    assert refused.value.extra["next_retry_number"] == next_one


def test_two_retries_are_free_and_only_those() -> None:
    assert [number for number in range(20) if staging_steps.is_free(number)] == [1, 2]
    assert not staging_steps.is_free(None)


@pytest.mark.parametrize(("made", "left"), [(0, 2), (1, 2), (2, 1), (3, 0), (4, 0)])
def test_free_retries_run_out(made: int, left: int) -> None:
    assert staging_steps.free_retries_left(made) == left


@pytest.mark.parametrize(
    ("facts", "at_work", "status"),
    [
        ({"empty_rooms": 0}, [], "draft"),
        ({"empty_rooms": 0}, ["empty_room"], "generating"),
        ({"empty_rooms": 2}, ["empty_room"], "generating"),
        ({"empty_rooms": 2}, [], "selecting"),
        ({"empty_rooms": 2, "locked": True}, [], "locked"),
        ({"empty_rooms": 2, "locked": True}, ["staging"], "staging"),
        ({"empty_rooms": 2, "locked": True, "variants": 1}, ["staging"], "staging"),
        ({"empty_rooms": 2, "locked": True, "variants": 1}, [], "completed"),
        ({"room_state": EMPTY, "empty_rooms": 0}, ["staging", "staging"], "staging"),
        ({"room_state": EMPTY, "empty_rooms": 0}, [], "draft"),
        ({"room_state": EMPTY, "empty_rooms": 0, "variants": 3}, [], "completed"),
    ],
)
def test_a_status_follows_from_what_there_is(facts: dict[str, object], at_work: list[str], status: str) -> None:
    assert staging_steps.status_of(a_standing(**facts), at_work) == status  # type: ignore[arg-type]  # by name


def test_a_session_grows_to_five_hundred_generations_and_no_further() -> None:
    staging_steps.require_room_for(8, a_standing(generations=492))

    with pytest.raises(LimitExceeded) as refused:
        staging_steps.require_room_for(8, a_standing(generations=493))

    assert refused.value.extra == {"limit": 500, "excess": 1}
