"""`Database.once` and the outbox: each event takes effect once; what it causes is committed with it or not at all."""

import contextlib
import select
from collections.abc import Sequence
from typing import Any

import eventlet
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared import events, logs
from shared.database import Batch, Database, connection_arguments, wait_for_notify
from shared.events import CreditCaptured, Event, GenerationStarted, RefundIssued
from tests.service.shared.host_service import leave_effects
from tests.service.shared.outages import within
from tests.service.shared.wire import captured, refunded


def batch(*items: Event, consumer: str = "credits.on_credit_captured") -> Batch[Event]:
    return Batch(items, consumer=consumer)


def effects(db: Database) -> list[str]:
    with db.transaction() as session:
        return list(session.execute(sa.text("SELECT line_id FROM effects ORDER BY line_id")).scalars())


def outbox(db: Database) -> list[Event]:
    with db.transaction() as session:
        return [
            events.decode(body.encode())
            for body in session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars()
        ]


def refund(item: CreditCaptured) -> RefundIssued:
    without_meta = refunded(item.line_id)
    return RefundIssued(**{**events.data_of(without_meta), "job_id": item.job_id})


def refund_each(_session: Session, items: Sequence[Any]) -> list[Event]:
    return [refund(item) for item in items]


def test_an_event_delivered_twice_in_two_batches_takes_effect_once(db: Database) -> None:
    item = captured()

    db.once(batch(item), leave_effects)
    db.once(batch(item), leave_effects)

    assert effects(db) == ["line_1"]


def test_an_event_delivered_twice_in_one_batch_takes_effect_once(db: Database) -> None:
    item, other = captured(1), captured(2)

    db.once(batch(item, other, item), leave_effects)

    assert effects(db) == ["line_1", "line_2"]


def test_the_handler_is_not_called_for_a_batch_that_was_seen(db: Database) -> None:
    item = captured()
    calls: list[Any] = []

    for _ in range(2):
        db.once(batch(item), lambda _session, items: calls.append(items) or [])  # type: ignore[func-returns-value]  # append returns None: that is the point

    assert len(calls) == 1


def test_a_batch_in_which_some_were_seen_applies_only_the_others_in_their_order(db: Database) -> None:
    items = [captured(number) for number in range(5)]
    handled: list[str] = []
    db.once(batch(items[1], items[3]), leave_effects)

    db.once(batch(*items), lambda _session, fresh: handled.extend(item.line_id for item in fresh) or [])  # type: ignore[func-returns-value]  # as above

    assert handled == ["line_0", "line_2", "line_4"]


def test_each_consumer_has_its_own_inbox(db: Database) -> None:
    item = captured()

    db.once(batch(item, consumer="credits.on_credit_captured"), leave_effects)
    db.once(batch(item, consumer="credits.on_something_else"), leave_effects)

    assert effects(db) == ["line_1", "line_1"]


def test_a_handler_that_fails_leaves_neither_effect_nor_inbox_row_nor_event(db: Database) -> None:
    item = captured()

    def fail_at_the_end(session: Session, items: Sequence[Any]) -> list[Event]:
        leave_effects(session, items)
        db.publish(session, refund_each(session, items))
        raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError):
        db.once(batch(item), fail_at_the_end)

    assert (effects(db), outbox(db)) == ([], [])
    db.once(batch(item), leave_effects)
    assert effects(db) == ["line_1"]


def test_two_consumers_given_the_same_events_at_the_same_time_apply_each_once(db: Database) -> None:
    items = [captured(number) for number in range(20)]
    threads = [
        eventlet.spawn(db.once, batch(*order), leave_effects) for order in (items, items[::-1], items[10:] + items[:10])
    ]

    for thread in threads:
        thread.wait()

    assert effects(db) == sorted(f"line_{number}" for number in range(20))


def test_an_event_without_an_id_is_refused_instead_of_being_dropped(db: Database) -> None:
    nameless = CreditCaptured(**events.data_of(captured()))

    with pytest.raises(ValueError, match="CreditCaptured"):
        db.once(batch(nameless), leave_effects)


def test_events_a_handler_returns_are_in_the_outbox_with_their_cause(db: Database) -> None:
    cause = captured()

    db.once(batch(cause), refund_each)

    (caused,) = outbox(db)
    assert isinstance(caused, RefundIssued)
    assert caused.meta
    assert cause.meta
    assert (caused.meta.correlation_id, caused.meta.causation_id) == (cause.meta.correlation_id, cause.meta.id)
    assert caused.meta.id != cause.meta.id


def test_each_caused_event_of_a_batch_carries_the_correlation_of_its_own_job(db: Database) -> None:
    causes = [captured(number) for number in range(3)]

    db.once(batch(*causes), refund_each)

    found = {item.job_id: item.meta for item in outbox(db) if isinstance(item, RefundIssued)}
    for cause in causes:
        meta = found[cause.job_id]
        assert meta
        assert cause.meta
        assert (meta.correlation_id, meta.causation_id) == (cause.meta.correlation_id, cause.meta.id)


def test_a_caused_event_that_belongs_to_none_of_several_causes_gets_no_foreign_correlation(db: Database) -> None:
    unrelated = GenerationStarted(job_id="job_other", generation_id="gen_other", org_id="org_1", workflow="staging")

    db.once(batch(captured(1), captured(2)), lambda _session, _items: [unrelated])

    (item,) = outbox(db)
    assert item.meta
    assert (item.meta.correlation_id, item.meta.causation_id) == (None, None)


def test_an_event_published_while_a_request_is_handled_carries_its_correlation(db: Database) -> None:
    with logs.bound(correlation_id="req_1"), db.transaction() as session:
        db.publish(session, [refund(captured())])

    (item,) = outbox(db)
    assert item.meta
    assert item.meta.correlation_id == "req_1"


def test_an_outbox_row_is_rolled_back_with_the_change_it_belongs_to(db: Database) -> None:
    with contextlib.suppress(ZeroDivisionError), db.transaction() as session:
        leave_effects(session, [captured()])
        db.publish(session, [refunded()])
        _ = 1 / 0

    assert (effects(db), outbox(db)) == ([], [])


def test_events_leave_in_the_order_in_which_they_were_published(db: Database) -> None:
    items = [refunded(number) for number in range(300)]

    with db.transaction() as session:
        db.publish(session, items[:200])
        db.publish(session, items[200:])

    assert [item.meta and item.meta.id for item in outbox(db)] == [item.meta and item.meta.id for item in items]


def test_publishing_nothing_touches_nothing(db: Database) -> None:
    statements: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    with db.transaction() as session:
        db.publish(session, [])

    assert len(statements) == 1


def test_a_commit_wakes_whoever_listens_and_a_rollback_does_not(db: Database) -> None:
    listener = psycopg2.connect(**connection_arguments(db.url, application="listener"))
    listener.autocommit = True
    with contextlib.closing(listener):
        listener.cursor().execute("LISTEN outbox")

        with db.transaction() as session:
            db.publish(session, [refunded()])
        with within(2):
            wait_for_notify(listener, seconds=5)
        eventlet.sleep(0.05)  # notifications are sent every 20 ms at most
        with contextlib.suppress(ZeroDivisionError), db.transaction() as session:
            db.publish(session, [refunded()])
            _ = 1 / 0

        readable, _, _ = select.select([listener], [], [], 0.2)
        assert readable == []
