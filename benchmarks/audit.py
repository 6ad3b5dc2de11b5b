"""What must be true after every round: each event there exactly once. A fast run that loses one is a failure."""

from collections import Counter
from typing import Any

import msgspec

from benchmarks import samples
from shared import broker

SILENCE_SECONDS = 0.2


class AuditFailed(Exception):
    """A contender lost or doubled something; the message says what and how much of it."""


class _Envelope(msgspec.Struct):
    id: str


def check(what: str, *, found: Any, expected: Any) -> None:
    """Compare a figure with what it must be.

    Raises:
        AuditFailed: they differ.
    """
    if found != expected:
        raise AuditFailed(f"{what}: {found}, must be {expected}")


def check_queue(amqp_url: str, queue: str, *, run: str, count: int) -> None:
    """Empty ``queue`` and check that it held exactly the events of the run, each once.

    Raises:
        AuditFailed: some are missing, doubled, or not of this run.
    """
    found = Counter(_read_all(amqp_url, queue, expected=count))
    expected = {samples.event_id(run, number) for number in range(count)}
    missing, foreign = expected - found.keys(), found.keys() - expected
    doubled = sum(times - 1 for times in found.values())
    if missing or foreign or doubled:
        raise AuditFailed(f"{queue}: {len(missing)} events lost, {doubled} doubled, {len(foreign)} of another run")


def message_count(amqp_url: str, queue: str) -> int:
    """Return how many messages are ready in ``queue``; exact only while nobody consumes."""
    with broker.connected(amqp_url, name="benchmark audit") as connection:
        return int(connection.channel().queue_declare(queue, passive=True).message_count)


def _read_all(amqp_url: str, queue: str, *, expected: int) -> list[str]:
    decoder = msgspec.json.Decoder(_Envelope)
    messages: list[Any] = []
    with broker.connected(amqp_url, name="benchmark audit") as connection:
        channel = connection.channel()
        channel.basic_consume(queue, callback=messages.append, no_ack=True)
        heard, seconds = -1, 5.0
        while len(messages) > heard:
            heard = len(messages)
            broker.read_events(connection, seconds=seconds)
            # Doubles would follow the last expected one at once.
            seconds = SILENCE_SECONDS if len(messages) >= expected else 5.0
    return [decoder.decode(message.body).id for message in messages]
