"""`@subscribe`: events in batches, into one transaction, acknowledged after its commit; nothing is ever dropped.

What is not "handled" ends in one of three places: again later (retry queues), put aside for a person (dead letters),
or still in the queue while the database is away. nameko's own handler would acknowledge and lose all three.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from nameko.extensions import Entrypoint

from shared import broker, events, logs, metrics
from shared.broker import Outgoing, Publisher
from shared.budget import TimeLimitExceeded
from shared.crash import crash_point
from shared.database import Batch, DatabaseFrozen, is_unavailable
from shared.events import Event, MalformedEvent, UnknownEventType
from shared.host import forever, health_of, run_in_worker, settings_of
from shared.topology import (
    Binding,
    Subscribed,
    binding,
    dead_letters_queue,
    declare_binding,
    declare_service,
    retry_name,
)

log = structlog.get_logger(__name__)

BATCH = 100
GATHER_SECONDS = 0.002
GATHER_AT_MOST_SECONDS = 0.01
MAX_EVENT_BYTES = 1_000_000
ATTEMPTS_HEADER = "x-attempts"

# RabbitMQ takes back what a consumer holds for 30 min. Before that, a batch that still waits for the database is
# given back by us; each time counts towards the queue's delivery limit of 200, which is 80 hours away.
HOLD_SECONDS = 24 * 60.0
REBIND_SECONDS = 30.0

ANY: type[Event] | None = None


# A batch that runs into its time limit twice, with a database that answers otherwise, is itself too slow.
SLOW_TRIES = 2


class GivenBack(Exception):
    """The messages in hand stay queued, unacknowledged; that is no attempt."""


class Subscription(Entrypoint):
    """Feeds one method from its own quorum queue, over its own connection, one batch at a time.

    Args:
        event_type: the type to subscribe to, several that come in one queue, or `ANY`.
        prefetch: how many messages the broker may send ahead; the memory bound of a backlog.
        workers: how many batches may be handled at once; each has its own connection.
    """

    def __init__(self, event_type: Subscribed, *, prefetch: int = 200, workers: int = 1, **kwargs: Any) -> None:
        self.event_type = event_type
        self._prefetch = prefetch
        self._workers = workers
        self._stopping = False
        self._problems: dict[int, str | None] = {}
        self._threads: list[Any] = []
        super().__init__(**kwargs)

    def setup(self) -> None:
        """Tell the process's health about this queue."""
        self.binding = binding(settings_of(self.container).service, self.method_name, self.event_type)
        health_of(self.container).register(f"queue {self.binding.queue}", self._problem)

    def start(self) -> None:
        """Begin to consume."""
        for number in range(self._workers):
            self._problems[number] = "not connected to the broker yet"
            consumer = Consumer(self, number)
            self._threads.append(forever(self, consumer.run, name=f"{self.binding.queue} {number}"))

    def stop(self) -> None:
        """Take no further batch and wait for those being handled; unacknowledged messages stay queued."""
        self._stopping = True
        for thread in self._threads:
            thread.wait()

    @property
    def stopping(self) -> bool:
        """Whether the service is shutting down."""
        return self._stopping

    @property
    def prefetch(self) -> int:
        """How many unacknowledged messages a consumer holds at most."""
        return self._prefetch

    def report(self, number: int, problem: str | None) -> None:
        """Note what keeps consumer ``number`` from working, or None."""
        self._problems[number] = problem

    def _problem(self) -> str | None:
        return next((problem for problem in self._problems.values() if problem), None)


subscribe = Subscription.decorator


class Consumer:
    """One connection and one green thread that feed a subscription."""

    def __init__(self, subscription: Subscription, number: int) -> None:
        self._subscription = subscription
        self._settings = settings_of(subscription.container)
        self._binding: Binding = subscription.binding
        self._number = number
        self._arrived: list[Any] = []
        self._backoff = broker.Backoff()

    def run(self) -> None:
        """Consume until the subscription stops; reconnect after 0.2 s at first, 2 s at most."""
        name = f"{self._settings.process} {self._binding.queue}"
        while not self._subscription.stopping:
            try:
                with broker.connected(self._settings.amqp_url, name=name) as self._connection:
                    self._consume()
            except Exception as error:  # noqa: BLE001  nothing may end a consumer; health tells, and it tries again
                self._interrupted(error)

    def _interrupted(self, error: Exception) -> None:
        if self._subscription.stopping:
            return
        queue = self._binding.queue
        self._subscription.report(self._number, f"not consuming {queue}: {type(error).__name__}")
        log.warning(
            "consumer_interrupted",
            queue=queue,
            error=str(error),
            again_in_seconds=self._backoff.seconds,
            exc_info=None if isinstance(error, GivenBack | broker.ConfirmTimeout) else broker.unforeseen(error),
        )
        self._backoff.wait()

    def _consume(self) -> None:
        self._arrived = []
        self._channel = self._connection.channel()
        self._publisher = Publisher(self._connection)
        declare_service(self._channel, self._binding.service)
        declare_binding(self._channel, self._binding)
        self._channel.basic_qos(0, self._subscription.prefetch, False)  # noqa: FBT003  py-amqp's signature
        self._channel.basic_consume(
            self._binding.queue, callback=self._arrived.append, on_cancel=self._cancelled_by_broker
        )
        self._subscription.report(self._number, None)
        self._backoff.reset()
        rebind_at = time.monotonic() + REBIND_SECONDS
        while not self._subscription.stopping:
            self._wait()
            while self._arrived and not self._subscription.stopping:
                self._take_batch()
            if time.monotonic() >= rebind_at:
                # A binding that was removed by hand comes back; AMQP has no way to ask whether it is there.
                declare_binding(self._channel, self._binding)
                rebind_at = time.monotonic() + REBIND_SECONDS

    def _cancelled_by_broker(self, _consumer_tag: str) -> None:
        """The queue was deleted: leave, so that the next connection declares it again."""
        raise OSError(f"the broker cancelled the consumer of {self._binding.queue}")

    def _wait(self) -> None:
        """Wait for a first message, at most a second, and for company for 2 ms; take what is there for 10 ms.

        Reading a hundred messages takes longer than 2 ms, and more so on a busy machine, where batches pay the most.
        """
        broker.read_events(self._connection, seconds=broker.IDLE_SECONDS)
        self._connection.heartbeat_tick()
        began, before, waited = time.monotonic(), 0, 0.0
        while before < len(self._arrived) < BATCH and waited < GATHER_AT_MOST_SECONDS:
            before = len(self._arrived)
            broker.read_events(self._connection, seconds=GATHER_SECONDS - waited)
            waited = time.monotonic() - began

    def _take_batch(self) -> None:
        messages, self._arrived[:] = self._arrived[:BATCH], self._arrived[BATCH:]
        readable = [(message, item) for message in messages if (item := self._read(message)) is not None]
        self._handle(readable)
        crash_point("consumer.before_ack")
        self._channel.basic_ack(messages[-1].delivery_tag, multiple=True)

    def _read(self, message: Any) -> Event | None:
        """Return the event in a message; one that cannot be read is put aside."""
        body = _body_of(message)
        if len(body) > MAX_EVENT_BYTES:
            self._set_aside(message, "oversized", f"{len(body)} bytes; at most {MAX_EVENT_BYTES} are read")
        elif message.properties.get("content_type") not in {"application/cloudevents+json", "application/json"}:
            self._set_aside(message, "wrong_content_type", str(message.properties.get("content_type")))
        else:
            try:
                return events.decode(body)
            except UnknownEventType as error:
                self._set_aside(message, "unknown_type", str(error))
            except MalformedEvent as error:
                self._set_aside(message, "undecodable", str(error))
        return None

    def _handle(self, work: Sequence[tuple[Any, Event]]) -> None:
        """Hand a batch to the method; when it fails, its messages one by one, so that one bad one stands alone."""
        if not work:
            return
        try:
            self._call([item for _, item in work])
        except GivenBack:
            raise
        except Exception as error:  # noqa: BLE001  whatever a handler raises is answered here
            if len(work) > 1:
                for one in work:
                    broker.read_events(self._connection, seconds=0)
                    self._connection.heartbeat_tick()
                    self._handle([one])
            else:
                self._try_later(work[0][0], work[0][1], error)

    def _call(self, items: list[Event]) -> None:
        """Run the method; wait out a database that is away, which is no attempt.

        Raises:
            GivenBack: the service stops, or the database has been away for too long.
            Exception: whatever else the method raises.
        """
        batch = Batch(items, consumer=self._binding.queue)
        pause = 0.2
        slow_tries = 0
        held_since = time.monotonic()
        while True:
            started = time.monotonic()
            try:
                with logs.bound(consumer=self._binding.queue, **_story(items)):
                    run_in_worker(self._subscription, batch)
            except Exception as error:
                slow_tries += isinstance(error, TimeLimitExceeded) and not isinstance(error, DatabaseFrozen)
                if not is_unavailable(error) or slow_tries == SLOW_TRIES:
                    self._count(items, "failed", started)
                    raise
                self._count(items, "postponed", started)
                self._pause(pause, error, held_since)
                pause = min(pause * 2, 2.0)
            else:
                self._count(items, "handled", started)
                self._subscription.report(self._number, None)
                return

    def _pause(self, seconds: float, error: Exception, held_since: float) -> None:
        self._subscription.report(self._number, f"{self._binding.queue} waits: {type(error).__name__}")
        log.warning(
            "consumer_waits", queue=self._binding.queue, error_type=type(error).__name__, again_in_seconds=seconds
        )
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0 and not self._subscription.stopping:
                broker.read_events(self._connection, seconds=min(left, 0.5))
                self._connection.heartbeat_tick()
        except broker.BROKER_ERRORS as lost:
            raise GivenBack("the broker was lost while the database was away") from lost
        if self._subscription.stopping or time.monotonic() - held_since > HOLD_SECONDS:
            raise GivenBack("the database is away, and the messages were held long enough") from error

    def _try_later(self, message: Any, item: Event, error: Exception) -> None:
        attempts = _attempts_of(message) + 1
        delays = self._settings.retry_delays_seconds
        event_type = type(item).__name__
        fields = {"queue": self._binding.queue, "event_type": event_type, "event_id": item.meta and item.meta.id}
        if attempts > len(delays):
            log.error("event_given_up", **fields, attempts=attempts, exc_info=error)
            detail = logs.masked(f"{type(error).__name__}: {error}"[:500])
            self._set_aside(message, "handler_failed", detail, attempts=attempts)
            return
        delay = delays[attempts - 1]
        log.warning("event_retried_later", **fields, attempts=attempts, again_in_seconds=delay, exc_info=error)
        self._publish(
            message,
            exchange=retry_name(self._binding.service, delay),
            routing_key=self._binding.queue,
            headers={ATTEMPTS_HEADER: attempts},
        )

    def _set_aside(self, message: Any, reason: str, detail: str, *, attempts: int = 0) -> None:
        metrics.dead_letters.labels(reason).inc()
        log.error("message_set_aside", queue=self._binding.queue, reason=reason, detail=detail)
        self._publish(
            message,
            exchange="",
            routing_key=dead_letters_queue(self._binding.service),
            headers={
                "x-reason": reason,
                "x-detail": detail,
                "x-queue": self._binding.queue,
                "x-set-aside-at": datetime.now(UTC).isoformat(timespec="seconds"),
                ATTEMPTS_HEADER: attempts,
            },
        )

    def _publish(self, message: Any, *, exchange: str, routing_key: str, headers: dict[str, Any]) -> None:
        """Pass a message on and wait for the confirm; only then may the original be acknowledged."""
        kept = {name: value for name, value in (message.headers or {}).items() if not name.startswith("x-")}
        outgoing = Outgoing(
            body=_body_of(message),
            exchange=exchange,
            routing_key=routing_key,
            message_id=str(message.properties.get("message_id", "")) or f"anonymous-{message.delivery_tag}",
            content_type=str(message.properties.get("content_type", "application/octet-stream")),
            headers={**kept, **headers},
        )
        published = self._publisher.publish([outgoing])
        if not published.confirmed or published.unrouted:
            raise OSError(f"the broker did not take a message for {exchange or routing_key}")

    def _count(self, items: Sequence[Event], outcome: str, started: float) -> None:
        now = time.monotonic()
        for event_type, count in Counter(type(item).__name__ for item in items).items():
            metrics.events_handled.labels(event_type, outcome).inc(count)
        name = type(items[0]).__name__
        metrics.event_handler_seconds.labels(name).observe(now - started)
        if items[0].meta:
            with contextlib.suppress(ValueError, TypeError):  # a time that is none, or one without an offset
                occurred = datetime.fromisoformat(items[0].meta.time)
                metrics.event_lag_seconds.labels(name).observe((datetime.now(UTC) - occurred).total_seconds())


def _body_of(message: Any) -> bytes:
    return message.body if isinstance(message.body, bytes) else str(message.body).encode()


def _attempts_of(message: Any) -> int:
    """Return how often a message was tried; one that came from outside may carry anything in its headers."""
    attempts = (message.headers or {}).get(ATTEMPTS_HEADER, 0)
    return attempts if isinstance(attempts, int) and attempts > 0 else 0


def _story(items: Sequence[Event]) -> dict[str, str | None]:
    """Return the ids that log lines about these events carry: only what they all share."""
    correlations = {item.meta.correlation_id for item in items if item.meta}
    if len(correlations) != 1:
        return {}
    only = items[0].meta.id if len(items) == 1 and items[0].meta else None
    return {"correlation_id": correlations.pop(), "causation_id": only}
