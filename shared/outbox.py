"""The relay: takes committed events out of the outbox and hands them to RabbitMQ, in order, losing none.

One relay works per database at a time (advisory lock); the others stand by. No transaction is open while the network
is. A crash between confirm and delete sends an event twice: consumers have an inbox for that.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg2
import structlog

from shared import broker, budget, metrics
from shared.broker import Outgoing, Publisher
from shared.crash import crash_point
from shared.database import OUTBOX_CHANNEL, Database, wait_for_notify

log = structlog.get_logger(__name__)

BATCH = 1000
LEADER_LOCK = 7_301_002
IDLE_POLL_SECONDS = 0.5
BUSY_POLL_SECONDS = 0.01
BUSY_SECONDS = 0.1
COUNT_EVERY_SECONDS = 1.0
STANDBY_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 600.0
INBOX_DAYS = 30
_STATEMENT_SECONDS = 5.0

_TAKE = "SELECT id, event_id, type, body FROM outbox ORDER BY id LIMIT %s"
_DROP = "DELETE FROM outbox WHERE id = ANY(%s)"
_PENDING = "SELECT count(*) FROM (SELECT FROM outbox LIMIT 100000) AS pending"
_FORGET = (
    f"WITH old AS (SELECT ctid FROM inbox WHERE received_at < now() - interval '{INBOX_DAYS} days' LIMIT 5000)"
    " DELETE FROM inbox USING old WHERE inbox.ctid = old.ctid"
)

# What a lost database raises on a raw connection; TimeLimitExceeded is one that is frozen.
_DATABASE_ERRORS = (psycopg2.Error, budget.TimeLimitExceeded)


class Relay:
    """Moves events from one database's outbox to the exchange ``<service>.events``."""

    def __init__(self, *, service: str, database: Database, amqp_url: str) -> None:
        self._service = service
        self._database = database
        self._amqp_url = amqp_url
        self._stopping = False
        self._problem: str | None = "the relay has not started yet"
        self._backoff = broker.Backoff()
        self._counted_at = 0.0

    def run(self) -> None:
        """Relay until `stop`; a lost database or broker is waited for, 0.2 s at first and 2 s at most."""
        while not self._stopping:
            try:
                self._lead()
            except Exception as error:
                foreseen = isinstance(error, (*_DATABASE_ERRORS, broker.ConfirmTimeout))
                self._problem = f"the outbox is not being relayed: {type(error).__name__}"
                log.warning(
                    "relay_interrupted",
                    error=str(error),
                    error_type=type(error).__name__,
                    again_in_seconds=self._backoff.seconds,
                    exc_info=None if foreseen else broker.unforeseen(error),
                )
                self._backoff.wait()

    def stop(self) -> None:
        """Let the relay finish its batch and end."""
        self._stopping = True

    def problem(self) -> str | None:
        """Return what keeps events from leaving, or None."""
        return self._problem

    def _lead(self) -> None:
        """Stand by until the lock is ours, then relay until something breaks or `stop`."""
        with contextlib.closing(self._database.connect()) as connection:
            connection.autocommit = True
            while not self._stopping and not _ask(connection, "SELECT pg_try_advisory_lock(%s)", LEADER_LOCK)[0][0]:
                self._problem = None
                time.sleep(STANDBY_SECONDS)
            if not self._stopping:
                self._relay(connection)

    def _relay(self, connection: Any) -> None:
        _run(connection, f"LISTEN {OUTBOX_CHANNEL}")
        with broker.connected(self._amqp_url, name=f"{self._service} relay") as link:
            publisher = Publisher(link)
            self._backoff.reset()
            log.info("relay_started", service=self._service)
            housekeeping_at = active_at = 0.0
            while not self._stopping:
                taken = self._pass_on(connection, publisher)
                now = time.monotonic()
                if taken:
                    active_at = now
                if now >= housekeeping_at:
                    # A few at a time: what takes longer than a statement may would be tried again and again.
                    forgotten = _run(connection, _FORGET)
                    housekeeping_at = now + (1.0 if forgotten else HOUSEKEEPING_SECONDS)
                if taken < BATCH:
                    # Before the wait, not after it: it takes a millisecond, which an event would spend here.
                    broker.read_events(link, seconds=0)
                    link.heartbeat_tick()
                    # NOTIFY is sent rarely, so just after some traffic the outbox is looked at more often.
                    busy = now - active_at < BUSY_SECONDS
                    wait_for_notify(connection, seconds=BUSY_POLL_SECONDS if busy else IDLE_POLL_SECONDS)

    def _pass_on(self, connection: Any, publisher: Publisher) -> int:
        """Publish and delete one batch; return how many rows were taken."""
        rows = _ask(connection, _TAKE, BATCH)
        self._tell_pending(connection, taken=len(rows))
        if not rows:
            self._problem = None
            return 0
        published = publisher.publish([self._outgoing(*row) for row in rows])
        crash_point("relay.after_publish")
        _run(connection, _DROP, [rows[position][0] for position in published.confirmed])
        self._count(rows, published)
        return len(rows)

    def _tell_pending(self, connection: Any, *, taken: int) -> None:
        if taken < BATCH:
            metrics.outbox_pending.set(taken)
        elif time.monotonic() - self._counted_at >= COUNT_EVERY_SECONDS:  # counting a backlog is a part of its cost
            metrics.outbox_pending.set(_ask(connection, _PENDING)[0][0])
            self._counted_at = time.monotonic()

    def _outgoing(self, row_id: int, event_id: str, event_type: str, body: str) -> Outgoing:
        sequenced = f'{body[:-1]},"sequence":"{row_id:020d}"}}'
        return Outgoing(
            body=sequenced.encode(),
            exchange=f"{self._service}.events",
            routing_key=event_type,
            message_id=event_id,
        )

    def _count(self, rows: Sequence[Any], published: broker.Published) -> None:
        for event_type, count in Counter(rows[position][2] for position in published.confirmed).items():
            metrics.events_published.labels(event_type).inc(count)
        for position in published.unrouted:
            # Types that have subscribers are caught by the alternate exchange; nobody has asked for this one.
            _, event_id, event_type, _ = rows[position]
            metrics.events_unrouted.labels(event_type).inc()
            log.debug("event_without_subscriber", event_id=event_id, event_type=event_type)
        refused = len(rows) - len(published.confirmed)
        self._problem = f"the broker refuses {refused} events: a queue is full" if refused else None
        if refused:
            log.warning("broker_refused_events", count=refused)
            time.sleep(1)


def _ask(connection: Any, statement: str, *values: Any) -> list[Any]:
    with budget.interrupted_after(_STATEMENT_SECONDS, "the outbox"), connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _run(connection: Any, statement: str, *values: Any) -> int:
    """Return how many rows were changed."""
    with budget.interrupted_after(_STATEMENT_SECONDS, "the outbox"), connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)
