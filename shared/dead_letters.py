"""Messages that were put aside: listing them, sending them on again, dropping them. For operators, never automatic.

``service`` is one of the six, or ``unrouted``: the events whose subscriber's queue was missing.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import NotFound

from shared import broker
from shared.broker import Outgoing, Publisher
from shared.config import SERVICES
from shared.topology import UNROUTED, dead_letters_queue


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One message that was put aside. ``exchange`` and ``routing_key`` are where it goes when it is replayed."""

    message_id: str
    event_type: str
    reason: str
    detail: str
    attempts: int
    set_aside_at: str
    exchange: str
    routing_key: str
    body: bytes


class NotReplayed(Exception):
    """The broker did not take a message, or nothing is bound where it should go; it stays where it was."""


def listed(amqp_url: str, service: str, *, most: int = 1000) -> list[DeadLetter]:
    """Return what lies in a service's dead letters, oldest first; it all stays there."""
    with _held(amqp_url, service, most) as (_, messages):
        return [_read(message) for message in messages]


def counts(amqp_url: str) -> dict[str, int]:
    """Return how many messages lie in the dead letters of each service; those whose queue is not declared are left out.

    Nothing is taken out for it.
    """
    found = {}
    with broker.connected(amqp_url, name="dead letters") as connection:
        for service in SERVICES:
            channel = connection.channel()
            with contextlib.suppress(NotFound):  # the channel is gone with it
                found[service] = int(channel.queue_declare(dead_letters_queue(service), passive=True).message_count)
                channel.close()
    return found


def replay(amqp_url: str, service: str, *, message_ids: Collection[str] | None = None, most: int = 1000) -> int:
    """Send messages to the queue they came from, as if for the first time; return how many. None stands for all.

    Raises:
        NotReplayed: one could not be delivered; those before it were, it and the rest stay.
    """
    return _each(amqp_url, service, message_ids, most, _send_on)


def drop(amqp_url: str, service: str, *, message_ids: Collection[str] | None = None, most: int = 1000) -> int:
    """Delete messages for good; return how many. None stands for all."""
    return _each(amqp_url, service, message_ids, most, lambda _publisher, _letter, _message: None)


def _each(
    amqp_url: str,
    service: str,
    message_ids: Collection[str] | None,
    most: int,
    act: Callable[[Publisher, DeadLetter, Any], None],
) -> int:
    done = 0
    with _held(amqp_url, service, most) as (connection, messages):
        publisher = Publisher(connection)
        for message in messages:
            letter = _read(message)
            if message_ids is None or letter.message_id in message_ids:
                act(publisher, letter, message)
                message.channel.basic_ack(message.delivery_tag)
                done += 1
    return done


@contextmanager
def _held(amqp_url: str, service: str, most: int) -> Iterator[tuple[Any, list[Any]]]:
    """Hold a queue's messages; whatever is not acknowledged goes back in order when the connection closes."""
    queue = UNROUTED if service == UNROUTED else dead_letters_queue(service)
    with broker.connected(amqp_url, name="dead letters") as connection:
        channel = connection.channel()
        messages: list[Any] = []
        while len(messages) < most and (message := channel.basic_get(queue)) is not None:
            messages.append(message)
        yield connection, messages
        connection.close()  # a clean farewell has the acknowledgements arrive


def _send_on(publisher: Publisher, letter: DeadLetter, message: Any) -> None:
    outgoing = Outgoing(
        body=letter.body,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        message_id=letter.message_id,
        content_type=str(message.properties.get("content_type", "application/cloudevents+json")),
    )
    published = publisher.publish([outgoing])
    if not published.confirmed or published.unrouted:
        raise NotReplayed(f"{letter.message_id} cannot be sent to {letter.routing_key}: is its queue declared?")


def _read(message: Any) -> DeadLetter:
    headers = message.headers or {}
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    event_type, source = _what_it_is(body)
    deaths = headers.get("x-death") or [{}]
    attempts = headers.get("x-attempts")
    queue = str(headers.get("x-queue") or deaths[0].get("queue") or "")
    reason = headers.get("x-reason") or ("delivered_too_often" if headers.get("x-death") else "no_subscriber_queue")
    return DeadLetter(
        message_id=str(message.properties.get("message_id", "")),
        event_type=event_type,
        reason=str(reason),
        detail=str(headers.get("x-detail", "")),
        attempts=attempts if isinstance(attempts, int) else 0,
        set_aside_at=str(headers.get("x-set-aside-at", "")),
        exchange="" if queue else f"{source}.events",
        routing_key=queue or event_type,
        body=body,
    )


def _what_it_is(body: bytes) -> tuple[str, str]:
    """Return an event's type and the service it is of, as far as the bytes tell."""
    try:
        envelope = json.loads(body)
        return str(envelope["type"]), str(envelope["source"]).rpartition("/")[2]
    except (ValueError, KeyError, TypeError, RecursionError):  # whatever the bytes are: they lie here because of it
        return "?", "?"
