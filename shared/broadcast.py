"""Events that every process hears for itself, as they pass: for telling somebody who is connected right now.

Whoever listens has a queue of its own, which goes with the connection. What passes while there is none is lost, and so
is the oldest of a full one; nobody is told what it was, only that it was: a listener has to know where else to look
(https://www.rabbitmq.com/docs/queues#exclusive, https://www.rabbitmq.com/docs/maxlength).
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from nameko.extensions import DependencyProvider

from shared import broker, events
from shared.config import Settings
from shared.events import Event, MalformedEvent, UnknownEventType
from shared.host import forever, health_of, settings_of
from shared.topology import declare_exchanges

log = structlog.get_logger(__name__)

# What may lie in the broker for a process that does not read. The oldest beyond that is dropped and leaves one message
# in a queue beside it: else who has nothing after it, which would show the gap, would never know.
QUEUE_LENGTH = 20_000
_DROPS_TOLD_EVERY_SECONDS = 1.0
_READ_AT_ONCE = 50


class Listener(Protocol):
    """What is told of events as they pass."""

    def heard(self, event: Any) -> None:
        """Take one event; called in the order they came, and must not wait."""

    def missed(self) -> None:
        """Take note that any number of events may have passed unheard."""


class Heard(DependencyProvider):
    """Gives a service its listener, made once per process, and tells that of each event of one type.

    Args:
        event_type: what it hears of.
        build: makes the listener of the settings.
    """

    def __init__(self, event_type: type[Event], build: Callable[[Settings], Listener]) -> None:
        self._event_type = event_type
        self._build = build
        self._stopping = False
        self._dropped: int | None = None
        self._problem: str | None = "not connected to the broker yet"

    def setup(self) -> None:
        """Make the listener."""
        self._settings = settings_of(self.container)
        self._listener = self._build(self._settings)
        health_of(self.container).register(f"hearing {self._event_type.__name__}", lambda: self._problem)

    def start(self) -> None:
        """Begin to listen."""
        self._thread = forever(self, self._run, name=f"hearing {self._event_type.__name__}")

    def stop(self) -> None:
        """Listen no more."""
        self._stopping = True
        self._thread.wait()

    def get_dependency(self, _worker_ctx: Any) -> Listener:
        """Return the listener."""
        return self._listener

    def _run(self) -> None:
        backoff = broker.Backoff()
        while not self._stopping:
            try:
                with broker.connected(self._settings.amqp_url, name=f"{self._settings.process} hearing") as connection:
                    self._listen(connection, backoff)
            except Exception as error:
                self._problem = f"not hearing {self._event_type.__name__}: {type(error).__name__}"
                log.warning("listener_interrupted", error=str(error), exc_info=broker.unforeseen(error))
                if not self._stopping:
                    backoff.wait()

    def _listen(self, connection: Any, backoff: broker.Backoff) -> None:
        channel = connection.channel()
        declare_exchanges(channel)
        dropped = _own_queue(channel, length=1)
        queue = _own_queue(
            channel,
            length=QUEUE_LENGTH,
            **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dropped},
        )
        channel.queue_bind(queue, f"{self._event_type.SOURCE}.events", self._event_type.__name__)
        self._dropped = None
        channel.basic_qos(0, 1, False)  # noqa: FBT003  py-amqp's signature; for consumers that acknowledge
        channel.basic_consume(dropped, callback=self._note_drop, on_cancel=_cancelled)
        channel.basic_consume(queue, callback=self._take, no_ack=True, on_cancel=_cancelled)
        # Bound first, told then: what passes from here on is heard, and what passed before can be looked up.
        self._listener.missed()
        self._problem = None
        backoff.reset()
        read, told = 0, 0.0
        while not self._stopping:
            broker.read_events(connection, seconds=broker.IDLE_SECONDS)
            connection.heartbeat_tick()
            if self._dropped is not None and time.monotonic() - told > _DROPS_TOLD_EVERY_SECONDS:
                told = time.monotonic()
                self._tell_of_drop(channel)
            read += 1
            if read % _READ_AT_ONCE == 0:
                time.sleep(0)  # a socket with more to read never waits: the others have their turn in between

    def _take(self, message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        try:
            event = events.decode(body)
            if isinstance(event, self._event_type):
                self._listener.heard(event)
        except (UnknownEventType, MalformedEvent) as error:
            log.warning("event_not_heard", error=str(error))
            self._listener.missed()

    def _note_drop(self, message: Any) -> None:
        self._dropped = message.delivery_tag

    def _tell_of_drop(self, channel: Any) -> None:
        log.warning("listener_overrun", event_type=self._event_type.__name__)
        self._listener.missed()
        # Now, and not before: what is dropped from here on leaves a message that comes after this one.
        channel.basic_ack(self._dropped)
        self._dropped = None


def _own_queue(channel: Any, *, length: int, **arguments: Any) -> str:
    """Declare a queue that goes with the connection, and that drops its oldest when it is full."""
    declared = channel.queue_declare(
        "",
        exclusive=True,
        auto_delete=True,
        arguments={"x-max-length": length, "x-overflow": "drop-head", **arguments},
    )
    return str(declared.queue)


def _cancelled(_consumer_tag: str) -> None:
    raise OSError("the broker cancelled the listener")
