"""The pure rules of uploads."""

from datetime import timedelta

import pytest

from services.catalog import assets


def test_a_face_is_kept_for_half_an_hour():
    assert assets.kept_for("face", keep_original=False) == timedelta(minutes=30)


def test_a_face_is_kept_when_its_owner_asks_for_it():
    assert assets.kept_for("face", keep_original=True) is None


@pytest.mark.parametrize("purpose", ["room", "product", "inspiration", "profile"])
def test_everything_but_a_face_is_kept(purpose):
    assert assets.kept_for(purpose, keep_original=False) is None


@pytest.mark.parametrize(("width", "height"), [(511, 4000), (4000, 511), (100, 100)])
def test_a_side_below_512_pixels_is_warned_of(width, height):
    warned = assets.warnings(width=width, height=height)

    assert [warning["code"] for warning in warned] == ["low_resolution"]
    assert f"{width} x {height}" in warned[0]["detail"]


def test_512_pixels_are_enough():
    assert assets.warnings(width=512, height=512) == []


def test_a_room_may_be_sent_within_an_hour_and_waits_for_a_day():
    assert assets.awaited_for("room") == (timedelta(hours=1), timedelta(hours=24))


def test_a_face_as_it_was_sent_waits_for_half_an_hour():
    assert assets.awaited_for("face") == (timedelta(minutes=15), timedelta(minutes=30))
