"""RabbitMQ connections and confirmed publishing, on py-amqp: kombu waits for each confirm, which costs 12 to 15 times.

A connection here belongs to one green thread, which reads and writes it; only the RPC of shared.rpc shares one.
"""

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
from amqp import spec
from amqp.exceptions import AMQPError

# A text property of a message may hold any bytes. py-amqp would raise while it reads the frame, again and again for the
# same message, and nobody could consume, set aside or even drop it.
amqp.serialization.pstr_t = lambda raw: raw if isinstance(raw, str) else raw.decode("utf-8", "replace")

HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 2.0
READ_AHEAD_BYTES = 4096
ANSWER_SECONDS = 10.0
IDLE_SECONDS = 1.0  # a reader without anything to read looks this often whether it is time to stop
PERSISTENT = 2
TRANSIENT = 1

# What a lost, refused or frozen broker raises; OSError includes socket timeouts.
BROKER_ERRORS = (AMQPError, OSError)


def unforeseen(error: Exception) -> Exception | None:
    """Return ``error`` for the log's traceback unless it is one that a lost broker explains."""
    return None if isinstance(error, BROKER_ERRORS) else error


class ConfirmTimeout(Exception):
    """The broker did not confirm in time; the messages may or may not have arrived."""


class Backoff:
    """The wait between two tries to reach a server: 0.2 s at first, twice as long each time, 2 s at most."""

    def __init__(self) -> None:
        self.seconds = 0.2

    def reset(self) -> None:
        """The server was reached: begin anew."""
        self.seconds = 0.2

    def wait(self) -> None:
        """Wait, and longer next time."""
        time.sleep(self.seconds)
        self.seconds = min(self.seconds * 2, 2.0)


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A message on its way out."""

    body: bytes
    exchange: str
    routing_key: str
    message_id: str = ""
    content_type: str = "application/cloudevents+json"
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """What became of a batch, by position: confirmed by the broker (unrouted ones too), and without any queue."""

    confirmed: frozenset[int]
    unrouted: frozenset[int]


@contextlib.contextmanager
def connected(amqp_url: str, *, name: str) -> Iterator[Any]:
    """Yield an open ``amqp.Connection``; ``name`` is what operators see in the broker's list of connections."""
    connection = open_connection(amqp_url, name=name)
    try:
        yield connection
    finally:
        close(connection)


def open_connection(amqp_url: str, *, name: str) -> Any:
    """Open a connection with a heartbeat, so that a half-open one is noticed within a minute.

    Raises:
        OSError, amqp.exceptions.AMQPError: the broker does not answer within 2 s or refuses.

    On the connection each question and each write that makes no progress fails after 10 s with an OSError: a broker
    under a memory alarm stops reading, and one that is frozen or cut off answers nothing.
    """
    parts = urlsplit(amqp_url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        ssl=parts.scheme == "amqps",
        heartbeat=HEARTBEAT_SECONDS,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=None,
        client_properties={"connection_name": name},
    )
    connection.connect()
    connection.transport.sock.settimeout(ANSWER_SECONDS)
    _read_ahead(connection.transport)
    return connection


def _read_ahead(transport: Any) -> None:
    """Ask the socket for all that is there: a few bytes, nine times a message, cost a fifth of a consumer's time.

    What was read too much stays in py-amqp's own buffer, which it has for frames of which a part has arrived.
    """
    receive = transport.sock.recv
    transport._quick_recv = lambda size: receive(max(size, READ_AHEAD_BYTES))  # noqa: SLF001  it offers no way


def close(connection: Any) -> None:
    """Close a connection that may already be broken, without waiting for the broker's farewell."""
    with contextlib.suppress(*BROKER_ERRORS, AttributeError):
        if connection.connected:  # asking a closed one for its transport would connect it again
            connection.transport.close()
    with contextlib.suppress(*BROKER_ERRORS, AttributeError):
        connection.collect()


def cut(connection: Any) -> None:
    """Make a connection useless, so that the green thread which reads it finds that out at once."""
    with contextlib.suppress(OSError):
        if connection.connected:
            connection.transport.sock.shutdown(socket.SHUT_RDWR)


def read_events(connection: Any, *, seconds: float) -> None:
    """Read what the broker sent, for at most ``seconds``; returns after the first thing read."""
    with contextlib.suppress(TimeoutError):
        # Never 0: py-amqp would then spin, and stop the whole process, on a frame of which only a part has arrived.
        connection.drain_events(timeout=max(seconds, 0.001))


def send(
    channel: Any, message: Outgoing, *, delivery_mode: int = PERSISTENT, mandatory: bool = True, **properties: Any
) -> None:
    """Write one message to the socket; ``mandatory`` has it returned where no queue is bound.

    ``Channel.basic_publish`` would poll the socket before each message to look for ``connection.blocked``; our
    readers see that anyway.
    """
    content = amqp.Message(
        message.body,
        content_type=message.content_type,
        delivery_mode=delivery_mode,
        message_id=message.message_id,
        application_headers=dict(message.headers),
        **properties,
    )
    channel.send_method(
        spec.Basic.Publish, "Bssbb", (0, message.exchange, message.routing_key, mandatory, False), content
    )


class Publisher:
    """Publishes batches on one channel with pipelined confirms (https://www.rabbitmq.com/docs/confirms)."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._last_tag = 0
        self._waiting: dict[int, int] = {}
        self._refused: set[int] = set()
        self._unrouted_ids: set[str] = set()

    def publish(self, messages: Sequence[Outgoing], *, confirm_seconds: float = 15.0) -> Published:
        """Send all of ``messages`` (mandatory, persistent) and wait until the broker has answered for each.

        Raises:
            ConfirmTimeout: some answer did not come within ``confirm_seconds``; the connection must be replaced.
            OSError, amqp.exceptions.AMQPError: the connection broke.
        """
        self._waiting.clear()
        self._refused.clear()
        self._unrouted_ids.clear()
        for position, message in enumerate(messages):
            self._last_tag += 1
            self._waiting[self._last_tag] = position
            send(self._channel, message)
        self._wait(confirm_seconds)
        return Published(
            confirmed=frozenset(range(len(messages))) - self._refused,
            unrouted=frozenset(
                position for position, message in enumerate(messages) if message.message_id in self._unrouted_ids
            ),
        )

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConfirmTimeout(f"{len(self._waiting)} messages unconfirmed after {seconds:.0f} s")
            read_events(self._connection, seconds=left)

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's signature
        self._answered(delivery_tag, multiple=multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's signature
        self._refused.update(self._answered(delivery_tag, multiple=multiple))

    def _answered(self, delivery_tag: int, *, multiple: bool) -> list[int]:
        # Tags were added in rising order, so everything an ack of many covers stands in front.
        upto = itertools.takewhile(lambda tag: tag <= delivery_tag, self._waiting)
        tags = list(upto) if multiple else [delivery_tag]
        return [self._waiting.pop(tag) for tag in tags if tag in self._waiting]

    def _on_return(self, _error: Any, _exchange: str, _routing_key: str, message: Any) -> None:
        self._unrouted_ids.add(str(message.properties.get("message_id")))
