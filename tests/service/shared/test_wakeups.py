"""Waking listeners: a commit is told to them even where an earlier one, or an answer under way, could swallow it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import eventlet
import psycopg2
import pytest
from eventlet.event import Event as Signal

from shared.database import Database, connection_arguments, wait_for_notify
from tests.service.shared.outages import within
from tests.service.shared.wire import refunded


@pytest.fixture
def listener(db: Database) -> Iterator[Any]:
    connection = psycopg2.connect(**connection_arguments(db.url, application="listener"))
    connection.autocommit = True
    with contextlib.closing(connection):
        connection.cursor().execute("LISTEN outbox")
        yield connection


def test_a_notification_that_comes_with_the_answer_to_a_statement_is_not_lost(db: Database, listener: Any) -> None:
    def commit() -> None:
        with db.transaction() as session:
            db.publish(session, [refunded()])

    for _ in range(5):
        committing = eventlet.spawn_after(0.05, commit)
        listener.cursor().execute("SELECT pg_sleep(0.2)")
        committing.wait()

        with within(1):
            wait_for_notify(listener, seconds=5)


def test_a_transaction_that_rolls_back_does_not_silence_the_next_commit(db: Database, listener: Any) -> None:
    with contextlib.suppress(ZeroDivisionError), db.transaction() as session:
        db.publish(session, [refunded()])
        _ = 1 / 0

    with db.transaction() as session:
        db.publish(session, [refunded()])

    with within(1):
        wait_for_notify(listener, seconds=5)


def test_a_long_transaction_does_not_silence_one_that_commits_before_it(db: Database, listener: Any) -> None:
    written, go_on = Signal(), Signal()

    def take_long() -> None:
        with db.transaction() as session:
            db.publish(session, [refunded()])
            written.send(None)
            go_on.wait()

    long = eventlet.spawn(take_long)
    written.wait()
    with db.transaction() as session:
        db.publish(session, [refunded()])

    with within(1):
        wait_for_notify(listener, seconds=5)
    go_on.send(None)
    long.wait()
