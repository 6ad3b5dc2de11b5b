"""What can be chosen: the defaults of the product documents, and nothing that does not exist."""

import pytest

from services.notifications.preferences import changed, with_defaults, zone
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
