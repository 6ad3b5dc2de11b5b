"""Another system that subscribes: with our client, by the example, over a broker that breaks."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import eventlet
import pytest

from deploy.local.stack import Broker
from shared import broker, events, subscriber, topology
from shared.events import CreditCaptured, RefundIssued
from shared.subscriber import Received, RecentlySeen, Subscriber
from tests.polling import until
from tests.service.shared.outages import killed
from tests.service.shared.processes import ROOT
from tests.service.shared.wire import Wire, captured, refunded

pytestmark = pytest.mark.broker


@pytest.fixture
def amqp_url(bare_amqp_url: str) -> str:
    """A virtual host with the exchanges of all services, and no queue."""
    with broker.connected(bare_amqp_url, name="test") as connection:
        topology.declare_exchanges(connection.channel())
    return bare_amqp_url


@pytest.fixture(autouse=True)
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(subscriber, "LONGEST_WAIT_SECONDS", 0.5)


def publish(wire: Wire, items: Sequence[events.Event]) -> None:
    for item in items:
        wire.send(events.encode(item), exchange=f"{item.SOURCE}.events", routing_key=type(item).__name__)


@contextmanager
def subscribed(outside: Subscriber, wire: Wire) -> Iterator[list[Received]]:
    """Read with ``outside`` in a green thread; gives the list of what it read so far."""
    received: list[Received] = []

    def read() -> None:
        for item in outside:
            received.append(item)  # noqa: PERF402  one by one, since the test looks at the list meanwhile

    thread = eventlet.spawn(read)
    until(lambda: wire.consumers("outside") == 1)
    try:
        yield received
    finally:
        outside.stop()
        thread.wait()


def lines(received: Sequence[Any]) -> list[str]:
    return [item.line_id for item in received]


def test_events_arrive_typed_and_in_order_with_their_envelope(amqp_url: str, wire: Wire) -> None:
    items = [captured(number) for number in range(20)]

    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        publish(wire, items)
        until(lambda: len(received) == 20)

    assert lines(received) == [f"line_{number}" for number in range(20)]
    first = received[0]
    assert isinstance(first, CreditCaptured)
    assert first.meta
    assert items[0].meta
    assert (first.meta.id, first.meta.source) == (items[0].meta.id, "/darkroom/credits")
    assert wire.left_in("outside") == 0


@pytest.mark.parametrize("types", [[RefundIssued], ["RefundIssued"]])
def test_only_the_types_that_were_asked_for_arrive(amqp_url: str, wire: Wire, types: list[Any]) -> None:
    with subscribed(Subscriber(amqp_url, name="outside", types=types), wire) as received:
        publish(wire, [captured(1), refunded(2)])
        until(lambda: received)

    assert [type(item) for item in received] == [RefundIssued]


def test_a_type_that_nobody_publishes_is_refused_with_those_there_are(amqp_url: str) -> None:
    with pytest.raises(ValueError, match=r"CreditVanished.*CreditCaptured"):
        Subscriber(amqp_url, name="outside", types=["CreditVanished"])


def test_an_event_of_a_type_this_code_does_not_know_arrives_as_a_plain_cloud_event(amqp_url: str, wire: Wire) -> None:
    newer = events.encode(captured(1)).replace(b"CreditCaptured", b"CreditCapturedV2")

    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        wire.send(newer, exchange="credits.events", routing_key="CreditCapturedV2")
        until(lambda: received)

    (item,) = received
    assert isinstance(item, dict)
    assert (item["type"], item["data"]["line_id"]) == ("CreditCapturedV2", "line_1")


def test_what_is_no_event_is_set_aside_and_reading_goes_on(amqp_url: str, wire: Wire) -> None:
    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        wire.send(b"{not json", exchange="credits.events", routing_key="CreditCaptured")
        publish(wire, [captured(1)])
        until(lambda: received)

    assert [letter.body for letter in wire.take_all("outside.dead-letters")] == [b"{not json"]
    assert wire.left_in("outside") == 0


def test_events_published_while_the_subscriber_is_away_are_kept_for_it(amqp_url: str, wire: Wire) -> None:
    with subscribed(Subscriber(amqp_url, name="outside"), wire):
        pass
    publish(wire, [captured(1)])

    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        until(lambda: received)

    assert lines(received) == ["line_1"]


def fail_at(line_id: str, outside: Subscriber) -> None:
    for item in outside:
        _ = 1 / (lines([item]) != [line_id])


def test_an_event_whose_handling_fails_comes_again(amqp_url: str, wire: Wire) -> None:
    with subscribed(Subscriber(amqp_url, name="outside"), wire):
        pass
    publish(wire, [captured(1), captured(2)])

    with pytest.raises(ZeroDivisionError):
        fail_at("line_2", Subscriber(amqp_url, name="outside"))
    until(lambda: wire.left_in("outside") == 1)

    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        until(lambda: received)
    assert lines(received) == ["line_2"]


def test_an_event_that_is_sent_twice_arrives_once(amqp_url: str, wire: Wire) -> None:
    item = captured(1)

    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        publish(wire, [item, item, captured(2)])
        until(lambda: len(received) == 2)

    assert lines(received) == ["line_1", "line_2"]
    assert wire.left_in("outside") == 0


def test_what_was_seen_can_be_kept_elsewhere_so_that_it_survives_a_restart(amqp_url: str, wire: Wire) -> None:
    item, seen = captured(1), set[str]()

    for expected in (["line_1"], []):
        with subscribed(Subscriber(amqp_url, name="outside", seen=seen), wire) as received:
            publish(wire, [item])
            until(lambda: wire.depth("outside") == 0)
            until(lambda: item.meta and item.meta.id in seen)
        assert lines(received) == expected


def test_a_broker_that_is_killed_costs_no_event_and_doubles_none(amqp_url: str, wire: Wire, rabbitmq: Broker) -> None:
    with subscribed(Subscriber(amqp_url, name="outside"), wire) as received:
        publish(wire, [captured(number) for number in range(10)])
        until(lambda: len(received) == 10)
        with killed(rabbitmq):
            pass
        publish(wire, [captured(number) for number in range(10, 20)])
        until(lambda: len(received) == 20)

    assert lines(received) == [f"line_{number}" for number in range(20)]


def test_only_so_many_ids_are_remembered_and_the_oldest_is_forgotten_first() -> None:
    seen = RecentlySeen(size=2)

    for event_id in ("a", "b", "a", "c"):
        seen.add(event_id)

    assert [event_id in seen for event_id in ("a", "b", "c")] == [True, False, True]


def test_the_client_needs_neither_nameko_nor_eventlet() -> None:
    code = "import sys, shared.subscriber; print([name for name in ('nameko', 'eventlet') if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_example_prints_events_and_ends_after_as_many_as_it_was_told(
    amqp_url: str, wire: Wire, tmp_path: Path
) -> None:
    program = str(ROOT / "examples" / "subscriber.py")
    command = [sys.executable, program, "--name", "outside", "--count", "2", "RefundIssued"]
    example = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "AMQP_URL": amqp_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: wire.consumers("outside") == 1, seconds=20)

    publish(wire, [refunded("a"), captured("b"), refunded("c"), refunded("d")])
    output, _ = example.communicate(timeout=20)

    assert example.returncode == 0, output
    assert [name for name in ("line_a", "line_b", "line_c", "line_d") if name in output] == ["line_a", "line_c"]
    assert wire.left_in("outside") == 1
