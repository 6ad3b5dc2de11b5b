"""What can be chosen: the defaults of the product documents, and nothing that does not exist."""

from datetime import datetime

import pytest

from services.notifications.preferences import changed, quiet_until, with_defaults, zone
from shared.problems import BadRequest


def test_the_defaults_are_those_of_the_product_documents():
    wanted = with_defaults({})

    assert wanted["email"] == {
        "generation_completed": True,
        "generation_failed": True,
        "weekly_usage_summary": False,
        "tips_and_best_practices": False,
    }
    assert wanted["browser"] == {"generation_completed": True, "low_quota_warning": True}
    assert wanted["frequency"] == "realtime"


def test_a_change_says_only_what_is_to_be_different():
    wanted = changed(with_defaults({}), {"email": {"weekly_usage_summary": True}, "frequency": "daily_digest"})

    assert wanted["email"]["weekly_usage_summary"] is True
    assert wanted["email"]["generation_completed"] is True
    assert wanted["frequency"] == "daily_digest"
    assert with_defaults({})["email"]["weekly_usage_summary"] is False


def test_what_was_chosen_before_a_kind_existed_has_that_kinds_default():
    assert with_defaults({"email": {"generation_failed": False}})["email"] == {
        "generation_completed": True,
        "generation_failed": False,
        "weekly_usage_summary": False,
        "tips_and_best_practices": False,
    }


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"sms": {}}, "/sms"),
        ({"email": {"gossip": True}}, "/email/gossip"),
        ({"email": {"generation_failed": "yes"}}, "/email/generation_failed"),
        ({"email": {"generation_failed": 1}}, "/email/generation_failed"),
        ({"email": True}, "/email"),
        ({"browser": {"weekly_usage_summary": True}}, "/browser/weekly_usage_summary"),
        ({"frequency": "hourly"}, "/frequency"),
        ({"frequency": None}, "/frequency"),
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"timezone": "../../etc/passwd"}, "/timezone"),
        ({"timezone": "/etc/passwd"}, "/timezone"),
        ({"timezone": "a\x00b"}, "/timezone"),
        ({"timezone": 7}, "/timezone"),
        ({"quiet_hours": True}, "/quiet_hours"),
        ({"quiet_hours": {"from": "22:00"}}, "/quiet_hours"),
        ({"quiet_hours": {"from": "22:00", "until": "24:00"}}, "/quiet_hours"),
        ({"quiet_hours": {"from": "22:00", "until": 7}}, "/quiet_hours"),
        ({"timezone": "x" * 65}, "/timezone"),
    ],
    ids=str,
)
def test_what_does_not_exist_cannot_be_chosen(change, pointer):
    with pytest.raises(BadRequest) as told:
        changed(with_defaults({}), change)

    assert [error["pointer"] for error in told.value.extra["errors"]] == [pointer]


def test_a_zone_that_is_no_more_is_utc():
    assert str(zone("Europe/Berlin")) == "Europe/Berlin"
    assert str(zone("Mars/Olympus")) == "UTC"


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2031-05-01T19:59:59Z", None),
        ("2031-05-01T20:00:00Z", "2031-05-02T05:00:00Z"),
        ("2031-05-01T23:30:00Z", "2031-05-02T05:00:00Z"),
        ("2031-05-02T04:59:59Z", "2031-05-02T05:00:00Z"),
        ("2031-05-02T05:00:00Z", None),
        ("2031-03-29T21:30:00Z", "2031-03-30T05:00:00Z"),  # the clocks go forward in this night
    ],
)
def test_quiet_hours_are_those_of_the_readers_own_night(now, until):
    wanted = with_defaults({"quiet_hours": {"from": "22:00", "until": "07:00"}, "timezone": "Europe/Berlin"})

    found = quiet_until(wanted, now=datetime.fromisoformat(now))

    assert found == (until and datetime.fromisoformat(until))


@pytest.mark.parametrize(
    ("now", "until"),
    [("2031-05-01T11:59:00Z", None), ("2031-05-01T12:30:00Z", "2031-05-01T14:00:00Z"), ("2031-05-01T14:00:00Z", None)],
)
def test_quiet_hours_may_be_by_day(now, until):
    wanted = with_defaults({"quiet_hours": {"from": "12:00", "until": "14:00"}})

    assert quiet_until(wanted, now=datetime.fromisoformat(now)) == (until and datetime.fromisoformat(until))


def test_without_quiet_hours_it_is_never_quiet():
    for hours in (None, {"from": "12:00", "until": "12:00"}):
        assert (
            quiet_until(with_defaults({"quiet_hours": hours}), now=datetime.fromisoformat("2031-05-01T12:00Z")) is None
        )


def test_quiet_hours_are_chosen_whole_and_taken_back_by_null():
    chosen = changed(with_defaults({}), {"quiet_hours": {"from": "22:00", "until": "07:00"}})

    assert chosen["quiet_hours"] == {"from": "22:00", "until": "07:00"}
    assert changed(chosen, {"quiet_hours": None})["quiet_hours"] is None
