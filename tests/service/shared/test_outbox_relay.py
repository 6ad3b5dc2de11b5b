"""The relay: what was committed reaches RabbitMQ, in order, whatever dies on the way; committing never waits for it."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import eventlet
import psycopg2
import pytest
import sqlalchemy as sa

from deploy.local.stack import Broker, Postgres
from shared import broker, metrics, outbox, topology
from shared.database import Database
from shared.events import Event
from shared.outbox import Relay
from tests.polling import until
from tests.service.shared.host_service import CAPTURED_QUEUE, declare
from tests.service.shared.outages import frozen, killed, within
from tests.service.shared.processes import started
from tests.service.shared.wire import Wire, captured, refunded

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def quick_standby(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "STANDBY_SECONDS", 0.1)


@contextmanager
def relaying(db: Database, amqp_url: str) -> Iterator[Relay]:
    relay = Relay(service="credits", database=db, amqp_url=amqp_url)
    thread = eventlet.spawn(relay.run)
    try:
        yield relay
    finally:
        relay.stop()
        thread.wait()


def publish(db: Database, items: Sequence[Event]) -> None:
    with db.transaction() as session:
        db.publish(session, items)


def pending(db: Database) -> int:
    with db.transaction() as session:
        return int(session.execute(sa.text("SELECT count(*) FROM outbox")).scalar_one())


def lines(messages: Sequence[object]) -> list[str]:
    return [json.loads(message.body)["data"]["line_id"] for message in messages]  # type: ignore[attr-defined]  # py-amqp's messages have no type


def numbered(count: int) -> list[str]:
    return [f"line_{number}" for number in range(count)]


def relays_in(db: Database) -> list[int]:
    """Return the backends that hold the relay's lock."""
    with db.transaction() as session:
        found = session.execute(
            sa.text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted"),
            {"key": outbox.LEADER_LOCK},
        )
        return list(found.scalars())


def test_what_was_committed_arrives_once_in_order_and_leaves_the_outbox(
    db: Database, amqp_url: str, wire: Wire
) -> None:
    with relaying(db, amqp_url):
        for start in range(0, 2500, 50):
            publish(db, [captured(number) for number in range(start, start + 50)])
        until(lambda: pending(db) == 0)

    assert lines(wire.take_all(CAPTURED_QUEUE)) == numbered(2500)


def test_a_message_is_a_persistent_cloud_event_with_the_sequence_of_its_source(
    db: Database, amqp_url: str, wire: Wire
) -> None:
    items = [captured(1), captured(2)]

    with relaying(db, amqp_url):
        publish(db, items)
        until(lambda: pending(db) == 0)

    first, second = wire.take_all(CAPTURED_QUEUE)
    assert items[0].meta
    assert first.properties["delivery_mode"] == 2
    assert first.properties["content_type"] == "application/cloudevents+json"
    assert first.properties["message_id"] == items[0].meta.id
    assert first.delivery_info["exchange"] == "credits.events"
    assert first.delivery_info["routing_key"] == "CreditCaptured"
    assert json.loads(first.body)["sequence"] < json.loads(second.body)["sequence"]


def test_an_event_is_sent_soon_after_its_commit(db: Database, amqp_url: str, wire: Wire) -> None:
    with relaying(db, amqp_url) as relay:
        until(lambda: relay.problem() is None)
        with within(1):
            publish(db, [captured()])
            until(lambda: wire.depth(CAPTURED_QUEUE) == 1)


def test_of_two_relays_one_works_and_the_other_takes_over_when_its_connection_dies(
    db: Database, amqp_url: str, wire: Wire, server: Postgres
) -> None:
    with relaying(db, amqp_url), relaying(db, amqp_url):
        (leader,) = until(lambda: relays_in(db))
        publish(db, [captured(number) for number in range(10)])
        until(lambda: pending(db) == 0)

        with contextlib.closing(psycopg2.connect(server.superuser_url.replace("+psycopg2", ""))) as administrator:
            administrator.cursor().execute("SELECT pg_terminate_backend(%s)", (leader,))
        (follower,) = until(lambda: [pid for pid in relays_in(db) if pid != leader])
        publish(db, [captured(number) for number in range(10, 20)])
        until(lambda: pending(db) == 0)

    assert follower != leader
    assert lines(wire.take_all(CAPTURED_QUEUE)) == numbered(20)


def test_a_relay_whose_backend_freezes_is_replaced_once_that_is_gone(
    db: Database, amqp_url: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_STATEMENT_SECONDS", 0.3)

    with relaying(db, amqp_url) as relay:
        (leader,) = until(lambda: relays_in(db))
        with frozen([leader]):
            publish(db, [captured(0)])
            until(lambda: relay.problem() or [leader] != relays_in(db))
        until(lambda: pending(db) == 0)

    assert set(lines(wire.take_all(CAPTURED_QUEUE))) == {"line_0"}


def test_a_broker_that_is_killed_and_restarted_while_relaying_loses_nothing(
    db: Database, amqp_url: str, wire: Wire, rabbitmq: Broker
) -> None:
    with relaying(db, amqp_url) as relay:
        for start in range(0, 3000, 500):
            publish(db, [captured(number) for number in range(start, start + 500)])
        until(lambda: pending(db) < 3000)
        with killed(rabbitmq):
            publish(db, [captured(number) for number in range(3000, 3100)])
            problem = until(relay.problem)
        until(lambda: pending(db) == 0, seconds=15)
        until(lambda: relay.problem() is None)

    arrived = lines(wire.take_all(CAPTURED_QUEUE))
    assert "not being relayed" in problem
    assert list(dict.fromkeys(arrived)) == numbered(3100)


def test_under_a_memory_alarm_committing_is_never_blocked_and_nothing_is_lost(
    db: Database, amqp_url: str, wire: Wire, rabbitmq: Broker
) -> None:
    large = "x" * 20_000
    with relaying(db, amqp_url) as relay:
        until(lambda: relay.problem() is None)
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            for number in range(50):
                with within(1):
                    publish(db, [captured(f"{number}.{part}", org_id=large) for part in range(10)])
                eventlet.sleep(0.1)
            held_back = pending(db)
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        until(lambda: pending(db) == 0, seconds=30)

    arrived = lines(wire.take_all(CAPTURED_QUEUE))
    assert held_back == 500
    assert set(arrived) == {f"line_{number}.{part}" for number in range(50) for part in range(10)}


def test_events_the_broker_refuses_stay_in_the_outbox_until_there_is_room(
    db: Database, amqp_url: str, wire: Wire
) -> None:
    full = "credits.small"
    with broker.connected(amqp_url, name="test") as connection:
        channel = connection.channel()
        arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare(full, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(full, "credits.events", "RefundIssued")
    wire.send_all([refunded("old"), refunded("older")], queue=full)

    with relaying(db, amqp_url) as relay:
        publish(db, [refunded(1)])
        problem = until(lambda: (relay.problem() or "") if "refuses" in (relay.problem() or "") else "")
        refused = pending(db)
        wire.take_all(full)
        until(lambda: pending(db) == 0)
        until(lambda: relay.problem() is None)

    assert (refused, problem) == (1, "the broker refuses 1 events: a queue is full")
    assert "line_1" in lines(wire.take_all(full))


def test_a_relay_that_dies_between_confirm_and_delete_sends_twice_and_it_takes_effect_once(
    db: Database, database_url: str, amqp_url: str, wire: Wire, tmp_path: Path
) -> None:
    environment = {"AMQP_URL": amqp_url, "CREDITS_DATABASE_URL": database_url}
    wire.listen("outsider", exchange="credits.events")
    publish(db, [captured(number) for number in range(5)])

    with started({**environment, "CRASH_AT": "relay.after_publish:1"}, log=tmp_path / "log") as process:
        until(process.has_ended, seconds=20)
        assert process.status == 137
    assert pending(db) == 5

    with started(environment, log=tmp_path / "log"):
        until(lambda: pending(db) == 0, seconds=20)
        publish(db, [captured("after")])
        until(lambda: "line_after" in effects(db))
    assert lines(wire.take_all("outsider")) == [*numbered(5), *numbered(5), "line_after"]
    assert effects(db) == sorted([*numbered(5), "line_after"])


def effects(db: Database) -> list[str]:
    with db.transaction() as session:
        return sorted(session.execute(sa.text("SELECT line_id FROM effects")).scalars())


def test_an_event_whose_subscribers_queue_is_missing_is_kept_where_an_operator_sees_it(
    db: Database, amqp_url: str, wire: Wire
) -> None:
    wire.delete(CAPTURED_QUEUE)

    with relaying(db, amqp_url):
        publish(db, [captured(1)])
        until(lambda: pending(db) == 0)

    (message,) = wire.take_all(topology.UNROUTED)
    assert lines([message]) == ["line_1"]
    assert message.delivery_info["routing_key"] == "CreditCaptured"


def test_an_event_nobody_subscribed_to_is_counted_and_dropped(db: Database, bare_amqp_url: str, wire: Wire) -> None:
    with broker.connected(bare_amqp_url, name="test") as connection:
        topology.declare_unrouted(connection.channel(), [])
        topology.declare_exchanges(connection.channel())
    counter = metrics.events_unrouted.labels("CreditCaptured")
    before = counter._value.get()  # noqa: SLF001  prometheus_client offers no other way to read a counter

    with relaying(db, bare_amqp_url):
        publish(db, [captured(1)])
        until(lambda: pending(db) == 0)

    assert counter._value.get() == before + 1  # noqa: SLF001  as above
    assert wire.depth(topology.UNROUTED) == 0


def test_a_missing_exchange_is_told_as_a_problem_and_heals_when_the_topology_is_declared(
    db: Database, bare_amqp_url: str, wire: Wire
) -> None:
    publish(db, [captured(1)])

    with relaying(db, bare_amqp_url) as relay:
        until(lambda: "NotFound" in (relay.problem() or ""))
        for _ in range(20):
            assert relay.problem()
            eventlet.sleep(0.05)
        declare(bare_amqp_url)
        until(lambda: relay.problem() is None)

    assert pending(db) == 0
    # The relay may be quicker than the declaration: then the event was caught by the alternate exchange.
    assert lines([*wire.take_all(CAPTURED_QUEUE), *wire.take_all(topology.UNROUTED)]) == ["line_1"]


def test_old_inbox_rows_are_forgotten_a_few_at_a_time(
    db: Database, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "HOUSEKEEPING_SECONDS", 0.1)
    with db.transaction() as session:
        session.execute(
            sa.text("INSERT INTO inbox SELECT 'old', n, now() - interval '31 days' FROM generate_series(1, 6000) n")
        )
        session.execute(sa.text("INSERT INTO inbox VALUES ('young', 'evt_1', now() - interval '29 days')"))

    def rows() -> list[str]:
        with db.transaction() as session:
            return list(session.execute(sa.text("SELECT DISTINCT consumer FROM inbox ORDER BY 1")).scalars())

    with relaying(db, amqp_url):
        until(lambda: rows() == ["young"])


def test_a_stopped_relay_leaves_its_lock_to_the_next(db: Database, amqp_url: str) -> None:
    for _ in range(2):
        with relaying(db, amqp_url) as relay:
            until(lambda: relay.problem() is None)
            until(lambda: relays_in(db))

    until(lambda: not relays_in(db))
