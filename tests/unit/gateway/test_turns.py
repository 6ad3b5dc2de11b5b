"""A few at a time, and no organization all of them."""

import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from services.gateway.turns import Line, Turns
from shared.problems import Unavailable


def test_one_organization_leaves_room_for_the_others():
    turns = Turns(in_all=4, per_organization=2)
    with turns.of("org_a"), turns.of("org_a"):
        with pytest.raises(Unavailable) as refusal, turns.of("org_a"):
            pass
        with turns.of("org_b"):
            pass

    assert refusal.value.extra == {"retry_after": 2}


def test_all_together_are_no_more_than_there_is_room_for():
    turns = Turns(in_all=3)
    with ExitStack() as at_work:
        for number in range(3):
            at_work.enter_context(turns.of(f"org_{number}"))
        with pytest.raises(Unavailable), turns.of("org_x"):
            pass


def test_a_turn_ends_with_its_work_however_that_ends():
    turns = Turns(in_all=1)
    with pytest.raises(ValueError, match="broken"), turns.of("org_a"):
        raise ValueError("broken")

    with turns.of("org_a"):
        pass


@pytest.fixture
def come():
    """Come to a line for an organization, in a thread; gives what ends that visit, and whether it is at work."""
    visits = []

    def come(line, org_id):
        visit = Visit(line, org_id)
        visits.append(visit)
        return visit

    yield come
    for visit in visits:
        visit.leave()


class Visit:
    def __init__(self, line, org_id):
        self.at_work, self.over, self.refusal = threading.Event(), threading.Event(), None
        self._thread = threading.Thread(target=self._stay, args=(line, org_id), daemon=True)
        self._thread.start()

    def _stay(self, line, org_id):
        try:
            with line.place_of(org_id):
                self.at_work.set()
                self.over.wait(10)
        except Unavailable as refusal:
            self.refusal = refusal

    def leave(self):
        self.over.set()
        self._thread.join(10)


def waits(visit):
    return not visit.at_work.wait(0.05)


def test_one_organization_never_has_all_places_and_another_is_served_at_once(come):
    line = Line(places=2, per_organization=1)
    first, second = come(line, "org_a"), come(line, "org_a")
    assert first.at_work.wait(5)
    assert waits(second)

    other = come(line, "org_b")

    assert other.at_work.wait(5)


def test_a_free_place_goes_to_whoever_has_the_fewest_at_work(come):
    line = Line(places=2, per_organization=2)
    first, second = come(line, "org_a"), come(line, "org_a")
    assert first.at_work.wait(5)
    assert second.at_work.wait(5)
    third = come(line, "org_a")
    assert waits(third)
    other = come(line, "org_b")
    assert waits(other)

    first.leave()

    assert other.at_work.wait(5)
    assert waits(third)


def test_within_an_organization_it_is_first_come_first_served(come):
    line = Line(places=1, per_organization=1)
    first = come(line, "org_a")
    assert first.at_work.wait(5)
    second = come(line, "org_a")
    assert waits(second)
    third = come(line, "org_a")
    assert waits(third)

    first.leave()

    assert second.at_work.wait(5)
    assert waits(third)


def test_too_many_in_line_of_one_organization_are_told_when_to_come_again(come):
    line = Line(places=1, per_organization=1, in_line=1)
    first, second = come(line, "org_a"), come(line, "org_a")
    assert first.at_work.wait(5)
    assert waits(second)

    with pytest.raises(Unavailable) as refusal, line.place_of("org_a"):
        pass
    waiting = come(line, "org_b")

    assert refusal.value.extra == {"retry_after": 2}
    assert waits(waiting)
    assert waiting.refusal is None


def test_who_waits_too_long_is_told_so_and_leaves_no_trace(come):
    line = Line(places=1, per_organization=1, in_line=1, seconds=0.05)
    first = come(line, "org_a")
    assert first.at_work.wait(5)
    for _ in range(3):
        with pytest.raises(Unavailable), line.place_of("org_b"):
            pass

    first.leave()

    with line.place_of("org_b"), pytest.raises(Unavailable), line.place_of("org_a"):
        pass


def test_a_place_is_free_again_however_its_work_ended():
    line = Line(places=1, per_organization=1, seconds=1)
    with pytest.raises(ValueError, match="broken"), line.place_of("org_a"):
        raise ValueError("broken")

    with line.place_of("org_a"):
        pass


GREEN = """
import eventlet
eventlet.monkey_patch()
from services.gateway.turns import Line
from shared.problems import Unavailable

line = Line(places=2, per_organization=1, in_line=2)
told = []
def come(org_id, seconds):
    try:
        with line.place_of(org_id):
            told.append(org_id)
            eventlet.sleep(seconds)
    except Unavailable:
        told.append("refused")
def give_up(org_id):
    with eventlet.Timeout(0.02, False):
        come(org_id, 0)
coming = [eventlet.spawn(come, "a", 0.3) for _ in range(4)]
eventlet.sleep(0.01)
coming += [eventlet.spawn(come, "b", 0.3), eventlet.spawn(give_up, "c")]
for one in coming:
    one.wait()
come("d", 0)
print(*told)
"""


def test_in_a_green_process_who_waits_stops_nobody_and_who_gives_up_leaves_no_trace():
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREEN], capture_output=True, text=True, timeout=30, check=False
    )

    assert (shown.stderr, shown.stdout.split()) == ("", ["a", "refused", "b", "a", "a", "d"])
