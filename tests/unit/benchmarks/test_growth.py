"""Whether memory stays what it is can be told of one round, and told wrong."""

import pytest

from benchmarks.audit import AuditFailed
from benchmarks.growth import READINGS_MIN, Readings
from benchmarks.stream import GROWTH_AT_MOST

MIB = 1 << 20


def taken(*megabytes):
    readings = Readings(lambda: 0)
    readings.taken = [each * MIB for each in megabytes]
    return readings


def test_memory_that_grows_by_a_megabyte_a_second_is_found_within_one_round_of_10():
    assert taken(*range(100, 120)).growth() > GROWTH_AT_MOST


def test_memory_that_goes_up_and_down_grows_by_nothing():
    assert taken(*[100, 112, 104, 108] * 5).growth() == pytest.approx(0.0, abs=0.05)


def test_one_reading_that_stands_out_changes_nothing():
    assert taken(*[100] * 19, 300).growth() == 0


def test_of_too_few_readings_nothing_is_told():
    with pytest.raises(AuditFailed):
        taken(*range(READINGS_MIN - 1)).growth()


def test_it_is_read_now_and_then_however_often_one_looks():
    readings = Readings(lambda: MIB)

    for _ in range(100):
        readings.look()

    assert readings.taken == [MIB]
