"""Which revision of a view is the current one: that which was asked for last, whatever arrived last."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from services.catalog.products import replaces

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
ASKED = [(NINE, "gen_1"), (NINE, "gen_2"), (NINE + timedelta(seconds=1), "gen_0"), (NINE - timedelta(days=1), "rev_9")]


def test_the_first_revision_of_a_view_is_its_current_one():
    assert replaces(asked_at=NINE, of="rev_1", current=None)


@pytest.mark.parametrize("arrived", list(permutations(ASKED)))
def test_whatever_order_they_arrive_in_the_one_asked_for_last_is_current(arrived):
    current = None

    for asked_at, of in arrived:
        if replaces(asked_at=asked_at, of=of, current=current):
            current = (asked_at, of)

    assert current == (NINE + timedelta(seconds=1), "gen_0")


def test_a_revision_never_replaces_itself():
    assert not replaces(asked_at=NINE, of="gen_1", current=(NINE, "gen_1"))
