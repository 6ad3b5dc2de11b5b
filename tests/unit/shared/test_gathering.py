"""Group commit: many calls at once become few runs, and no caller pays for another one's misfortune."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import eventlet
import greenlet
import psycopg2
import pytest

from shared import budget, logs
from shared.budget import TimeLimitExceeded
from shared.gathering import Gathering, taken_apart
from tests import polling


class Refused(Exception):
    """What a run may say to one item."""


class Work:
    """A run that notes its batches, says "done" to each item, and can be held up; ``act`` adds what a test needs."""

    def __init__(self, act: Callable[[Sequence[Any]], Sequence[Any] | None] = lambda _: None) -> None:
        self.batches: list[list[Any]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._act = act

    def __call__(self, _key: Any, items: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(items))
        self.may_go_on.wait()
        answers = self._act(items)
        return [f"{item} done" for item in items] if answers is None else answers

    def hold_up(self) -> None:
        self.may_go_on.clear()

    def go_on(self) -> None:
        self.may_go_on.set()


def call(gathering: Gathering, item: Any, *, key: Any = "one", within: float | None = None) -> Any:
    """Call in a green thread of its own; ``within`` is the caller's budget. Give the thread."""

    def calling() -> Any:
        try:
            if within is None:
                return gathering(key, item)
            with budget.limited_to(within):
                return gathering(key, item)
        except Exception as error:  # noqa: BLE001  handed to the test
            return error

    return eventlet.spawn(calling)


def first_at_work(gathering: Gathering, work: Work, **how: Any) -> Any:
    """Have ``first`` at work until `Work.go_on`; give its thread."""
    work.hold_up()
    first = call(gathering, "first", **how)
    polling.until(lambda: work.batches, what="the first run")
    return first


def called_while_one_is_at_work(gathering: Gathering, work: Work, *items: Any) -> list[Any]:
    """Let ``first`` be at work until all ``items`` wait behind it; give the answers to those."""
    first = first_at_work(gathering, work)
    waiting = [call(gathering, item) for item in items]
    eventlet.sleep(0)
    work.go_on()
    assert first.wait() == "first done"
    return [thread.wait() for thread in waiting]


def test_where_nothing_is_at_work_a_call_runs_at_once_and_alone() -> None:
    work = Work()
    gathering = Gathering(work)

    answers = [gathering("one", item) for item in ("a", "b", "c")]

    assert answers == ["a done", "b done", "c done"]
    assert work.batches == [["a"], ["b"], ["c"]]


def test_calls_that_come_while_one_is_at_work_run_together_in_their_order() -> None:
    work = Work()

    answers = called_while_one_is_at_work(Gathering(work), work, "a", "b", "c")

    assert answers == ["a done", "b done", "c done"]
    assert work.batches == [["first"], ["a", "b", "c"]]


def test_calls_of_the_same_moment_run_together_though_nothing_is_at_work() -> None:
    work = Work()
    gathering = Gathering(work)

    threads = [call(gathering, item) for item in ("a", "b", "c")]

    assert [thread.wait() for thread in threads] == ["a done", "b done", "c done"]
    assert work.batches == [["a", "b", "c"]]


def test_the_first_of_a_moment_is_killed_while_others_join_and_these_are_run() -> None:
    work = Work()
    gathering = Gathering(work)

    first, other = call(gathering, "first"), call(gathering, "other")
    eventlet.spawn(first.kill).wait()

    assert other.wait() == "other done"
    assert gathering("one", "next") == "next done"
    assert work.batches == [["other"], ["next"]]


def test_a_batch_has_no_more_items_than_it_may() -> None:
    work = Work()

    answers = called_while_one_is_at_work(Gathering(work, most=2), work, "a", "b", "c", "d", "e")

    assert answers == [f"{item} done" for item in "abcde"]
    assert work.batches[1:] == [["a", "b"], ["c", "d"], ["e"]]


def test_large_items_take_more_of_a_batch_and_one_that_is_too_large_goes_alone() -> None:
    work = Work()
    sizes = {"first": 1, "a": 2, "b": 2, "huge": 99, "c": 3}

    called_while_one_is_at_work(Gathering(work, most=4, size=lambda item: sizes[item]), work, "a", "b", "huge", "c")

    assert work.batches[1:] == [["a", "b"], ["huge"], ["c"]]


def test_different_keys_do_not_wait_for_each_other() -> None:
    work = Work()
    gathering = Gathering(work)
    work.hold_up()

    threads = [call(gathering, "a", key="one"), call(gathering, "b", key="two")]
    polling.until(lambda: len(work.batches) == 2, what="both keys at work")
    work.go_on()

    assert [thread.wait() for thread in threads] == ["a done", "b done"]


def test_a_refused_item_raises_its_own_exception_and_no_other_does() -> None:
    work = Work(lambda items: [Refused(item) if item == "bad" else f"{item} done" for item in items])

    before, refused, after = called_while_one_is_at_work(Gathering(work), work, "a", "bad", "b")

    assert (before, after) == ("a done", "b done")
    assert work.batches[1:] == [["a", "bad", "b"]]
    assert isinstance(refused, Refused)
    assert refused.args == ("bad",)


def raises(error: BaseException, *, where: Callable[[Sequence[Any]], bool]) -> Callable[[Sequence[Any]], None]:
    def act(items: Sequence[Any]) -> None:
        if where(items):
            raise error

    return act


def test_one_poisonous_item_fails_only_itself() -> None:
    work = Work(raises(ValueError("poison"), where=lambda items: "bad" in items))

    before, bad, after = called_while_one_is_at_work(Gathering(work), work, "a", "bad", "b")

    assert (before, after) == ("a done", "b done")
    assert isinstance(bad, ValueError)
    assert work.batches[1:] == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_where_the_database_is_unavailable_everyone_is_told_at_once() -> None:
    down = psycopg2.OperationalError("the server is gone")
    work = Work(raises(down, where=lambda items: items != ["first"]))

    answers = called_while_one_is_at_work(Gathering(work), work, "a", "b", "c")

    assert answers == [down, down, down]
    assert work.batches[1:] == [["a", "b", "c"]]


def test_a_database_that_goes_away_while_a_batch_is_taken_apart_is_told_to_those_that_are_left() -> None:
    down = psycopg2.OperationalError("the server is gone")

    def act(items: Sequence[Any]) -> None:
        if len(items) > 1:
            raise ValueError("poison")
        if items == ["b"]:
            raise down

    work = Work(act)

    answers = called_while_one_is_at_work(Gathering(work), work, "a", "b", "c")

    assert answers == ["a done", down, down]
    assert work.batches[2:] == [["a"], ["b"]]


def test_an_error_that_many_get_shows_each_the_way_it_came_and_not_the_others() -> None:
    down = psycopg2.OperationalError("the server is gone")
    work = Work(raises(down, where=lambda items: items != ["first"]))

    called_while_one_is_at_work(Gathering(work), work, *range(50))

    length, traceback = 0, down.__traceback__
    while traceback:
        length, traceback = length + 1, traceback.tb_next
    assert length < 12


def test_a_run_that_answers_too_few_items_fails_all_of_them_rather_than_mixing_them_up() -> None:
    work = Work(lambda items: None if items == ["first"] else ["some answer"] * (len(items) - 1))

    answers = called_while_one_is_at_work(Gathering(work), work, "a", "b")

    assert [type(answer) for answer in answers] == [ValueError, ValueError]
    assert work.batches[1:] == [["a", "b"], ["a"], ["b"]]


def test_a_caller_gives_up_at_its_own_budget_and_the_others_get_their_answers() -> None:
    hasty_has_left = threading.Event()

    def act(items: Sequence[Any]) -> None:
        if "hasty" in items:
            hasty_has_left.wait()

    work = Work(act)
    gathering = Gathering(work)
    first_at_work(gathering, work)

    hasty, patient = call(gathering, "hasty", within=0.05), call(gathering, "patient", within=30)
    eventlet.sleep(0)
    work.go_on()

    assert isinstance(hasty.wait(), TimeLimitExceeded)
    hasty_has_left.set()
    assert patient.wait() == "patient done"
    assert work.batches == [["first"], ["hasty", "patient"]]


def test_an_item_whose_caller_gave_up_before_its_turn_is_not_run() -> None:
    work = Work()
    gathering = Gathering(work)
    first = first_at_work(gathering, work)

    gone = call(gathering, "gone", within=0.02)
    last = call(gathering, "last")
    assert isinstance(gone.wait(), TimeLimitExceeded)
    work.go_on()

    assert (first.wait(), last.wait()) == ("first done", "last done")
    assert work.batches == [["first"], ["last"]]


def test_a_caller_whose_budget_is_used_up_asks_for_nothing() -> None:
    work = Work()

    with budget.limited_to(0), pytest.raises(TimeLimitExceeded):
        Gathering(work)("one", "late")

    assert work.batches == []


@pytest.mark.parametrize(
    ("budgets", "expected"), [((5, 40, 20), 40), ((5, None, 20), None)], ids=["all limited", "one without limit"]
)
def test_a_batch_may_take_as_long_as_its_most_patient_caller_waits(
    budgets: tuple[float | None, ...], expected: float | None
) -> None:
    left = []
    work = Work(lambda _: left.append(budget.limit_seconds()))
    gathering = Gathering(work)
    first = first_at_work(gathering, work, within=1)

    threads = [first, *(call(gathering, each, within=each) for each in budgets)]
    eventlet.sleep(0)
    work.go_on()
    for thread in threads:
        thread.wait()

    assert work.batches[1] == list(budgets)
    assert left[0] <= 1
    assert left[1] == expected if expected is None else expected - 1 < left[1] <= expected


def test_an_item_taken_alone_has_its_own_budget_and_one_that_ran_out_is_not_held_against_the_rest() -> None:
    def act(items: Sequence[Any]) -> None:
        if len(items) > 1:
            raise ValueError("poison")
        if items == ["hasty"]:
            while True:
                budget.remaining_seconds(1)
                time.sleep(0.01)

    work = Work(act)
    gathering = Gathering(work)
    first_at_work(gathering, work)

    hasty, patient = call(gathering, "hasty", within=0.3), call(gathering, "patient", within=30)
    eventlet.sleep(0)
    work.go_on()

    assert isinstance(hasty.wait(), TimeLimitExceeded)
    assert patient.wait() == "patient done"
    assert work.batches[1:] == [["hasty", "patient"], ["hasty"], ["patient"]]


def test_an_item_whose_caller_left_while_its_batch_failed_is_not_taken_again() -> None:
    hasty_has_left = threading.Event()

    def act(items: Sequence[Any]) -> None:
        if "hasty" in items:
            hasty_has_left.wait()
            raise ValueError("poison")

    work = Work(act)
    gathering = Gathering(work)
    first_at_work(gathering, work)

    hasty, patient = call(gathering, "hasty", within=0.05), call(gathering, "patient")
    eventlet.sleep(0)
    work.go_on()
    assert isinstance(hasty.wait(), TimeLimitExceeded)
    hasty_has_left.set()

    assert patient.wait() == "patient done"
    assert work.batches == [["first"], ["hasty", "patient"], ["patient"]]


def test_an_item_that_is_alone_runs_in_its_callers_context_whether_it_had_to_wait_or_not() -> None:
    seen = []
    work = Work(lambda _: seen.append((logs.correlation()[0], budget.limit_seconds())))
    gathering = Gathering(work)

    def as_request(name: str) -> Any:
        with logs.bound(correlation_id=name), budget.limited_to(7):
            return gathering("one", name)

    work.hold_up()
    threads = [eventlet.spawn(as_request, "req_1")]
    polling.until(lambda: work.batches, what="the first run")
    threads.append(eventlet.spawn(as_request, "req_2"))
    eventlet.sleep(0)
    work.go_on()

    assert [thread.wait() for thread in threads] == ["req_1 done", "req_2 done"]
    assert work.batches == [["req_1"], ["req_2"]]
    assert [correlation_id for correlation_id, _ in seen] == ["req_1", "req_2"]
    assert all(6 < left <= 7 for _, left in seen)


def test_several_items_run_in_nobodys_context_and_those_taken_alone_again_in_their_own() -> None:
    seen = []

    def act(items: Sequence[Any]) -> None:
        seen.append(logs.correlation()[0])
        if len(items) > 1:
            raise ValueError("poison")

    work = Work(act)
    gathering = Gathering(work)
    first_at_work(gathering, work)

    def as_request(name: str) -> Any:
        with logs.bound(correlation_id=name):
            return gathering("one", name)

    threads = [eventlet.spawn(as_request, name) for name in ("req_1", "req_2")]
    eventlet.sleep(0)
    work.go_on()

    assert [thread.wait() for thread in threads] == ["req_1 done", "req_2 done"]
    assert seen == [None, None, "req_1", "req_2"]


@pytest.mark.parametrize("blow", [greenlet.GreenletExit, eventlet.Timeout])
@pytest.mark.parametrize("victim", ["first", "along"])
def test_a_caller_that_is_killed_takes_nobody_else_along(blow: type[BaseException], victim: str) -> None:
    work = Work()
    gathering = Gathering(work)
    threads = {"first": first_at_work(gathering, work)}
    threads |= {item: call(gathering, item) for item in ("along", "last")}
    eventlet.sleep(0)

    eventlet.kill(threads[victim], blow)
    work.go_on()

    survivors = [item for item in threads if item != victim]
    assert [threads[item].wait() for item in survivors] == [f"{item} done" for item in survivors]
    assert work.batches == ([["first"], ["along", "last"]] if victim == "first" else [["first"], ["last"]])
    assert gathering("one", "next") == "next done"


@pytest.mark.parametrize("interruption", [greenlet.GreenletExit(), SystemExit(), eventlet.Timeout()], ids=repr)
def test_a_run_that_is_interrupted_leaves_nobody_waiting(interruption: BaseException) -> None:
    work = Work(raises(interruption, where=lambda items: "a" in items))
    gathering = Gathering(work, most=2)

    hit, along, behind = called_while_one_is_at_work(gathering, work, "a", "b", "c")

    assert isinstance(hit, TimeLimitExceeded)
    assert isinstance(along, TimeLimitExceeded)
    assert behind == "c done"


def test_where_no_thread_can_be_started_those_who_wait_are_told_and_the_next_call_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work()
    gathering = Gathering(work)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        answers = called_while_one_is_at_work(gathering, work, "a", "b")

    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    assert gathering("one", "c") == "c done"


def test_those_just_answered_join_the_very_next_batch() -> None:
    late = []

    def act(items: Sequence[Any]) -> None:
        if items == ["a1", "b1"]:
            late.append(call(gathering, "late"))
            eventlet.sleep(0)

    work = Work(act)
    gathering = Gathering(work)
    first = first_at_work(gathering, work)

    def calling_twice(name: str) -> None:
        for number in (1, 2):
            gathering("one", f"{name}{number}")

    clients = [first, *(eventlet.spawn(calling_twice, name) for name in "ab")]
    eventlet.sleep(0)
    work.go_on()
    for thread in clients:
        thread.wait()

    assert work.batches == [["first"], ["a1", "b1"], ["late", "a2", "b2"]]


def test_nothing_is_kept_of_a_key_that_is_idle() -> None:
    class Key:
        pass

    key = Key()
    work = Work()
    gathering: Gathering[Key, str, str] = Gathering(work)
    work.hold_up()
    threads = [call(gathering, item, key=key) for item in ("a", "b")]
    eventlet.sleep(0)
    work.go_on()
    for thread in threads:
        thread.wait()
    gone = weakref.ref(key)

    del key, threads, thread

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    polling.until(is_gone, what="the key's end")


PROGRAM = """
{first_line}
import threading, time
from shared.gathering import Gathering, taken_apart

at_work, overlaps, runs = set(), [], []

def run(key, items):
    if key in at_work:
        overlaps.append(key)
    at_work.add(key)
    runs.append(len(items))
    time.sleep(0.001)
    at_work.discard(key)
    if any(item % 97 == 0 for item in items):
        raise ValueError(items)
    return [KeyError(item) if item % 10 == 3 else (key, item) for item in items]

gathering = Gathering(run, most=8)
wrong = []

def client(number):
    for round in range(40):
        item = number * 1000 + round
        key = item % 2
        expected = ValueError if item % 97 == 0 else KeyError if item % 10 == 3 else (key, item)
        try:
            found = gathering(key, item)
        except Exception as error:
            found = type(error)
        if found != expected:
            wrong.append((item, found))

clients = [threading.Thread(target=client, args=(number,)) for number in range(1, 25)]
for each in clients:
    each.start()
for each in clients:
    each.join(30)
print(wrong, overlaps, max(runs), len(runs) < 24 * 40 / 2, any(each.is_alive() for each in clients))
"""


@pytest.mark.parametrize(
    "first_line", ["", "import eventlet; eventlet.monkey_patch()"], ids=["plain threads", "green threads"]
)
def test_many_callers_at_once_each_get_their_own_answer_in_batches_that_never_overlap(first_line: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(first_line=first_line)],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )

    assert ended.stdout.splitlines()[-1:] == ["[] [] 8 True False"], ended.stderr


def test_what_is_run_together_is_run_alone_where_one_of_it_breaks() -> None:
    runs = []

    def run(items: Sequence[str]) -> list[str]:
        runs.append(list(items))
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    first, bad, last = taken_apart(run, ["a", "bad", "b"])

    assert (first, last) == ("A", "B")
    assert isinstance(bad, ValueError)
    assert runs == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_where_the_database_is_away_nothing_is_run_alone() -> None:
    runs = []

    def run(items: Sequence[str]) -> list[str]:
        runs.append(list(items))
        raise psycopg2.OperationalError("gone")

    outcomes = taken_apart(run, ["a", "b"])

    assert [type(outcome) for outcome in outcomes] == [psycopg2.OperationalError] * 2
    assert runs == [["a", "b"]]
