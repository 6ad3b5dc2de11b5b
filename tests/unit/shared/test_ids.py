"""TypeIDs: readable, sortable, checkable."""

import time

import pytest

from shared.ids import is_id, new_id


def test_an_id_begins_with_its_kind_and_is_well_formed() -> None:
    made = new_id("job")

    assert made.startswith("job_")
    assert is_id(made, prefix="job")


def test_ids_made_later_sort_later() -> None:
    made = []
    for _ in range(3):
        made.append(new_id("evt"))
        time.sleep(0.002)

    assert made == sorted(made)


def test_a_hundred_thousand_ids_are_all_different() -> None:
    assert len({new_id("op") for _ in range(100_000)}) == 100_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "job_",
        "job",
        "gen_01jx0000000000000000000000",
        "job_01jx000000000000000000000",  # a character short
        "job_01jx00000000000000000000000",  # one too many
        "job_81jx0000000000000000000000",  # more than 128 bits
        "job_01JX0000000000000000000000",  # capitals
        "job_01jx000000000000000000000u",  # no letter of the alphabet
        "job_01jx0000000000000000000000\n",
        "job_01jx00000000000000000000'--",
    ],
)
def test_what_is_no_id_of_the_kind_is_told(value: object) -> None:
    assert not is_id(value, prefix="job")
