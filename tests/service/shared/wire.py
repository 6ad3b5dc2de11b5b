"""The broker as an outsider sees it: messages put in by hand, queues counted and emptied."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import amqp
from amqp.exceptions import NotFound

from shared import broker, events
from shared.events import CreditCaptured, Event, RefundIssued
from shared.ids import new_id
from tests.polling import until


class Wire:
    """One virtual host. Each step has a channel of its own, and a new connection where the last one broke."""

    def __init__(self, amqp_url: str) -> None:
        self.amqp_url = amqp_url
        self._connection: Any = None

    @property
    def vhost(self) -> str:
        """Its name, for rabbitmqctl."""
        return self.amqp_url.rpartition("/")[2]

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            broker.close(self._connection)
            self._connection = None

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Give a channel for one step."""
        try:
            channel = self._connected().channel()
        except broker.BROKER_ERRORS:
            self.close()
            channel = self._connected().channel()
        try:
            yield channel
        except broker.BROKER_ERRORS:
            self.close()
            raise
        channel.close()

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = broker.open_connection(self.amqp_url, name="test")
        return self._connection

    def send(
        self,
        body: bytes,
        *,
        queue: str = "",
        exchange: str = "",
        routing_key: str = "",
        content_type: str = "application/cloudevents+json",
        headers: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """Put a message straight into ``queue``, or through ``exchange``."""
        message = amqp.Message(
            body, content_type=content_type, delivery_mode=2, application_headers=dict(headers or {}), **properties
        )
        with self.channel() as channel:
            channel.confirm_select()
            channel.basic_publish_confirm(message, exchange=exchange, routing_key=routing_key or queue)

    def send_all(self, items: list[Event], *, queue: str) -> None:
        """Put events straight into ``queue``, in order."""
        outgoing = [
            broker.Outgoing(body=events.encode(item), exchange="", routing_key=queue, message_id=item.meta.id)
            for item in items
            if item.meta
        ]
        with broker.connected(self.amqp_url, name="test") as connection:
            broker.Publisher(connection).publish(outgoing)

    def depth(self, queue: str) -> int:
        """Return how many messages wait in ``queue``; those held by a consumer are not counted."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def consumers(self, queue: str) -> int:
        """Return how many consumers ``queue`` has; 0 when there is no such queue."""
        try:
            with self.channel() as channel:
                return int(channel.queue_declare(queue, passive=True).consumer_count)
        except NotFound:
            return 0

    def left_in(self, queue: str) -> int:
        """Return how many messages are in ``queue`` after its consumers have gone, their unacknowledged ones too."""
        until(lambda: self.consumers(queue) == 0)
        return self.depth(queue)

    def take_all(self, queue: str) -> list[Any]:
        """Empty ``queue`` and return its messages."""
        with self.channel() as channel:
            channel.auto_decode = False
            return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))

    def listen(self, queue: str, *, exchange: str, routing_key: str = "#") -> None:
        """Declare a queue of an outsider, which keeps a copy of what ``exchange`` gets from now on."""
        with self.channel() as channel:
            channel.queue_declare(queue, durable=True, auto_delete=False)
            channel.queue_bind(queue, exchange, routing_key)

    def delete(self, queue: str) -> None:
        """Delete ``queue`` with all that is in it."""
        with self.channel() as channel:
            channel.queue_delete(queue)


def captured(number: int | str = 1, *, org_id: str = "org_1") -> CreditCaptured:
    """Return an event whose line is named by ``number``; each call is another event."""
    return CreditCaptured(
        meta=events.correlated(new_id("req")),
        reservation_id="res_1",
        job_id=f"job_{number}",
        org_id=org_id,
        line_id=f"line_{number}",
        amount=10,
        unit="credits",
    )


def refunded(number: int | str = 1, *, org_id: str = "org_1") -> RefundIssued:
    """Return an event whose line is named by ``number``; each call is another event."""
    return RefundIssued(
        meta=events.correlated(new_id("req")),
        reservation_id="res_1",
        job_id=f"job_{number}",
        org_id=org_id,
        line_id=f"line_{number}",
        amount=10,
        unit="credits",
        reason="provider_error",
        available=100,
        version=1,
    )
