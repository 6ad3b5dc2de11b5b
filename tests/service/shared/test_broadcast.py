"""Events that every process hears as they pass: in their order, and where some were lost, that they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from eventlet.event import Event as Gate
from nameko.containers import ServiceContainer

from deploy.local.stack import Broker
from shared import broadcast, broker, events
from shared.broadcast import Heard
from shared.config import Settings
from shared.events import RefundIssued
from shared.health import Health
from shared.ids import new_id
from tests.polling import until
from tests.service.shared.wire import Wire

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_url")]


class Ear:
    """Keeps what it was told; while ``held`` it is busy with the first event, and nothing more is read."""

    def __init__(self) -> None:
        self.heard_of: list[str] = []
        self.missed_after: list[int] = []
        self.held: Gate | None = None

    def heard(self, event: Any) -> None:
        if self.held:
            self.held.wait()
        self.heard_of.append(event.line_id)

    def missed(self) -> None:
        self.missed_after.append(len(self.heard_of))


@contextmanager
def listening(chosen: Settings, ear: Ear) -> Iterator[None]:
    class Listening:
        name = "listening"
        ear = Heard(RefundIssued, lambda _: listener)

    listener = ear
    config = {"settings": chosen, "health": Health(), "max_workers": chosen.max_workers}
    container = ServiceContainer(Listening, config=config)
    container.start()
    try:
        until(lambda: ear.missed_after)
        yield
    finally:
        container.stop()


def publish(amqp_url: str, names: list[str], *, size: int = 10) -> None:
    outgoing = [
        broker.Outgoing(
            body=events.encode(
                RefundIssued(
                    meta=events.correlated(new_id("req")),
                    reservation_id="res_1",
                    job_id="job_1",
                    org_id="org_1",
                    line_id=name,
                    amount=1,
                    unit="credits",
                    reason="r" * size,
                    available=1,
                    version=1,
                )
            ),
            exchange="credits.events",
            routing_key="RefundIssued",
            message_id=name,
        )
        for name in names
    ]
    with broker.connected(amqp_url, name="test") as connection:
        broker.Publisher(connection).publish(outgoing)


def test_what_passes_is_heard_in_its_order_and_nothing_is_said_to_be_missed(chosen: Settings, wire: Wire) -> None:
    ear = Ear()
    with listening(chosen, ear):
        publish(wire.amqp_url, ["1", "2", "3"])

        until(lambda: len(ear.heard_of) == 3)

    assert (ear.heard_of, ear.missed_after) == (["1", "2", "3"], [0])


def test_who_reads_too_slowly_is_told_that_something_was_dropped_though_nothing_follows_it(
    chosen: Settings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "QUEUE_LENGTH", 5)
    ear = Ear()
    with listening(chosen, ear):
        ear.held = Gate()
        names = [str(number) for number in range(400)]
        publish(wire.amqp_url, names, size=60_000)

        held, ear.held = ear.held, None
        held.send()

        until(lambda: ear.heard_of[-1:] == ["399"])
        until(lambda: len(ear.missed_after) > 1)

    assert len(ear.heard_of) < 400
    assert ear.missed_after[-1] > 0


def test_many_that_were_dropped_are_told_of_once_a_second(
    chosen: Settings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time everybody looks into the log."""
    monkeypatch.setattr(broadcast, "QUEUE_LENGTH", 5)
    ear = Ear()
    with listening(chosen, ear):
        ear.held = Gate()
        publish(wire.amqp_url, [str(number) for number in range(400)], size=60_000)
        held, ear.held = ear.held, None
        held.send()
        until(lambda: len(ear.missed_after) > 1)

        publish(wire.amqp_url, [str(number) for number in range(400, 600)], size=60_000)
        publish(wire.amqp_url, ["last"])
        until(lambda: ear.heard_of[-1:] == ["last"])

    assert len(ear.missed_after) < 10


def test_after_the_connection_broke_anything_may_have_passed(chosen: Settings, wire: Wire, rabbitmq: Broker) -> None:
    ear = Ear()
    with listening(chosen, ear):
        rabbitmq.ctl("close_all_connections", "--vhost", wire.vhost, "test")

        until(lambda: len(ear.missed_after) == 2)
        publish(wire.amqp_url, ["1"])
        until(lambda: ear.heard_of == ["1"])
