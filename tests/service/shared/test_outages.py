"""Consumers while PostgreSQL, RabbitMQ or they themselves are killed: nothing lost, each effect once."""

from collections import Counter
from collections.abc import Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

import eventlet
import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from deploy.local.stack import Broker, Postgres
from shared import broker
from shared.config import Settings
from shared.database import Database
from shared.events import Event
from tests.polling import until
from tests.service.shared.host_service import (
    CAPTURED_QUEUE,
    DEAD_LETTERS,
    Script,
    leave_effects,
    running,
)
from tests.service.shared.outages import frozen, killed, processes_of
from tests.service.shared.processes import started
from tests.service.shared.wire import Wire, captured

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("amqp_url")]


def effects(db: Database) -> Counter[str]:
    with db.transaction() as session:
        return Counter(session.execute(sa.text("SELECT line_id FROM effects")).scalars())


def every(count: int) -> Counter[str]:
    return Counter(f"line_{number}" for number in range(count))


def test_messages_that_arrive_while_postgresql_is_down_longer_than_all_retries_wait_and_are_all_handled(
    db: Database, chosen: Settings, wire: Wire, server: Postgres
) -> None:
    """The whole retry schedule is 1 s here; the database is away for three times as long."""
    with running(chosen) as container:
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)
        with killed(server):
            for number in range(30):
                wire.send_all([captured(number)], queue=CAPTURED_QUEUE)
                eventlet.sleep(0.1)
            waiting = container.config["health"].problems()[f"queue {CAPTURED_QUEUE}"]
            letters = wire.depth(DEAD_LETTERS)
            retried = wire.depth("credits.retry.1")

        until(lambda: effects(db) == every(30))
        until(lambda: f"queue {CAPTURED_QUEUE}" not in container.config["health"].problems())

    assert "OperationalError" in waiting
    assert (letters, retried, wire.depth(DEAD_LETTERS), wire.left_in(CAPTURED_QUEUE)) == (0, 0, 0, 0)


def test_a_frozen_postgresql_costs_no_attempt(
    db: Database, chosen: Settings, wire: Wire, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is frozen for several times as long as a unit of work may take."""
    monkeypatch.setattr(Database, "transaction", partialmethod(Database.transaction, time_limit_seconds=0.4))

    with running(chosen):
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)
        with frozen(processes_of(server)):
            wire.send_all([captured(number) for number in range(10)], queue=CAPTURED_QUEUE)
            eventlet.sleep(2.5)
            retried = wire.depth("credits.retry.1")
        monkeypatch.undo()
        until(lambda: effects(db) == every(10), seconds=20)

    assert (retried, wire.depth(DEAD_LETTERS)) == (0, 0)


def test_a_broker_that_is_killed_in_the_middle_of_a_batch_costs_no_effect_and_doubles_none(
    db: Database, chosen: Settings, wire: Wire, rabbitmq: Broker
) -> None:
    """The whole batch runs twice; the second time it does nothing."""
    in_the_middle = eventlet.event.Event()
    batches: list[int] = []

    def slow(session: Session, items: Sequence[Any]) -> list[Event]:
        batches.append(len(items))
        if not in_the_middle.ready():
            in_the_middle.send(None)
            eventlet.sleep(0.5)
        return leave_effects(session, items)

    wire.send_all([captured(number) for number in range(150)], queue=CAPTURED_QUEUE)
    with running(chosen, Script(on_captured=slow)) as container:
        in_the_middle.wait()
        with killed(rabbitmq):
            until(lambda: f"queue {CAPTURED_QUEUE}" in container.config["health"].problems())
        wire.send_all([captured("after")], queue=CAPTURED_QUEUE)
        until(lambda: effects(db)["line_after"] == 1)

    assert effects(db) == every(150) + Counter(["line_after"])
    assert wire.left_in(CAPTURED_QUEUE) == 0


def test_consumers_reconnect_quickly_however_often_the_connection_breaks(
    chosen: Settings, wire: Wire, rabbitmq: Broker
) -> None:
    with running(chosen), structlog.testing.capture_logs() as lines:
        for _ in range(3):
            until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)
            rabbitmq.ctl("close_all_connections", "--vhost", wire.vhost, "test")
        until(lambda: wire.consumers(CAPTURED_QUEUE) == 1)

    waits = [line["again_in_seconds"] for line in lines if line.get("queue") == CAPTURED_QUEUE]
    assert waits == [0.2, 0.2, 0.2]


def test_the_wait_between_tries_grows_from_a_fifth_of_a_second_to_two_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("shared.broker.time.sleep", waits.append)
    backoff = broker.Backoff()

    for _ in range(6):
        backoff.wait()
    backoff.reset()
    backoff.wait()

    assert waits == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 0.2]


def test_a_process_that_dies_between_commit_and_acknowledgement_gets_the_message_again_and_applies_it_once(
    db: Database, database_url: str, wire: Wire, tmp_path: Path
) -> None:
    environment = {"AMQP_URL": wire.amqp_url, "CREDITS_DATABASE_URL": database_url}
    wire.send_all([captured(number) for number in range(5)], queue=CAPTURED_QUEUE)

    with started({**environment, "CRASH_AT": "consumer.before_ack:1"}, log=tmp_path / "log") as process:
        until(process.has_ended, seconds=20)
        assert process.status == 137
    assert effects(db) == every(5)
    assert wire.left_in(CAPTURED_QUEUE) == 5

    with started(environment, log=tmp_path / "log") as process:
        wire.send_all([captured("after")], queue=CAPTURED_QUEUE)
        until(lambda: effects(db)["line_after"] == 1, seconds=20)
        process.popen.terminate()
        until(process.has_ended)
    assert wire.left_in(CAPTURED_QUEUE) == 0
    assert effects(db) == every(5) + Counter(["line_after"])
