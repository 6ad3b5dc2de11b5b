"""The rules of delivering webhooks: the schedule of Standard Webhooks, and what each answer leads to."""

from datetime import UTC, datetime

import pytest

from services.notifications.deliveries import (
    SCHEDULE_SECONDS,
    Again,
    Answer,
    Delivered,
    GivenUp,
    Postponed,
    decide,
    is_slow,
)

NOW = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)


def answered(status, **fields):
    return Answer(status=status, seconds=0.1, **fields)


def decided(answer, *, attempt=1, jitter=0.0):
    return decide(answer, attempt=attempt, now=NOW, jitter=jitter)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_status_from_200_to_299_is_delivered(status):
    assert decided(answered(status)) == Delivered()


@pytest.mark.parametrize("status", [100, 301, 302, 307, 308, 400, 401, 404, 408, 500, 502, 503])
def test_any_other_status_is_tried_again_and_a_redirect_is_no_answer(status):
    assert decided(answered(status)) == Again(seconds=5, pause_seconds=0, failure=f"status {status}")


def test_no_answer_is_tried_again_and_says_why():
    silent = Answer(status=None, seconds=15, error="The address did not answer in time.")

    assert decided(silent) == Again(seconds=5, pause_seconds=0, failure="The address did not answer in time.")


@pytest.mark.parametrize("attempt", [1, len(SCHEDULE_SECONDS)])
def test_what_we_had_no_room_to_send_is_sent_a_little_later_however_often_it_was_tried(attempt):
    crowded = Answer(status=None, seconds=5, error="Too many.", ours=True, later_seconds=5.0)

    assert decided(crowded, attempt=attempt) == Postponed(seconds=5, failure="Too many.")


def test_ten_attempts_spread_over_75_hours_and_35_minutes():
    assert len(SCHEDULE_SECONDS) == 10
    assert SCHEDULE_SECONDS[0] == 0
    assert sum(SCHEDULE_SECONDS) == 75 * 3600 + 35 * 60 + 5
    assert SCHEDULE_SECONDS[-1] == 24 * 3600


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 5), (2, 300), (3, 1800), (4, 7200), (9, 86_400)])
def test_the_wait_grows_with_the_attempts(attempt, seconds):
    assert decided(answered(500), attempt=attempt).seconds == seconds


@pytest.mark.parametrize(("jitter", "seconds"), [(-1, 270), (0, 300), (1, 330)])
def test_the_wait_varies_by_a_tenth_to_either_side(jitter, seconds):
    assert decided(answered(500), attempt=2, jitter=jitter).seconds == pytest.approx(seconds)


def test_the_tenth_failure_is_the_last():
    assert decided(answered(500), attempt=9) == Again(seconds=86_400, pause_seconds=0, failure="status 500")
    assert decided(answered(500), attempt=10) == GivenUp(failure="status 500")


def test_gone_is_for_good():
    assert decided(answered(410)) == GivenUp(failure="status 410", gone=True)


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_asks_for_patience_gets_it(status):
    assert decided(answered(status, retry_after="120")) == Again(
        seconds=120, pause_seconds=120, failure=f"status {status}"
    )


def test_retry_after_may_be_a_date():
    at_noon_and_a_half = "Thu, 01 May 2031 12:30:00 GMT"

    assert decided(answered(429, retry_after=at_noon_and_a_half)).seconds == 1800


def test_a_shorter_wait_than_planned_is_no_reason_to_come_earlier():
    assert decided(answered(429, retry_after="1"), attempt=2) == Again(
        seconds=300, pause_seconds=1, failure="status 429"
    )


@pytest.mark.parametrize(
    "retry_after",
    ["", "soon", "-5", "1e9", "٣", "Thu, 01 May 2030 12:30:00 GMT", "Thu, 99 Foo 2031 12:30:00 GMT", "\x00", "9" * 400],
)
def test_nonsense_in_retry_after_is_ignored(retry_after):
    assert decided(answered(429, retry_after=retry_after)).pause_seconds == 0


@pytest.mark.parametrize("retry_after", ["999999999", "Thu, 01 May 2131 12:30:00 GMT"])
def test_nobody_is_left_alone_for_more_than_a_day(retry_after):
    assert decided(answered(429, retry_after=retry_after)).pause_seconds == 86_400


def test_retry_after_counts_only_where_it_means_patience():
    assert decided(answered(500, retry_after="120")).pause_seconds == 0


@pytest.mark.parametrize(("seconds", "slow"), [(4.9, False), (5.0, True), (15.0, True)])
def test_a_receiver_that_takes_five_seconds_is_slow(seconds, slow):
    assert is_slow(Answer(status=200, seconds=seconds)) is slow
