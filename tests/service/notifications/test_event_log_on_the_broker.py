"""The log behind real queues: several consumers, broken connections, a process that dies between commit and ack."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from nameko.containers import ServiceContainer

from services.notifications.service import Notifications
from shared import broker, config, events
from shared.health import Health
from shared.ids import new_id
from tests.polling import until
from tests.service.notifications.told import LOG_QUEUE, reserved, started

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def consuming() -> Iterator[ServiceContainer]:
    """Run the service in this process."""
    settings = config.load("notifications")
    container = ServiceContainer(
        Notifications, config={"settings": settings, "health": Health(), "max_workers": settings.max_workers}
    )
    container.start()
    try:
        yield container
    finally:
        container.stop()


@contextlib.contextmanager
def process(environment, *, log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service as a process of its own."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "shared.runner", "notifications"],
            cwd=ROOT,
            env={**os.environ, **environment, **more},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def publish(amqp_url: str, items, *, times: int = 1) -> None:
    outgoing = [
        broker.Outgoing(
            body=events.encode(item),
            exchange=f"{item.SOURCE}.events",
            routing_key=type(item).__name__,
            message_id=item.meta.id,
        )
        for item in items
        for _ in range(times)
    ]
    with broker.connected(amqp_url, name="test") as connection:
        assert not broker.Publisher(connection).publish(outgoing).unrouted


def logs(db) -> dict[str, list[tuple[int, str]]]:
    """Return each organization's log: numbers and event ids, in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    with db.transaction() as session:
        rows = session.execute(sa.text("SELECT org_id, sequence, event_id FROM recorded_events ORDER BY 1, 2"))
        for org_id, sequence, event_id in rows:
            found.setdefault(org_id, []).append((sequence, event_id))
    return found


def depth(amqp_url: str) -> int:
    with broker.connected(amqp_url, name="test") as connection:
        return int(connection.channel().queue_declare(LOG_QUEUE, passive=True).message_count)


def assert_each_once(db, items) -> None:
    found = logs(db)
    for org_id, entries in found.items():
        assert [number for number, _ in entries] == list(range(1, len(entries) + 1))
        assert sorted(event_id for _, event_id in entries) == sorted(
            item.meta.id for item in items if item.org_id == org_id
        )
    assert sum(map(len, found.values())) == len(items)


def test_two_replicas_record_what_comes_twice_once_each_while_connections_break(
    notifications_db, environment, rabbitmq
):
    organizations = [new_id("org") for _ in range(4)]
    items = [started(organizations[number % 4]) for number in range(600)]
    vhost = environment["AMQP_URL"].rpartition("/")[2]

    with consuming(), consuming():
        publish(environment["AMQP_URL"], items[:300], times=2)
        until(lambda: sum(map(len, logs(notifications_db).values())) > 50)
        rabbitmq.ctl("close_all_connections", "--vhost", vhost, "test")
        publish(environment["AMQP_URL"], items[300:], times=2)
        until(lambda: sum(map(len, logs(notifications_db).values())) >= len(items), seconds=30)
        until(lambda: depth(environment["AMQP_URL"]) == 0)

    assert_each_once(notifications_db, items)


def test_replicas_that_are_killed_at_any_moment_leave_no_gap_and_record_nothing_twice(
    notifications_db, environment, tmp_path
):
    organizations = [new_id("org") for _ in range(3)]
    groups = [[started(organizations[number % 3]) for number in range(100)] for _ in range(4)]

    with process(environment, log=tmp_path / "steady"):
        for number, group in enumerate(groups):
            with process(environment, log=tmp_path / f"killed{number}") as other:
                until((tmp_path / f"killed{number}").read_bytes, seconds=30, what="its first line")
                publish(environment["AMQP_URL"], group, times=2)
                wanted = number * 100 + 30
                until(lambda enough=wanted: sum(map(len, logs(notifications_db).values())) > enough, seconds=30)
                other.kill()
        until(lambda: sum(map(len, logs(notifications_db).values())) >= 400, seconds=30)
        until(lambda: depth(environment["AMQP_URL"]) == 0, seconds=30)

    assert_each_once(notifications_db, [item for group in groups for item in group])


def test_one_replica_keeps_the_order_of_a_publisher(notifications_db, environment):
    org_id = new_id("org")
    items = [started(org_id) for _ in range(250)]
    publish(environment["AMQP_URL"], items)

    with consuming():
        until(lambda: len(logs(notifications_db).get(org_id, [])) == 250)

    assert [event_id for _, event_id in logs(notifications_db)[org_id]] == [item.meta.id for item in items]


def test_a_process_that_dies_between_commit_and_acknowledgement_records_nothing_twice(
    notifications_db, environment, tmp_path
):
    org_id = new_id("org")
    items = [reserved(org_id) for _ in range(30)]  # which nothing but the log takes
    publish(environment["AMQP_URL"], items)

    with process(environment, log=tmp_path / "first", CRASH_AT="consumer.before_ack:1") as dying:
        until(lambda: dying.poll() is not None, seconds=30, what="the crash")
        assert dying.returncode == 137
        assert logs(notifications_db)
    with process(environment, log=tmp_path / "second"):
        until(lambda: len(logs(notifications_db)[org_id]) == 30, seconds=30)
        until(lambda: depth(environment["AMQP_URL"]) == 0)

    assert_each_once(notifications_db, items)
