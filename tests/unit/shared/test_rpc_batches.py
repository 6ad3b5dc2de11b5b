"""Many calls of one method as one: each keeps its own outcome, story and time."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import eventlet
import psycopg2
import pytest

from shared import budget, logs
from shared.ids import new_id
from shared.problems import BadRequest, NotFound, Problem, Unavailable
from shared.rpc_batches import Call, GatheredCalls, answers_to
from tests import polling


class Service:
    """Another service with a method and its twin; it doubles numbers, and can be held up."""

    def __init__(self) -> None:
        self.alone: list[int] = []
        self.together: list[list[dict[str, Any]]] = []
        self.budgets: list[float | None] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.refusal: Problem | None = None

    def one(self, *, number: int) -> int:
        self.alone.append(number)
        self.may_answer.wait()
        return doubled(number)

    def many(self, *, calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.together.append(list(calls))
        self.budgets.append(budget.limit_seconds())
        if self.refusal:
            raise self.refusal
        return answers_to(
            calls,
            read=lambda call: call.arguments["number"],
            run=lambda numbers: [outcome(number) for number in numbers],
        )


def doubled(number: int) -> int:
    if number < 0:
        raise BadRequest(f"{number} is negative")
    return 2 * number


def outcome(number: int) -> int | BadRequest:
    try:
        return doubled(number)
    except BadRequest as problem:
        return problem


def called(calls: GatheredCalls, number: int, *, within: float | None = None) -> Any:
    """Call in a green thread with a story of its own; give the thread, which returns what came of it."""

    def calling() -> Any:
        with logs.bound(correlation_id=f"req_{number}"), budget.limited_to(within or 60.0):
            try:
                return calls(number=number)
            except Problem as problem:
                return problem

    return eventlet.spawn(calling)


def called_together(service: Service, calls: GatheredCalls, numbers: Sequence[int]) -> list[Any]:
    """Let one call be under way, and the others come meanwhile; return the outcomes of these."""
    service.may_answer.clear()
    first = called(calls, 1000)
    polling.until(lambda: service.alone == [1000])
    threads = [called(calls, number) for number in numbers]
    eventlet.sleep(0)
    service.may_answer.set()
    first.wait()
    return [thread.wait() for thread in threads]


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def calls(service: Service) -> GatheredCalls:
    return GatheredCalls(service.one, service.many)


def test_a_call_alone_goes_to_the_method_itself(service: Service, calls: GatheredCalls) -> None:
    assert [calls(number=1), calls(number=2)] == [2, 4]
    assert (service.alone, service.together) == ([1, 2], [])


def test_calls_that_come_while_one_is_under_way_go_as_one_and_each_gets_its_own_answer(
    service: Service, calls: GatheredCalls
) -> None:
    answers = called_together(service, calls, [1, 2, 3])

    assert answers == [2, 4, 6]
    assert service.alone == [1000]
    assert len(service.together) == 1


def test_calls_of_the_same_moment_go_as_one_though_nothing_is_under_way(service: Service, calls: GatheredCalls) -> None:
    threads = [called(calls, number) for number in (1, 2, 3)]

    assert [thread.wait() for thread in threads] == [2, 4, 6]
    assert (service.alone, len(service.together)) == ([], 1)


def test_each_keeps_its_correlation_id_and_its_time(service: Service, calls: GatheredCalls) -> None:
    threads = [called(calls, number, within=number) for number in (5, 30)]
    [thread.wait() for thread in threads]

    ((first, second),) = service.together
    assert (first["correlation_id"], second["correlation_id"]) == ("req_5", "req_30")
    assert 4_000 < first["budget_ms"] <= 5_000
    assert 29_000 < second["budget_ms"] <= 30_000
    assert 29 < (service.budgets[0] or 0) <= 30  # as patient as the most patient


def test_a_refusal_is_for_the_call_it_is_about(service: Service, calls: GatheredCalls) -> None:
    right, wrong, also_right = called_together(service, calls, [1, -2, 3])

    assert (right, also_right) == (2, 6)
    assert isinstance(wrong, BadRequest)


def test_no_answer_is_none_for_all_of_them_and_they_are_not_asked_again(service: Service, calls: GatheredCalls) -> None:
    service.refusal = Unavailable()

    outcomes = called_together(service, calls, [1, 2])

    assert all(isinstance(each, Unavailable) for each in outcomes)
    assert (len(service.together), service.alone) == (1, [1000])


def test_where_the_twin_is_not_known_yet_each_goes_to_the_method(service: Service, calls: GatheredCalls) -> None:
    service.refusal = NotFound("The service has no method many.")

    assert called_together(service, calls, [1, 2]) == [2, 4]
    assert service.alone == [1000, 1, 2]


def test_a_caller_does_not_wait_longer_than_it_may(service: Service, calls: GatheredCalls) -> None:
    service.may_answer.clear()
    called(calls, 1)
    polling.until(lambda: service.alone == [1])

    began = time.monotonic()
    given_up = called(calls, 2, within=0.1).wait()

    assert isinstance(given_up, Unavailable)
    assert time.monotonic() - began < 1
    service.may_answer.set()


def test_a_call_as_large_as_many_gathers_with_nobody(service: Service) -> None:
    calls = GatheredCalls(service.one, service.many, size=lambda asked: asked["number"])
    service.may_answer.clear()
    large = called(calls, 101)
    polling.until(lambda: service.alone == [101])

    small = called(calls, 1)

    polling.until(lambda: service.alone == [101, 1])
    service.may_answer.set()
    assert [large.wait(), small.wait()] == [202, 2]


def packed(number: Any, *, budget_ms: int | None = None) -> dict[str, Any]:
    return {"arguments": {"number": number}, "correlation_id": new_id("req"), "budget_ms": budget_ms}


def read(call: Call) -> int:
    return int(call.arguments["number"])


def test_a_call_whose_time_was_used_up_on_the_way_is_not_begun() -> None:
    done: list[int] = []

    def run(numbers: Sequence[int]) -> list[int]:
        done.extend(numbers)
        return list(numbers)

    with budget.limited_to(1.0):  # of the 2 s the most patient had, 1 s was spent on the way
        answers = answers_to([packed(1, budget_ms=500), packed(2, budget_ms=2_000)], read=read, run=run)

    assert [answer.get("result") for answer in answers] == [None, 2]
    assert answers[0]["problem"]["code"] == Unavailable.code
    assert done == [2]


def test_a_call_that_cannot_be_read_is_answered_and_the_others_are_run() -> None:
    answers = answers_to([packed(1), packed("x"), {"arguments": {}}], read=read, run=list)

    assert answers[0] == {"result": 1}
    assert [answer["problem"]["status"] for answer in answers[1:]] == [500, 500]


def test_what_breaks_the_run_is_found_by_running_each_alone_in_its_own_story() -> None:
    stories: list[str | None] = []

    def run(numbers: Sequence[int]) -> list[int]:
        if -1 in numbers:
            raise ValueError("-1 was among them")
        if len(numbers) == 1:
            stories.append(logs.correlation()[0])
        return list(numbers)

    asked = [packed(1), packed(-1), packed(3)]
    answers = answers_to(asked, read=read, run=run)

    assert [answers[0], answers[2]] == [{"result": 1}, {"result": 3}]
    assert answers[1]["problem"]["status"] == 500
    assert stories == [asked[0]["correlation_id"], asked[2]["correlation_id"]]


def test_where_the_database_is_away_none_is_tried_alone() -> None:
    runs = []

    def run(numbers: Sequence[int]) -> list[int]:
        runs.append(len(numbers))
        raise psycopg2.OperationalError("the server closed the connection")

    answers = answers_to([packed(1), packed(2)], read=read, run=run)

    assert [answer["problem"]["code"] for answer in answers] == [Unavailable.code] * 2
    assert runs == [2]
