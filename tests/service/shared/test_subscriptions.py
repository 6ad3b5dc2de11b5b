"""`@subscribe` on real queues: batches, retries, dead letters, and nothing lost whatever arrives or fails."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import eventlet
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from deploy.local.stack import Broker
from shared import broker, budget, events, messaging, topology
from shared.config import Settings
from shared.database import Database
from shared.events import Event
from tests.polling import until
from tests.service.shared.host_service import (
    CAPTURED_QUEUE,
    DEAD_LETTERS,
    REFUND_QUEUE,
    Script,
    declare,
    leave_effects,
    running,
)
from tests.service.shared.outages import within
from tests.service.shared.wire import Wire, captured, refunded

Queues = Callable[..., dict[str, Any]]
pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_url")]


def effects(db: Database) -> Counter[str]:
    with db.transaction() as session:
        return Counter(session.execute(sa.text("SELECT line_id FROM effects")).scalars())


@pytest.fixture
def queues(rabbitmq: Broker, wire: Wire) -> Queues:
    """Return a function that asks the broker about the test's queues: properties by name."""

    def ask(*properties: str) -> dict[str, Any]:
        rows = json.loads(rabbitmq.ctl("list_queues", "-p", wire.vhost, "--formatter", "json", "name", *properties))
        return {row.pop("name"): row for row in rows}

    return ask


def every(count: int) -> Counter[str]:
    """Return what is there when each of ``count`` events took effect once."""
    return Counter(f"line_{number}" for number in range(count))


def fail_always(_session: Session, _events: Sequence[Any]) -> list[Event]:
    raise ZeroDivisionError("a bug with sk_live_0123456789 in its text")


def reason(message: Any) -> str:
    return str(message.headers["x-reason"])


def test_events_are_handled_in_batches_and_in_order(db: Database, chosen: Settings, wire: Wire) -> None:
    batches: list[list[str]] = []

    def remember(session: Session, items: Sequence[Any]) -> list[Event]:
        batches.append([item.line_id for item in items])
        return leave_effects(session, items)

    wire.send_all([captured(number) for number in range(250)], queue=CAPTURED_QUEUE)

    with running(chosen, Script(on_captured=remember)):
        until(lambda: effects(db) == every(250))

    assert sum(batches, []) == [f"line_{number}" for number in range(250)]  # noqa: RUF017  a few short lists
    assert max(len(batch) for batch in batches) <= messaging.BATCH
    assert len(batches) < 50
    assert wire.left_in(CAPTURED_QUEUE) == 0


def test_the_acknowledgement_comes_after_the_commit(
    db: Database, chosen: Settings, wire: Wire, rabbitmq: Broker
) -> None:
    held = eventlet.event.Event()

    def hold(session: Session, items: Sequence[Any]) -> list[Event]:
        leave_effects(session, items)
        held.wait()
        return []

    wire.send_all([captured(0)], queue=CAPTURED_QUEUE)
    with running(chosen, Script(on_captured=hold)):
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)
        until(lambda: wire.depth(CAPTURED_QUEUE) == 0)
        rabbitmq.ctl("close_all_connections", "--vhost", wire.vhost, "test")
        until(lambda: wire.depth(CAPTURED_QUEUE) == 1, what="the message, which was not acknowledged yet, in its queue")
        assert effects(db) == Counter()
        held.send(None)
        wire.send_all([captured(1)], queue=CAPTURED_QUEUE)
        until(lambda: effects(db) == every(2))
        until(lambda: wire.depth(CAPTURED_QUEUE) == 0)  # the second delivery of the first message, too

    assert wire.left_in(CAPTURED_QUEUE) == 0
    assert effects(db) == every(2)


def test_a_handler_bug_is_retried_after_each_delay_and_then_set_aside_with_its_reason(
    db: Database, chosen: Settings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "1,2")
    declare(wire.amqp_url)
    tries: list[float] = []

    def fail(session: Session, items: Sequence[Any]) -> list[Event]:
        tries.append(time.monotonic())
        return fail_always(session, items)

    item = captured()
    wire.send_all([item], queue=CAPTURED_QUEUE)

    with running(dataclasses.replace(chosen, retry_delays_seconds=(1, 2)), Script(on_captured=fail)):
        until(lambda: wire.depth(DEAD_LETTERS) == 1)

    (letter,) = wire.take_all(DEAD_LETTERS)
    first, second, third = tries
    assert 1 <= second - first < 2 <= third - second
    assert events.decode(letter.body) == events.decode(events.encode(item))
    assert item.meta
    assert letter.properties["message_id"] == item.meta.id
    assert letter.properties["content_type"] == "application/cloudevents+json"
    assert {name: letter.headers[name] for name in ("x-reason", "x-queue", "x-attempts")} == {
        "x-reason": "handler_failed",
        "x-queue": CAPTURED_QUEUE,
        "x-attempts": 3,
    }
    assert letter.headers["x-detail"] == "ZeroDivisionError: a bug with sk_live_*** in its text"
    assert effects(db) == Counter()


def test_an_event_that_succeeds_at_a_later_try_takes_effect_once(db: Database, chosen: Settings, wire: Wire) -> None:
    tries: list[int] = []

    def fail_once(session: Session, items: Sequence[Any]) -> list[Event]:
        leave_effects(session, items)
        tries.append(len(items))
        if len(tries) == 1:
            raise ZeroDivisionError
        return []

    wire.send_all([captured(0)], queue=CAPTURED_QUEUE)
    with running(chosen, Script(on_captured=fail_once)):
        until(lambda: effects(db) == every(1))

    assert wire.depth(DEAD_LETTERS) == 0


def test_one_poison_message_in_a_batch_of_fifty_stands_alone(db: Database, chosen: Settings, wire: Wire) -> None:
    def fail_on_seven(session: Session, items: Sequence[Any]) -> list[Event]:
        leave_effects(session, items)
        if any(item.line_id == "line_7" for item in items):
            raise ZeroDivisionError
        return []

    wire.send_all([captured(number) for number in range(50)], queue=CAPTURED_QUEUE)

    with running(chosen, Script(on_captured=fail_on_seven)):
        until(lambda: effects(db) == every(50) - Counter(["line_7"]))
        until(lambda: wire.depth(DEAD_LETTERS) == 1)

    (letter,) = wire.take_all(DEAD_LETTERS)
    assert json.loads(letter.body)["data"]["line_id"] == "line_7"
    assert letter.headers["x-attempts"] == 2
    assert effects(db) == every(50) - Counter(["line_7"])


UNREADABLE = {
    "bad JSON": (b"{not json", {}, "undecodable"),
    "no text": (b"\xff\xfe\x00", {}, "undecodable"),
    "nothing": (b"", {}, "undecodable"),
    "nested without end": (b'{"data":' + b"[" * 200_000, {}, "undecodable"),
    "JSON that is no CloudEvent": (b'{"hello": 1}', {}, "undecodable"),
    "another shape of data": (
        events.encode(captured()).replace(b'"amount":10', b'"amount":"ten"'),
        {},
        "undecodable",
    ),
    "unknown type": (events.encode(captured()).replace(b"CreditCaptured", b"CreditVanished"), {}, "unknown_type"),
    "wrong content type": (
        events.encode(captured()),
        {"content_type": "application/x-python-serialize"},
        "wrong_content_type",
    ),
    "2 MB": (b'{"data": "' + b"x" * 2_000_000 + b'"}', {}, "oversized"),
}


def test_messages_nobody_can_read_are_set_aside_with_their_reason_and_consuming_goes_on(
    db: Database, chosen: Settings, wire: Wire
) -> None:
    with running(chosen):
        for body, properties, _ in UNREADABLE.values():
            wire.send(body, queue=CAPTURED_QUEUE, **properties)
        wire.send_all([captured(0)], queue=CAPTURED_QUEUE)
        until(lambda: effects(db) == every(1))

    assert wire.left_in(CAPTURED_QUEUE) == 0
    letters = wire.take_all(DEAD_LETTERS)
    assert [(letter.body or b"", reason(letter)) for letter in letters] == [
        (body, reason) for body, _, reason in UNREADABLE.values()
    ]
    assert all(letter.headers["x-queue"] == CAPTURED_QUEUE for letter in letters)
    assert all(letter.headers["x-detail"] for letter in letters)


def test_a_message_with_odd_headers_or_an_odd_time_is_handled_like_any_other(
    db: Database, chosen: Settings, wire: Wire
) -> None:
    odd_time = events.encode(captured(1)).replace(b'"time":"', b'"time":"2026-01-01T00:00:00","was":"')

    with running(chosen, Script(on_refund=fail_always)):
        wire.send(events.encode(captured(0)), queue=CAPTURED_QUEUE, headers={"x-attempts": "many", "tenant": "a"})
        wire.send(odd_time, queue=CAPTURED_QUEUE)
        wire.send(events.encode(refunded(2)), queue=REFUND_QUEUE, headers={"x-attempts": "many", "tenant": "a"})
        until(lambda: effects(db) == Counter(["line_0", "line_1"]))
        until(lambda: wire.depth(DEAD_LETTERS) == 1)

    (letter,) = wire.take_all(DEAD_LETTERS)
    assert (letter.headers["x-attempts"], letter.headers["tenant"]) == (2, "a")


def test_a_deadlock_in_a_handler_is_no_attempt(db: Database, chosen: Settings, wire: Wire) -> None:
    tries: list[int] = []

    def deadlock_at_first(session: Session, items: Sequence[Any]) -> list[Event]:
        tries.append(len(items))
        if len(tries) <= 3:  # more often than there are attempts
            session.execute(sa.text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"))
        return leave_effects(session, items)

    wire.send_all([captured(0), captured(1)], queue=CAPTURED_QUEUE)

    with running(chosen, Script(on_captured=deadlock_at_first)):
        until(lambda: effects(db) == every(2))

    assert wire.depth(DEAD_LETTERS) == 0
    assert len(tries) == 4


def test_a_handler_that_is_always_too_slow_does_not_block_its_queue(db: Database, chosen: Settings, wire: Wire) -> None:
    def slow_on_seven(session: Session, items: Sequence[Any]) -> list[Event]:
        if any(item.line_id == "line_7" for item in items):
            # The server keeps the same limit; else it would hold the locks of work that its client has given up.
            session.execute(sa.text("SET LOCAL statement_timeout = '200ms'"))
            with budget.interrupted_after(0.1, "a slow statement"):
                session.execute(sa.text("SELECT pg_sleep(10)"))
        return leave_effects(session, items)

    wire.send_all([captured(number) for number in range(10)], queue=CAPTURED_QUEUE)

    with running(chosen, Script(on_captured=slow_on_seven)):
        until(lambda: effects(db) == every(10) - Counter(["line_7"]))
        until(lambda: wire.depth(DEAD_LETTERS) == 1)


def test_a_slow_subscription_does_not_delay_the_other(db: Database, chosen: Settings, wire: Wire) -> None:
    def slow(session: Session, items: Sequence[Any]) -> list[Event]:
        eventlet.sleep(2)
        return leave_effects(session, items)

    wire.send_all([captured(number) for number in range(50)], queue=CAPTURED_QUEUE)

    with running(chosen, Script(on_captured=slow)):
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)
        with within(1.5):
            wire.send_all([refunded("fast")], queue=REFUND_QUEUE)
            until(lambda: effects(db)["line_fast"] == 1)
        assert effects(db) == Counter(["line_fast"])


def test_a_queue_that_is_deleted_under_its_consumer_is_back_within_five_seconds(
    db: Database, chosen: Settings, wire: Wire
) -> None:
    with running(chosen) as container:
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)

        wire.delete(CAPTURED_QUEUE)
        with within(5):
            until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)

        wire.send(events.encode(captured(0)), exchange="credits.events", routing_key="CreditCaptured")
        until(lambda: effects(db) == every(1))
        until(lambda: f"queue {CAPTURED_QUEUE}" not in container.config["health"].problems())


def test_retry_and_dead_letter_queues_that_were_deleted_come_back_and_nothing_is_lost(
    chosen: Settings, wire: Wire
) -> None:
    with running(chosen, Script(on_captured=fail_always)):
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)
        for queue in (DEAD_LETTERS, "credits.retry.1"):
            wire.delete(queue)

        wire.send_all([captured(0)], queue=CAPTURED_QUEUE)
        wire.send(b"unreadable", queue=CAPTURED_QUEUE)

        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1 and depth_or_zero(wire) == 2, seconds=15)


def depth_or_zero(wire: Wire) -> int:
    try:
        return wire.depth(DEAD_LETTERS)
    except broker.BROKER_ERRORS:
        return 0


def test_a_queue_of_other_arguments_is_told_by_name_and_not_touched(chosen: Settings, wire: Wire) -> None:
    wire.delete(CAPTURED_QUEUE)
    with broker.connected(wire.amqp_url, name="test") as connection:
        connection.channel().queue_declare(CAPTURED_QUEUE, durable=True, auto_delete=False)

    with running(chosen) as container:
        problem = until(lambda: container.config["health"].problems().get(f"queue {CAPTURED_QUEUE}"))
        until(lambda: "Precondition" in container.config["health"].problems()[f"queue {CAPTURED_QUEUE}"])

    assert problem


def test_stopping_in_the_middle_of_a_batch_finishes_and_acknowledges_it(
    db: Database, chosen: Settings, wire: Wire
) -> None:
    started = eventlet.event.Event()

    def slow(session: Session, items: Sequence[Any]) -> list[Event]:
        started.send(None)
        eventlet.sleep(0.5)
        return leave_effects(session, items)

    wire.send_all([captured(number) for number in range(10)], queue=CAPTURED_QUEUE)

    with within(5), running(chosen, Script(on_captured=slow)):
        started.wait()

    assert effects(db) == every(10)
    assert wire.left_in(CAPTURED_QUEUE) == 0


def test_stopping_while_a_handler_fails_counts_no_attempt_and_leaves_the_message_queued(
    chosen: Settings, wire: Wire
) -> None:
    def postpone(session: Session, _items: Sequence[Any]) -> list[Event]:
        session.execute(sa.text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))
        return []

    wire.send_all([captured(0)], queue=CAPTURED_QUEUE)
    with within(5), running(chosen, Script(on_captured=postpone)) as container:
        until(lambda: container.config["health"].problems().get(f"queue {CAPTURED_QUEUE}"))
        eventlet.sleep(0.3)

    assert wire.left_in(CAPTURED_QUEUE) == 1
    (message,) = wire.take_all(CAPTURED_QUEUE)
    assert "x-attempts" not in message.headers


def test_a_consumer_never_holds_more_than_its_prefetch(chosen: Settings, wire: Wire) -> None:
    held = eventlet.event.Event()

    def hold(_session: Session, _items: Sequence[Any]) -> list[Event]:
        held.wait()
        return []

    wire.send_all([captured(number) for number in range(500)], queue=CAPTURED_QUEUE)
    with running(chosen, Script(on_captured=hold)):
        until(lambda: wire.depth(CAPTURED_QUEUE) < 500)
        eventlet.sleep(0.3)
        waiting = wire.depth(CAPTURED_QUEUE)
        held.send(None)

    assert waiting == 300


def test_the_retry_queues_are_exactly_those_of_the_contract(rabbitmq: Broker, wire: Wire, queues: Queues) -> None:
    """Contract, section 5: one fanout exchange and one quorum queue a delay, dead-lettering to the default exchange."""
    exchanges = json.loads(
        rabbitmq.ctl("list_exchanges", "-p", wire.vhost, "--formatter", "json", "name", "type", "durable")
    )

    retry = queues("durable", "type", "arguments")["credits.retry.1"]
    assert (retry["durable"], retry["type"]) == (True, "quorum")
    arguments = {name: value for name, _, value in retry["arguments"]}
    assert arguments == {
        "x-queue-type": "quorum",
        "x-message-ttl": 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert {"name": "credits.retry.1", "type": "fanout", "durable": True} in exchanges


def test_declaring_the_topology_again_changes_nothing(wire: Wire) -> None:
    with broker.connected(wire.amqp_url, name="test") as connection:
        for _ in range(2):
            topology.declare_all(connection.channel(), [])


def test_an_unexpected_error_in_a_consumer_never_ends_the_process(
    db: Database, chosen: Settings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [ZeroDivisionError()]
    read = messaging.Consumer._read  # noqa: SLF001  where a bug of our own would be

    def read_badly(consumer: Any, message: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(consumer, message)

    monkeypatch.setattr(messaging.Consumer, "_read", read_badly)
    wire.send_all([captured(0)], queue=CAPTURED_QUEUE)

    with running(chosen):
        until(lambda: effects(db) == every(1))

    assert failures == []
