"""Exchanges, queues and bindings, as data and as the command that declares them before any publisher starts.

Queue arguments are declared once and for all (a difference is PRECONDITION_FAILED) and only such are used as both
RabbitMQ 3.10 and 4.x know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import SERVICES, retry_delays
from shared.events import Event, types

# One type of event, several, or None for all there are.
Subscribed = type[Event] | tuple[type[Event], ...] | None

UNROUTED = "unrouted"
UNROUTED_LIMIT = 100_000

# How often a quorum queue gives out one message whose consumer dies over it: a message that kills its process ends
# in the dead letters, while lost connections during an outage (each counts as one) stay far below.
DELIVERY_LIMIT = 200


@dataclass(frozen=True)
class Binding:
    """One subscription: ``queue`` of ``service`` gets the events of ``event_types``; None stands for all events."""

    service: str
    queue: str
    event_types: tuple[str, ...] | None

    def routes(self) -> list[tuple[str, str]]:
        """Return ``(exchange, routing key)`` pairs."""
        if self.event_types is None:
            return [(f"{service}.events", "#") for service in SERVICES]
        return [(f"{types[name].SOURCE}.events", name) for name in self.event_types]


def binding(service: str, method: str, event_type: Subscribed) -> Binding:
    """Return the binding of a handler method; the queue's name is explicit, so that code may move."""
    queue = f"{service}.{method}"
    if event_type is None:
        return Binding(service, queue, None)
    wanted = event_type if isinstance(event_type, tuple) else (event_type,)
    return Binding(service, queue, tuple(cls.__name__ for cls in wanted))


def dead_letters_queue(service: str) -> str:
    """Return the name of a service's dead-letter queue."""
    return f"{service}.dead-letters"


def retry_name(service: str, delay_seconds: int) -> str:
    """Return the name of the fanout exchange, and of the queue behind it, where messages wait ``delay_seconds``."""
    return f"{service}.retry.{delay_seconds}"


def rpc_queue(service: str) -> str:
    """Return the name of the queue a service takes RPC requests from."""
    return f"{service}.rpc"


def declare_exchanges(channel: Any) -> None:
    """Declare every service's event exchange, with the alternate exchange behind them all."""
    for service in SERVICES:
        channel.exchange_declare(
            f"{service}.events",
            "topic",
            durable=True,
            auto_delete=False,
            arguments={"alternate-exchange": UNROUTED},
        )


def declare_unrouted(channel: Any, bindings: Sequence[Binding]) -> None:
    """Declare the alternate exchange and the queue that catches an event whose subscriber's queue is missing.

    It is bound only for types that have a subscriber; an event nobody asked for is counted by the relay and dropped.
    When full it refuses, so that further events wait in their outbox.
    """
    channel.exchange_declare(UNROUTED, "topic", durable=True, auto_delete=False)
    channel.queue_declare(
        UNROUTED,
        durable=True,
        auto_delete=False,
        arguments={
            "x-queue-type": "quorum",
            "x-max-length": UNROUTED_LIMIT,
            "x-overflow": "reject-publish",
            "x-delivery-limit": 1_000_000,
        },
    )
    for name in sorted({name for item in bindings for name in item.event_types or types}):
        channel.queue_bind(UNROUTED, UNROUTED, name)


def declare_dead_letters(channel: Any, service: str) -> None:
    """Declare the queue of what ``service`` could not handle."""
    channel.queue_declare(
        dead_letters_queue(service),
        durable=True,
        auto_delete=False,
        # Listing takes messages out and puts them back, which counts; RabbitMQ 4 would drop them at 20.
        arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000},
    )


def declare_service(channel: Any, service: str) -> None:
    """Declare a service's dead-letter queue and its retry queues, one per delay."""
    declare_dead_letters(channel, service)
    for delay_seconds in retry_delays():
        name = retry_name(service, delay_seconds)
        channel.exchange_declare(name, "fanout", durable=True, auto_delete=False)
        channel.queue_declare(
            name,
            durable=True,
            auto_delete=False,
            arguments={
                "x-queue-type": "quorum",
                "x-message-ttl": delay_seconds * 1000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )
        channel.queue_bind(name, name)


def declare_binding(channel: Any, item: Binding) -> None:
    """Declare a subscription's queue and bind it; doing so again changes nothing."""
    channel.queue_declare(
        item.queue,
        durable=True,
        auto_delete=False,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letters_queue(item.service),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
    for exchange, routing_key in item.routes():
        channel.queue_bind(item.queue, exchange, routing_key)


def declare_rpc(channel: Any, service: str) -> None:
    """Declare the queue of a service's RPC requests; the requests in it are transient and expire."""
    channel.queue_declare(rpc_queue(service), durable=True, auto_delete=False)


def declare_all(channel: Any, bindings: Sequence[Binding]) -> None:
    """Declare the whole topology, in an order in which nothing published meanwhile can fall through.

    A relay that has waited for its exchange sends the moment that is there: what has no queue yet must be caught.
    """
    declare_unrouted(channel, bindings)
    declare_exchanges(channel)
    for service in SERVICES:
        declare_service(channel, service)
        declare_rpc(channel, service)
    for item in bindings:
        declare_binding(channel, item)
