from datetime import UTC, datetime, timedelta

import pytest

from services.generation.jobs import (
    GENERATION_ENDS,
    GENERATION_STEPS,
    INTERACTIVE,
    JOB_ENDS,
    JOB_STEPS,
    STANDARD,
    TEST,
    deadline,
    deadline_after_pause,
    estimate,
    lane,
    may_follow,
    next_question,
    progress,
    roll_up,
)

ACCEPTED = datetime(2031, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reasons", "status"),
    [
        ([None, None], "succeeded"),
        ([None, "provider_error"], "partially_succeeded"),
        ([None, "cancelled"], "partially_succeeded"),
        (["provider_error", "deadline_exceeded"], "failed"),
        (["deadline_exceeded", "deadline_exceeded"], "expired"),
        (["cancelled", "cancelled"], "cancelled"),
    ],
)
def test_a_job_ends_as_its_generations_did(reasons: list[str | None], status: str) -> None:
    assert roll_up(reasons) == status


def test_a_job_that_is_being_cancelled_ends_cancelled_whatever_its_generations_say() -> None:
    assert roll_up(["cancelled", "provider_error"], cancelling=True) == "cancelled"


@pytest.mark.parametrize("end", sorted(JOB_ENDS))
def test_an_ended_job_never_reopens(end: str) -> None:
    assert not any(may_follow(JOB_STEPS, end, state) for state in [*JOB_STEPS, *JOB_ENDS])


@pytest.mark.parametrize("end", sorted(GENERATION_ENDS))
def test_an_ended_generation_never_reopens(end: str) -> None:
    assert not any(may_follow(GENERATION_STEPS, end, state) for state in [*GENERATION_STEPS, *GENERATION_ENDS])


@pytest.mark.parametrize("state", sorted(JOB_STEPS))
def test_every_open_job_can_reach_an_end(state: str) -> None:
    reached, frontier = set(), {state}
    while frontier:
        reached |= frontier
        frontier = {after for before in frontier for after in JOB_STEPS.get(before, ())} - reached

    assert reached & JOB_ENDS


def test_a_rejected_job_was_never_queued() -> None:
    assert [state for state in JOB_STEPS if may_follow(JOB_STEPS, state, "rejected")] == ["awaiting_credit"]


@pytest.mark.parametrize(
    ("estimate_seconds", "allowed"),
    [(60, timedelta(minutes=15)), (300, timedelta(minutes=15)), (600, timedelta(minutes=30))],
)
def test_a_job_may_take_a_quarter_of_an_hour_or_three_times_its_estimate(
    estimate_seconds: int, allowed: timedelta
) -> None:
    assert deadline(ACCEPTED, estimated_seconds=estimate_seconds) - ACCEPTED == allowed


def test_a_deadline_asked_for_is_the_deadline() -> None:
    assert deadline(ACCEPTED, estimated_seconds=60, asked_seconds=90) - ACCEPTED == timedelta(seconds=90)


@pytest.mark.parametrize(("done", "percent"), [(0, 0), (1, 33), (2, 66), (3, 100)])
def test_progress_counts_what_has_ended_well_or_not(done: int, percent: int) -> None:
    assert progress(total=3, ended=done) == percent


@pytest.mark.parametrize(("asked_seconds", "allowed"), [(None, 240), (60, 60), (3600, 240)])
def test_a_job_ends_before_what_it_works_on_is_deleted(asked_seconds: float | None, allowed: int) -> None:
    gone = ACCEPTED + timedelta(minutes=4)

    ends = deadline(ACCEPTED, estimated_seconds=60, asked_seconds=asked_seconds, sources_until=gone)

    assert ends - ACCEPTED == timedelta(seconds=allowed)


def test_no_pause_makes_a_job_outlive_what_it_works_on() -> None:
    gone = ACCEPTED + timedelta(minutes=30)

    resumed = deadline_after_pause(
        ACCEPTED + timedelta(minutes=15), paused_at=ACCEPTED, now=ACCEPTED + timedelta(minutes=29), sources_until=gone
    )

    assert resumed == gone


def test_a_pause_does_not_count_towards_the_deadline() -> None:
    paused_at, now = ACCEPTED + timedelta(minutes=10), ACCEPTED + timedelta(days=3)

    resumed = deadline_after_pause(ACCEPTED + timedelta(hours=1), paused_at=paused_at, now=now)

    assert resumed - now == timedelta(minutes=50)


@pytest.mark.parametrize(("asked_seconds", "left"), [(None, timedelta(minutes=15)), (90, timedelta(seconds=90))])
def test_what_goes_on_with_no_time_left_gets_as_much_as_a_small_job(
    asked_seconds: float | None, left: timedelta
) -> None:
    now = ACCEPTED + timedelta(hours=1)

    resumed = deadline_after_pause(ACCEPTED, paused_at=now, now=now, asked_seconds=asked_seconds)

    assert resumed - now == left


@pytest.mark.parametrize(("generations", "seconds"), [(1, 60), (20, 60), (21, 120), (180, 540)])
def test_so_many_generations_take_as_many_turns_as_fit_at_once(generations: int, seconds: int) -> None:
    assert estimate(60, generations=generations, at_once=20) == seconds


def test_credits_are_asked_again_in_ten_minutes_or_when_the_month_begins() -> None:
    soon, far = ACCEPTED + timedelta(minutes=3), ACCEPTED + timedelta(days=3)

    assert next_question(ACCEPTED) - ACCEPTED == timedelta(minutes=10)
    assert next_question(ACCEPTED, resets_at=far) - ACCEPTED == timedelta(minutes=10)
    assert next_question(ACCEPTED, resets_at=soon) - soon == timedelta(seconds=1)
    assert next_question(ACCEPTED, resets_at=ACCEPTED - timedelta(seconds=1)) - ACCEPTED == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("livemode", "generations", "expected"),
    [(True, 1, INTERACTIVE), (True, 8, INTERACTIVE), (True, 9, STANDARD), (False, 1, TEST), (False, 9, TEST)],
)
def test_somebody_waits_at_the_screen_for_a_small_job(livemode: bool, generations: int, expected: int) -> None:  # noqa: FBT001  a parameter of the table above
    assert lane(livemode=livemode, generations=generations) == expected
