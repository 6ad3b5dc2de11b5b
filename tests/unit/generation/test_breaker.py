from datetime import UTC, datetime, timedelta

import pytest

from services.generation import breaker
from services.generation.breaker import Circuit
from services.generation.operations import Answered, Lost, Outcome, Refused

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WORKED = Answered(model="m")
DOWN = Refused(code="provider_error", detail="HTTP 500")


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def after(circuit: Circuit, *outcomes: Outcome, now: datetime = NOW, operation_id: str = "op_1") -> Circuit:
    for outcome in outcomes:
        circuit = breaker.after(circuit, outcome, operation_id=operation_id, now=now)
    return circuit


def an_open_circuit(*, probe_id: str | None = None) -> Circuit:
    opened = after(Circuit(), *[DOWN] * 10)
    return Circuit(
        state="half_open" if probe_id else "open",
        failures=10,
        opened_at=opened.opened_at,
        probe_at=opened.probe_at,
        probe_id=probe_id,
    )


def test_ten_failures_in_a_row_open_it() -> None:
    assert after(Circuit(), *[DOWN] * 9).state == "closed"
    assert after(Circuit(), *[DOWN] * 10).state == "open"


def test_one_success_among_them_starts_the_count_anew() -> None:
    assert after(Circuit(), *[DOWN] * 9, WORKED, *[DOWN] * 9).state == "closed"


@pytest.mark.parametrize("code", ["moderation_input", "invalid_input", "no_image", "recitation"])
def test_a_provider_that_refuses_what_it_has_looked_at_works(code: str) -> None:
    assert after(Circuit(failures=9), Refused(code=code, detail="")).failures == 0


@pytest.mark.parametrize("code", ["source_missing", "storage_failed", "unpriceable"])
def test_what_failed_on_our_side_says_nothing_about_the_provider(code: str) -> None:
    circuit = an_open_circuit()

    assert after(circuit, Refused(code=code, detail="")) == circuit


def test_a_lost_answer_is_a_failure() -> None:
    assert after(Circuit(), *[Lost(detail="reset")] * 10).is_open


def test_an_open_circuit_admits_nothing_until_it_is_time_for_a_probe() -> None:
    circuit = an_open_circuit()

    assert breaker.admits(circuit, probe_at_work=False, now=NOW + seconds(29)) == "none"
    assert breaker.admits(circuit, probe_at_work=False, now=NOW + seconds(30)) == "probe"


def test_a_second_probe_waits_for_the_first() -> None:
    circuit = an_open_circuit(probe_id="op_1")

    assert breaker.admits(circuit, probe_at_work=True, now=NOW + seconds(60)) == "none"
    assert breaker.admits(circuit, probe_at_work=False, now=NOW + seconds(60)) == "probe"


def test_a_probe_that_gets_through_closes_it() -> None:
    closed = after(an_open_circuit(probe_id="op_1"), WORKED)

    assert (closed.state, closed.failures, closed.opened_at, closed.probe_at) == ("closed", 0, None, None)
    assert breaker.admits(closed, probe_at_work=False, now=NOW) == "all"


def test_a_probe_that_fails_puts_the_next_off_for_as_long_as_it_has_been_open() -> None:
    circuit, later = an_open_circuit(probe_id="op_1"), NOW + seconds(100)

    failed = after(circuit, DOWN, now=later)

    assert (failed.state, failed.probe_at, failed.opened_at) == ("open", later + seconds(100), NOW)


def test_probes_are_never_further_apart_than_five_minutes() -> None:
    later = NOW + timedelta(hours=9)

    assert after(an_open_circuit(probe_id="op_1"), DOWN, now=later).probe_at == later + timedelta(minutes=5)


def test_what_was_sent_before_it_opened_does_not_put_the_probe_off() -> None:
    circuit = an_open_circuit(probe_id="op_1")

    late = after(circuit, DOWN, now=NOW + seconds(100), operation_id="op_2")

    assert (late.state, late.probe_at, late.probe_id) == ("half_open", circuit.probe_at, "op_1")


def test_a_429_pauses_for_as_long_as_the_provider_says_and_is_no_failure() -> None:
    paused = after(Circuit(failures=9), Refused(code="rate_limited", detail="", retry_after_seconds=40))

    assert (paused.state, paused.failures, paused.paused_until) == ("closed", 9, NOW + seconds(40))
    assert breaker.admits(paused, probe_at_work=False, now=NOW + seconds(39)) == "none"
    assert breaker.admits(paused, probe_at_work=False, now=NOW + seconds(40)) == "all"


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    long = after(Circuit(), Refused(code="rate_limited", detail="", retry_after_seconds=40))

    assert after(long, Refused(code="rate_limited", detail="", retry_after_seconds=1)) == long


def test_a_429_that_names_no_time_pauses_for_five_seconds() -> None:
    assert after(Circuit(), Refused(code="rate_limited", detail="")).paused_until == NOW + seconds(5)


def test_no_pause_is_longer_than_an_hour() -> None:
    forever = Refused(code="rate_limited", detail="", retry_after_seconds=1e9)

    assert after(Circuit(), forever).paused_until == NOW + timedelta(hours=1)


@pytest.mark.parametrize(("per_minute", "expected"), [(None, None), (5, 1.0), (600, 60.0)])
def test_a_tenth_of_a_minutes_operations_may_be_sent_at_a_stroke(per_minute: int | None, expected: float) -> None:
    assert breaker.burst(per_minute) == expected


def test_what_waits_for_a_closed_circuit_stays_and_for_an_open_one_goes_elsewhere() -> None:
    assert not breaker.stands_still(Circuit(failures=9), now=NOW)
    assert breaker.stands_still(an_open_circuit(), now=NOW + seconds(29))
    assert breaker.stands_still(an_open_circuit(probe_id="op_1"), now=NOW + seconds(60))


def test_while_a_probe_is_due_one_is_left_to_be_it() -> None:
    assert not breaker.stands_still(an_open_circuit(), now=NOW + seconds(30))


@pytest.mark.parametrize(("told", "goes"), [(30, False), (31, True), (7200, True)])
def test_only_a_short_pause_is_worth_waiting_for(told: float, *, goes: bool) -> None:
    paused = after(Circuit(), Refused(code="rate_limited", detail="", retry_after_seconds=told))

    assert breaker.stands_still(paused, now=NOW) is goes
