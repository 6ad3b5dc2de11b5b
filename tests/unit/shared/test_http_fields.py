"""Values at the HTTP border that are read strictly."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from marshmallow import ValidationError

from shared.http import Schema
from shared.http_fields import Flag, Moment, id_of, rfc3339, said
from shared.ids import new_id


class Form(Schema):
    flag = Flag()
    moment = Moment()
    until = Moment(whole_day=True)


@pytest.mark.parametrize("value", [True, False])
def test_a_flag_is_true_or_false(value):
    assert Form().load({"flag": value}) == {"flag": value}


@pytest.mark.parametrize("value", ["true", "false", 1, 0, "on", "", None, []])
def test_what_only_reads_like_a_flag_is_none(value):
    with pytest.raises(ValidationError):
        Form().load({"flag": value})


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=UTC)),
        ("2026-11-30T08:09:10Z", datetime(2026, 11, 30, 8, 9, 10, tzinfo=UTC)),
        ("2026-11-30t08:09:10.5z", datetime(2026, 11, 30, 8, 9, 10, 500_000, tzinfo=UTC)),
        ("2026-11-30T08:09:10.123456789Z", datetime(2026, 11, 30, 8, 9, 10, 123_456, tzinfo=UTC)),
        ("2026-11-30T00:30:00+01:00", datetime(2026, 11, 29, 23, 30, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_time_with_its_offset_or_a_date_in_utc(text, moment):
    read = Form().load({"moment": text})["moment"]

    assert read == moment
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        *("", "now", "2026", "2026-11", "20261130", "2026-W48-1", "2026-11-31", "2026-02-29", "0000-01-01"),
        *("2026-11-30T08:09:10", "2026-11-30 08:09:10Z", "2026-11-30T08:09Z", "2026-11-30T08:09:60Z"),
        *("2026-11-30T24:00:01Z", "2026-11-30T08:09:10+0100", "2026-11-30T08:09:10 01:00", "٢٠٢٦-11-30"),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-30Z", "2026-11-30\n"),
        *(1_764_489_600, None, ["2026-11-30"]),
    ],
)
def test_what_could_be_another_moment_is_none(value):
    with pytest.raises(ValidationError):
        Form().load({"moment": value})


def test_a_period_that_ends_with_a_day_has_all_of_it():
    assert Form().load({"until": "2024-02-29"})["until"] == datetime(2024, 3, 1, tzinfo=UTC)
    assert Form().load({"until": "2024-02-29T00:00:00Z"})["until"] == datetime(2024, 2, 29, tzinfo=UTC)
    with pytest.raises(ValidationError):
        Form().load({"until": "9999-12-31"})


def test_a_moment_travels_in_utc_so_that_texts_sort_as_times_do():
    early = datetime(2026, 11, 30, 1, 0, tzinfo=timezone(timedelta(hours=2)))

    assert rfc3339(early) == "2026-11-29T23:00:00.000000Z"
    assert rfc3339(early) < rfc3339(early + timedelta(microseconds=1)) < rfc3339(early + timedelta(seconds=1))


def test_an_id_is_told_by_its_kind():
    check = id_of("quo", "a quote")

    check(new_id("quo"))
    for wrong in ("", "quo_1", new_id("job")):
        with pytest.raises(ValidationError, match="not the id of a quote"):
            check(wrong)


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u2003", "\u200b", "\u3164", "\u2800 ", "\u0301"])
def test_what_nobody_sees_says_nothing(text):
    with pytest.raises(ValidationError):
        said(text)


@pytest.mark.parametrize("text", ["Grace\r\nBcc: all@example.com", "Grace\u202e", "a\x00b", "a\u200bb", "a\ud800"])
def test_what_changes_how_others_see_it_is_not_taken(text):
    with pytest.raises(ValidationError, match="leave out"):
        said(text)


@pytest.mark.parametrize(
    "text", ["Ada Byron", "Ève", "E\u0300ve", "山田 太郎", "山田\u3000太郎", "5\u00a0kg", "O'Neil-Smith 3rd 👍"]
)
def test_names_of_all_kinds_are_taken(text):
    said(text)
