"""A few at a time; who waits is served in turn, and nobody by having many wait for them."""

import subprocess
import sys
import threading
import time

import pytest

from shared.line import Line
from shared.problems import Unavailable


def a_line(*, places, of_one, in_line=5, seconds=20.0):
    return Line(places=places, of_one=of_one, in_line=in_line, seconds=seconds, refusal="Come again.")


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
    line = a_line(places=2, of_one=1)
    first, second = come(line, "org_a"), come(line, "org_a")
    assert first.at_work.wait(5)
    assert waits(second)

    other = come(line, "org_b")

    assert other.at_work.wait(5)


def test_a_free_place_goes_to_whoever_has_the_fewest_at_work(come):
    line = a_line(places=2, of_one=2)
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
    line = a_line(places=1, of_one=1)
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
    line = a_line(places=1, of_one=1, in_line=1)
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
    line = a_line(places=1, of_one=1, in_line=1, seconds=0.05)
    first = come(line, "org_a")
    assert first.at_work.wait(5)
    for _ in range(3):
        with pytest.raises(Unavailable), line.place_of("org_b"):
            pass

    first.leave()

    with line.place_of("org_b"), pytest.raises(Unavailable), line.place_of("org_a"):
        pass


def test_a_place_is_free_again_however_its_work_ended():
    line = a_line(places=1, of_one=1, seconds=1)
    with pytest.raises(ValueError, match="broken"), line.place_of("org_a"):
        raise ValueError("broken")

    with line.place_of("org_a"):
        pass


def test_who_is_told_to_give_up_waits_no_longer_and_leaves_no_trace(come):
    line = a_line(places=1, of_one=1)
    first = come(line, "org_a")
    assert first.at_work.wait(5)
    place = line.place_of("org_b")
    threading.Timer(0.05, place.give_up).start()
    began = time.monotonic()

    with pytest.raises(Unavailable), place:
        pass
    first.leave()

    assert time.monotonic() - began < 5
    with line.place_of("org_c"):
        pass


def test_who_is_at_work_is_not_stopped_by_being_told_to_give_up():
    line = a_line(places=1, of_one=1, seconds=0.05)

    with line.place_of("org_a") as place:
        place.give_up()
        with pytest.raises(Unavailable), line.place_of("org_b"):
            pass


def test_a_long_line_costs_each_of_those_in_it_little():
    """Everybody comes back at once, as when the broker was away: 2,000 streams of one organization each."""
    line = a_line(places=16, of_one=4, in_line=2_000)
    at_work = [line.place_of("org_first") for _ in range(4)]
    for place in at_work:
        place.take()
    waiting = [line.place_of("org_first", seconds=30) for _ in range(2_000)]
    for place in waiting:
        line.join(place)
    began = time.process_time()

    served = 0
    while at_work:
        at_work.pop(0).leave()
        called = [place for place in waiting[served : served + 4] if place.called]
        served += len(called)
        at_work += called

    assert served == 2_000
    assert time.process_time() - began < 0.3


GREEN = """
import eventlet
eventlet.monkey_patch()
from shared.line import Line
from shared.problems import Unavailable

line = Line(places=2, of_one=1, in_line=2, seconds=5, refusal="Later.")
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
