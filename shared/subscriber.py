"""The events of this system for any other one: a queue of its own, read with pika, at least once and in order.

It needs neither nameko nor eventlet, and no knowledge of the services: a subscriber binds its queue to their exchanges.
"""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
import pika  # type: ignore[import-untyped]  # pika ships no types
import pika.exceptions  # type: ignore[import-untyped]  # as above
import structlog

from shared import events
from shared.events import Event, MalformedEvent, UnknownEventType
from shared.topology import Binding, declare_binding, declare_dead_letters

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 1.0  # without any event the loop looks this often whether it is to stop
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0

# What a lost or refused connection raises; OSError where the host's name or port leads nowhere.
_LOST = (pika.exceptions.AMQPError, OSError)

Received = Event | dict[str, Any]


class Seen(Protocol):
    """Remembers the ids of events that were dealt with; one kept in the subscriber's database survives a restart."""

    def __contains__(self, event_id: object) -> bool:
        """Tell whether the event was dealt with."""

    def add(self, event_id: str) -> None:
        """Note that it was."""


class RecentlySeen:
    """The last ``size`` event ids, in memory: enough for the repeats that a broken connection causes."""

    def __init__(self, *, size: int = 10_000) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        """Note an id, and forget the oldest one where there are too many."""
        self._ids[event_id] = None
        self._ids.move_to_end(event_id)
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)


class Subscriber:
    """Iterate over it to get events; each is acknowledged when the loop asks for the next one.

    A body that raises, or a process that dies in it, gets the event again. Lost connections are made anew for as long
    as it takes. An event type this code does not know arrives as the plain CloudEvent, a dictionary. A message that is
    no event at all is moved to the queue ``<name>.dead-letters``.

    Args:
        amqp_url: ``amqp://user:password@host:5672/vhost``.
        name: the queue's name, and so the subscription's: two processes of one name share its events.
        types: event types, or their names; None stands for all.
        seen: where ids of finished events are kept; by default the last 10 000, in memory.
        prefetch: how many events the broker sends ahead.

    Raises:
        ValueError: a type is asked for that no service publishes.
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        name: str,
        types: Sequence[type[Event] | str] | None = None,
        seen: Seen | None = None,
        prefetch: int = 100,
    ) -> None:
        self._parameters = pika.URLParameters(amqp_url)
        self._parameters.heartbeat = HEARTBEAT_SECONDS
        self._parameters.socket_timeout = self._parameters.stack_timeout = CONNECT_SECONDS
        self._parameters.blocked_connection_timeout = HEARTBEAT_SECONDS
        self._parameters.client_properties = {"connection_name": f"subscriber {name}"}
        self._binding = Binding(service=name, queue=name, event_types=None if types is None else _names(types))
        self._seen = RecentlySeen() if seen is None else seen
        self._prefetch = prefetch
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._stopping = False

    def stop(self) -> None:
        """End the iteration after the event in hand, which is acknowledged."""
        self._stopping = True

    def __iter__(self) -> Iterator[Received]:
        """Yield events until `stop`."""
        while not self._stopping:
            try:
                with _connected(self._parameters) as connection:
                    yield from self._consume(connection.channel())
            except _LOST as error:
                log.warning("subscriber_interrupted", error=repr(error), again_in_seconds=self._wait_seconds)
                time.sleep(self._wait_seconds)
                self._wait_seconds = min(self._wait_seconds * 2, LONGEST_WAIT_SECONDS)

    def _consume(self, channel: Any) -> Iterator[Received]:
        declare_dead_letters(channel, self._binding.service)
        declare_binding(channel, self._binding)
        channel.basic_qos(prefetch_count=self._prefetch)
        self._wait_seconds = FIRST_WAIT_SECONDS
        for delivery, _properties, body in channel.consume(self._binding.queue, inactivity_timeout=IDLE_SECONDS):
            if delivery is not None:
                yield from self._deliver(channel, delivery.delivery_tag, body)
            if self._stopping:
                return

    def _deliver(self, channel: Any, tag: int, body: bytes) -> Iterator[Received]:
        item = _read(body)
        if item is None:
            log.error("message_set_aside", queue=self._binding.queue, reason="undecodable")
            channel.basic_reject(tag, requeue=False)
            return
        event_id = _id_of(item)
        if event_id not in self._seen:
            yield item
            self._seen.add(event_id)
        channel.basic_ack(tag)


@contextlib.contextmanager
def _connected(parameters: Any) -> Iterator[Any]:
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        with contextlib.suppress(*_LOST):  # else the complaint about closing a broken one would hide what broke it
            connection.close()


def _names(types: Sequence[type[Event] | str]) -> tuple[str, ...]:
    names = tuple(item if isinstance(item, str) else item.__name__ for item in types)
    unknown = [name for name in names if name not in events.types]
    if unknown:
        raise ValueError(f"no service publishes {', '.join(unknown)}; there are {', '.join(sorted(events.types))}")
    return names


def _id_of(item: Received) -> str:
    if isinstance(item, dict):
        return str(item["id"])
    return item.meta.id if item.meta else ""


def _read(body: bytes) -> Received | None:
    """Return the event in a message; the plain CloudEvent of an unknown type; None where there is none."""
    try:
        return events.decode(body)
    except UnknownEventType:
        plain: dict[str, Any] = msgspec.json.decode(body)
        return plain
    except MalformedEvent:
        return None
