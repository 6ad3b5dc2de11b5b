"""What operators are told of, and when it is something new."""

from datetime import UTC, datetime, timedelta

import pytest

from services.notifications.alarms import (
    CIRCUIT,
    DEAD_LETTERS,
    LEDGER,
    SIGN_UPS,
    AllClear,
    Known,
    alarm_of,
    is_news,
    is_over_already,
    of_dead_letters,
    of_sign_ups,
)
from shared.events import LedgerInvariantViolated, ProviderCircuitClosed, ProviderCircuitOpened
from tests.service.notifications.told import started

NOW = datetime(2031, 5, 1, 14, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
OPENED = ProviderCircuitOpened(
    provider="fal",
    model="flux",
    failures=10,
    code="provider_timeout",
    opened_at="2031-05-01T14:30:00Z",
    probe_at="2031-05-01T14:31:00Z",
)
VIOLATED = LedgerInvariantViolated(night="2031-05-01", violations=3, invariant="held_equals_open_lines")


def known(*, since=NOW, last_at=NOW, closed_at=None):
    return Known(since=since, last_at=last_at, closed_at=closed_at)


def test_a_circuit_that_opens_names_provider_model_and_why():
    alarm = alarm_of(OPENED, now=NOW + HOUR)

    assert alarm is not None
    assert (alarm.kind, alarm.since) == (CIRCUIT, NOW)
    assert alarm.text == "fal flux has failed 10 times in a row, last with provider_timeout."


def test_a_circuit_that_closes_is_the_end_of_the_same():
    closed = ProviderCircuitClosed(
        provider="fal", model="flux", opened_at="2031-05-01T14:30:00Z", closed_at="2031-05-01T14:45:00Z"
    )

    alarm, clear = alarm_of(OPENED, now=NOW), alarm_of(closed, now=NOW)

    assert isinstance(clear, AllClear)
    assert alarm is not None
    assert (clear.key, clear.since, clear.at) == (alarm.key, alarm.since, NOW + timedelta(minutes=15))


def test_what_concerns_no_operator_is_no_alarm():
    assert alarm_of(started("org_1"), now=NOW) is None


def test_messages_set_aside_are_one_thing_for_each_service():
    keys = {of_dead_letters(service, 2, now=NOW).key for service in ("credits", "credits", "catalog")}

    assert len(keys) == 2


def test_what_nobody_knows_is_news():
    assert is_news(None, of_dead_letters("credits", 1, now=NOW), now=NOW)


@pytest.mark.parametrize(("days", "news"), [(0, False), (0.9, False), (1, True), (400, True)])
def test_what_still_lies_aside_is_told_again_once_a_day(days, news):
    alarm = of_dead_letters("credits", 1, now=NOW + timedelta(days=days))

    assert is_news(known(last_at=alarm.since), alarm, now=alarm.since) is news


@pytest.mark.parametrize(("hours", "news"), [(1, False), (23, False), (25, True)])
def test_what_was_never_said_to_be_over_is_news_when_it_is_heard_of_after_a_day(hours, news):
    alarm = alarm_of(OPENED, now=NOW)

    assert alarm is not None
    assert is_news(known(), alarm, now=NOW + hours * HOUR) is news


@pytest.mark.parametrize(("hours", "news"), [(0.5, False), (1.5, True)])
def test_what_comes_back_soon_after_its_end_is_the_same_incident(hours, news):
    alarm = of_dead_letters("credits", 1, now=NOW + hours * HOUR)

    assert is_news(known(closed_at=NOW), alarm, now=alarm.since) is news


@pytest.mark.parametrize(("hours", "news"), [(0.9, False), (1.1, True)])
def test_failed_sign_ups_are_over_when_none_has_failed_for_an_hour(hours, news):
    now = NOW + hours * HOUR
    alarm = of_sign_ups(1, error="OperationalError", since=now)

    assert (alarm.kind, is_news(known(), alarm, now=now)) == (SIGN_UPS, news)


@pytest.mark.parametrize(("nights", "news"), [(1, False), (2, True)])
def test_a_ledger_that_is_wrong_night_after_night_is_one_incident(nights, news):
    now = NOW + timedelta(days=nights)
    alarm = alarm_of(VIOLATED, now=now)

    assert alarm is not None
    assert (alarm.kind, is_news(known(), alarm, now=now)) == (LEDGER, news)


def test_an_alarm_that_was_overtaken_by_its_end_is_over():
    late = alarm_of(OPENED, now=NOW)

    assert late is not None
    assert is_over_already(known(closed_at=NOW + HOUR), late)
    assert not is_news(known(closed_at=NOW + HOUR), late, now=NOW + 3 * HOUR)
    assert not is_over_already(known(since=NOW - HOUR, closed_at=NOW - HOUR), late)
    assert not is_over_already(known(), late)


def test_every_kind_says_what_to_do():
    alarms = [
        alarm_of(OPENED, now=NOW),
        alarm_of(VIOLATED, now=NOW),
        of_dead_letters("credits", 1, now=NOW),
        of_sign_ups(1, error="OperationalError", since=NOW),
    ]

    assert {alarm.kind for alarm in alarms if alarm} == {CIRCUIT, LEDGER, DEAD_LETTERS, SIGN_UPS}
    assert all(alarm and alarm.remedy for alarm in alarms)
