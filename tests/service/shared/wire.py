"""The broker as an outsider sees it: messages put in by hand, queues counted and emptied."""

from typing import Any

import amqp
from amqp.exceptions import NotFound

from shared import broker, events
from shared.events import CreditCaptured, Event, RefundIssued
from shared.ids import new_id


class Wire:
    """One virtual host. Each step has a connection of its own, so that it works however often the broker died."""

    def __init__(self, amqp_url: str) -> None:
        self.amqp_url = amqp_url

    def send(  # noqa: PLR0913  a message has that many parts
        self,
        body: bytes,
        *,
        queue: str = "",
        exchange: str = "",
        routing_key: str = "",
        content_type: str = "application/cloudevents+json",
        headers: dict[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """Put a message straight into ``queue``, or through ``exchange``."""
        message = amqp.Message(
            body, content_type=content_type, delivery_mode=2, application_headers=headers or {}, **properties
        )
        with broker.connected(self.amqp_url, name="test") as connection:
            channel = connection.channel()
            channel.confirm_select()
            channel.basic_publish_confirm(message, exchange=exchange, routing_key=routing_key or queue)

    def send_all(self, items: list[Event], *, queue: str) -> None:
        """Put events straight into ``queue``, in order."""
        with broker.connected(self.amqp_url, name="test") as connection:
            broker.Publisher(connection).publish(
                [
                    broker.Outgoing(
                        body=events.encode(item), exchange="", routing_key=queue, message_id=item.meta.id if item.meta else ""
                    )
                    for item in items
                ]
            )

    def depth(self, queue: str) -> int:
        """Return how many messages wait in ``queue``; those held by a consumer are not counted."""
        with broker.connected(self.amqp_url, name="test") as connection:
            return int(connection.channel().queue_declare(queue, passive=True).message_count)

    def consumers(self, queue: str) -> int:
        """Return how many consumers ``queue`` has; 0 when there is no such queue."""
        with broker.connected(self.amqp_url, name="test") as connection:
            try:
                return int(connection.channel().queue_declare(queue, passive=True).consumer_count)
            except NotFound:
                return 0

    def take_all(self, queue: str) -> list[Any]:
        """Empty ``queue`` and return its messages."""
        with broker.connected(self.amqp_url, name="test") as connection:
            channel = connection.channel()
            return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))

    def delete(self, queue: str) -> None:
        """Delete ``queue`` with all that is in it."""
        with broker.connected(self.amqp_url, name="test") as connection:
            connection.channel().queue_delete(queue)


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
