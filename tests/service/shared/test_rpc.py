"""RPC between services: answers and refusals arrive typed, within the time that is left, or not at all."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import eventlet
import msgspec
import pytest

from deploy.local.stack import Broker
from shared import broker, budget, logs, problems, topology
from shared.config import Settings
from shared.problems import InsufficientCredits, NotFound, Problem, Unavailable
from shared.rpc import RpcConnection
from tests.polling import until
from tests.service.shared.host_service import Script, running
from tests.service.shared.outages import frozen, killed, settle, within
from tests.service.shared.wire import Wire

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_url")]
Call = Callable[..., Any]


@pytest.fixture
def connection(amqp_url: str) -> Iterator[RpcConnection]:
    """The calling side, as another service would have it."""
    connection = RpcConnection(amqp_url, name="test rpc client")
    thread = eventlet.spawn(connection.run)
    until(lambda: connection.problem() is None)
    yield connection
    connection.stop()
    thread.wait()


@pytest.fixture
def call(connection: RpcConnection) -> Call:
    return lambda method, **arguments: connection.call("credits", method, arguments)


def raised_by(work: Callable[[], Any]) -> Problem:
    with pytest.raises(Problem) as caught:
        work()
    return caught.value


def raising(error: Exception) -> Script:
    def answer(**_arguments: Any) -> None:
        raise error

    return Script(answer=answer)


def sleeping(seconds: float) -> Script:
    def answer(**arguments: Any) -> dict[str, Any]:
        eventlet.sleep(seconds)
        return arguments

    return Script(answer=answer)


@pytest.mark.parametrize("value", [{"amount": 10, "lines": [{"id": "line_1"}], "none": None, "text": "Überzug"}, {}])
def test_a_method_is_called_with_keyword_arguments_and_its_result_comes_back(
    call: Call, chosen: Settings, value: dict[str, Any]
) -> None:
    with running(chosen):
        assert call("echo", **value) == value


def test_many_calls_at_once_each_get_their_own_answer(call: Call, chosen: Settings) -> None:
    pool = eventlet.GreenPool(50)

    with running(chosen):
        answers = list(pool.imap(lambda number: call("echo", number=number)["number"], range(500)))

    assert answers == list(range(500))


def test_a_refusal_arrives_as_its_class_with_all_it_carries(call: Call, chosen: Settings) -> None:
    refusal = InsufficientCredits("Not enough credits: buy more.", required=20, available=3, unit="credits")

    with running(chosen, raising(refusal)):
        problem = raised_by(lambda: call("echo"))

    assert type(problem) is InsufficientCredits
    assert (problem.detail, problem.extra) == (
        "Not enough credits: buy more.",
        {"required": 20, "available": 3, "unit": "credits"},
    )
    assert problem.status == 402


def test_an_unknown_method_is_refused_by_name(call: Call, chosen: Settings) -> None:
    with running(chosen):
        problem = raised_by(lambda: call("no_such_method"))

    assert type(problem) is NotFound
    assert "no_such_method" in problem.detail


def test_a_wrong_argument_is_an_error_of_ours_and_the_server_goes_on(call: Call, chosen: Settings) -> None:
    def answer(*, amount: int) -> int:
        return amount

    with running(chosen, Script(answer=answer)):
        assert raised_by(lambda: call("echo", amounts=1)).code == "internal_error"
        assert call("echo", amount=1) == 1


def test_the_text_of_an_exception_never_leaves_the_server(call: Call, chosen: Settings) -> None:
    with running(chosen, raising(RuntimeError("password=hunter2 in SELECT * FROM wallets"))):
        problem = raised_by(lambda: call("echo"))

    assert problem.as_dict() == problems.Problem().as_dict()


def test_a_result_that_is_no_json_is_an_error_of_ours_at_once(call: Call, chosen: Settings) -> None:
    with running(chosen, Script(answer=lambda **_: object())), within(1):
        assert raised_by(lambda: call("echo")).code == "internal_error"


def test_a_database_that_is_away_behind_the_server_arrives_as_unavailable(call: Call, chosen: Settings) -> None:
    with running(chosen, raising(budget.TimeLimitExceeded("a unit of work in the database"))):
        problem = raised_by(lambda: call("echo"))

    assert type(problem) is Unavailable
    assert problem.retryable


def test_a_service_without_a_consumer_is_unavailable_within_the_budget(call: Call) -> None:
    with budget.limited_to(0.3), within(1):
        problem = raised_by(lambda: call("echo"))

    assert type(problem) is Unavailable


def test_without_a_budget_a_call_takes_two_seconds_at_most(call: Call, chosen: Settings) -> None:
    with running(chosen, sleeping(3)), within(2.9):
        assert type(raised_by(lambda: call("echo"))) is Unavailable


def test_a_service_whose_queue_does_not_exist_is_unavailable_at_once(call: Call, wire: Wire) -> None:
    wire.delete(topology.rpc_queue("credits"))

    with within(1):
        assert type(raised_by(lambda: call("echo"))) is Unavailable


def test_a_call_whose_budget_is_used_up_is_not_sent(call: Call, wire: Wire) -> None:
    with budget.limited_to(0):
        assert type(raised_by(lambda: call("echo"))) is Unavailable

    assert wire.depth(topology.rpc_queue("credits")) == 0


def test_the_budget_travels_and_an_inner_call_gets_what_is_left(call: Call, chosen: Settings) -> None:
    left: list[float] = []

    def answer(*, inner: bool = False) -> None:
        left.append(budget.remaining_seconds(99))
        if not inner:
            eventlet.sleep(0.3)

    with running(chosen, Script(answer=answer)), budget.limited_to(1.0):
        call("echo")
        call("ask_echo", inner=True)

    first, inner = left
    assert 0.5 < first <= 1.0
    assert inner <= first - 0.3


def test_a_request_that_waited_longer_than_its_budget_is_never_executed(call: Call, chosen: Settings) -> None:
    executed: list[Any] = []

    with budget.limited_to(0.2):
        raised_by(lambda: call("echo", number=1))
    with running(chosen, Script(answer=lambda **arguments: executed.append(arguments))):
        call("echo", number=2)

    assert executed == [{"number": 2}]


@pytest.mark.parametrize(
    "headers", [{"x-budget-ms": 0}, {"x-budget-ms": -5}], ids=["with nothing left", "with less than nothing left"]
)
def test_the_server_drops_a_request_past_its_budget(
    call: Call, chosen: Settings, wire: Wire, headers: dict[str, Any]
) -> None:
    executed: list[Any] = []
    late = msgspec.json.encode({"method": "echo", "arguments": {"number": 1}})

    with running(chosen, Script(answer=lambda **arguments: executed.append(arguments))):
        wire.send(late, queue="credits.rpc", headers=headers, reply_to="nobody", correlation_id="1")
        call("echo", number=2)

    assert executed == [{"number": 2}]
    assert wire.left_in("credits.rpc") == 0


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (b"{not json", {"reply_to": "nobody", "correlation_id": "1"}),
        (b"[]", {"reply_to": "nobody", "correlation_id": "1"}),
        (b'{"method": "echo", "arguments": 1}', {"reply_to": "nobody", "correlation_id": "1"}),
        (b'{"method": "echo", "arguments": {}}', {}),
        (b'{"method": "echo", "arguments": {}}', {"reply_to": "nobody"}),
        (b'{"method": "echo", "arguments": {}}', {"headers": {"x-budget-ms": "soon"}, "reply_to": "nobody"}),
    ],
    ids=["no JSON", "no object", "no arguments", "no reply-to", "no correlation", "odd budget"],
)
def test_requests_nobody_can_answer_do_not_stop_the_server(
    call: Call, chosen: Settings, wire: Wire, body: bytes, properties: dict[str, Any]
) -> None:
    with running(chosen):
        for _ in range(45):  # more than are worked on at once
            wire.send(body, queue="credits.rpc", **properties)

        assert call("echo", number=1) == {"number": 1}

    assert wire.left_in("credits.rpc") == 0


def test_no_queue_is_declared_for_an_answer(call: Call, chosen: Settings, wire: Wire, rabbitmq: Broker) -> None:

    def queues() -> list[str]:
        return sorted(
            row["name"] for row in json.loads(rabbitmq.ctl("list_queues", "-p", wire.vhost, "--formatter", "json"))
        )

    with running(chosen):
        before = queues()
        for number in range(20):
            call("echo", number=number)
        after = queues()

    assert before == after
    assert not [name for name in after if "reply" in name]


def test_the_correlation_of_the_caller_arrives_in_the_log_context_of_the_server(call: Call, chosen: Settings) -> None:
    with running(chosen, Script(answer=lambda **_: logs.correlation())):
        with logs.bound(correlation_id="req_1"):
            inside = call("echo")
        outside = call("echo")

    assert inside == ["req_1", None]
    assert outside == [None, None]


def test_calls_in_flight_fail_at_once_when_the_broker_dies_and_later_calls_work(
    call: Call, chosen: Settings, rabbitmq: Broker
) -> None:
    def timed() -> tuple[Problem, float]:
        problem = raised_by(lambda: call("echo"))
        return problem, time.monotonic()

    released = eventlet.event.Event()
    begun: list[int] = []

    def answer(*, number: int = 0) -> dict[str, int]:
        begun.append(number)
        released.wait()
        return {"number": number}

    settle(rabbitmq)
    with running(chosen, Script(answer=answer)) as container:
        threads = [eventlet.spawn(timed) for _ in range(5)]
        until(lambda: len(begun) == 5)
        with killed(rabbitmq, at_once=True):
            died = time.monotonic()
            released.send(None)
            ends = [thread.wait() for thread in threads]
            with budget.limited_to(0.5), within(1.5):
                assert type(raised_by(lambda: call("echo"))) is Unavailable
        until(lambda: not {"rpc", "rpc client"} & set(container.config["health"].problems()))
        later = until(lambda: answered(call))

    assert all(type(problem) is Unavailable and moment - died < 0.7 for problem, moment in ends)
    assert later == {"number": 1}


def answered(call: Call) -> Any:
    try:
        return call("echo", number=1)
    except Unavailable:
        return None


def test_a_frozen_broker_makes_calls_unavailable_within_their_budget_and_they_work_after_it(
    call: Call, chosen: Settings, rabbitmq: Broker
) -> None:
    with running(chosen):
        call("echo")
        with frozen([rabbitmq.pid]):
            for _ in range(3):
                with budget.limited_to(0.3), within(1):
                    assert type(raised_by(lambda: call("echo"))) is Unavailable

        assert until(lambda: answered(call)) == {"number": 1}


def test_a_call_that_is_interrupted_while_it_is_written_leaves_no_half_message_to_the_next(
    call: Call, chosen: Settings, rabbitmq: Broker
) -> None:
    """A frozen broker reads nothing, so that a large request stops half-way on the wire."""
    large = "x" * 20_000_000

    with running(chosen):
        with frozen([rabbitmq.pid]), budget.limited_to(0.5), within(3):
            assert type(raised_by(lambda: call("echo", large=large))) is Unavailable

        assert until(lambda: answered(call)) == {"number": 1}


def test_a_server_that_stops_answers_what_it_has_taken(call: Call, chosen: Settings) -> None:
    with within(4), running(chosen, sleeping(0.7)):
        thread = eventlet.spawn(call, "echo", number=1)
        eventlet.sleep(0.3)

    assert thread.wait() == {"number": 1}


def test_a_request_that_arrives_while_the_server_stops_is_answered_by_the_next_one(
    call: Call, chosen: Settings
) -> None:
    with running(chosen):
        pass
    thread = eventlet.spawn(call, "echo", number=1)

    with running(chosen):
        assert thread.wait() == {"number": 1}


def test_slow_methods_do_not_keep_the_next_call_from_being_answered(call: Call, chosen: Settings) -> None:
    def answer(*, slow: bool = False) -> bool:
        if slow:
            eventlet.sleep(1.5)
        return slow

    def call_slowly() -> Any:
        with within(20):
            return call("echo", slow=True)

    with running(chosen, Script(answer=answer)):
        threads = [eventlet.spawn(call_slowly) for _ in range(20)]
        eventlet.sleep(0.2)
        with within(0.8):
            assert call("echo") is False
        assert all(thread.wait() for thread in threads)


def test_the_broker_knows_every_connection_by_name(chosen: Settings, rabbitmq: Broker, wire: Wire) -> None:
    with running(chosen):
        until(lambda: wire.consumers("credits.rpc") == 1)
        listed = rabbitmq.ctl("list_connections", "client_properties")

    assert "credits rpc" in listed
    assert broker.HEARTBEAT_SECONDS >= 10
