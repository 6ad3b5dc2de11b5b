"""Operators are told of what is wrong with the system: once an incident, by mail and by webhook."""

import dataclasses
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from services.notifications import alerting, incidents
from services.notifications.alerting import Alerts, alerts_for
from services.notifications.email import Folder
from shared import broker, config, dead_letters, events
from shared.broker import Outgoing
from shared.config import ConfigurationError, Secret
from shared.events import LedgerInvariantViolated, ProviderCircuitClosed, ProviderCircuitOpened
from shared.ids import new_id
from shared.outside import Outside
from tests.fakes import FakeReceiver
from tests.polling import until
from tests.service.notifications.mails import mailing_by, rows
from tests.service.notifications.test_event_log_on_the_broker import consuming
from tests.service.notifications.told import batch

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime.now(UTC)
QUEUE = "notifications.on_trouble"


def moment(hours=0.0):
    return (NOW + timedelta(hours=hours)).isoformat()


def opened(hours=0.0, *, model="flux"):
    return ProviderCircuitOpened(
        meta=events.correlated(new_id("req")),
        provider="fal",
        model=model,
        failures=10,
        code="provider_timeout",
        opened_at=moment(hours),
        probe_at=moment(hours + 0.1),
    )


def closed(since=0.0, at=0.0):
    return ProviderCircuitClosed(
        meta=events.correlated(new_id("req")),
        provider="fal",
        model="flux",
        opened_at=moment(since),
        closed_at=moment(at),
    )


def alerts(url=None, *, emails=("ops@example.com", "night@example.com")):
    return Alerts(emails=emails, url=url, secret=SECRET, outside=Outside(anywhere=True))


def hear(db, *items, to=None):
    for item in items:
        db.once(batch(item, consumer=QUEUE), partial(alerting.hear, db, to or alerts()))


def known(db, columns="kind, seen, closed_at IS NOT NULL"):
    with db.transaction() as session:
        return [tuple(row) for row in session.execute(sa.text(f"SELECT {columns} FROM incidents ORDER BY id"))]


@contextmanager
def alerting_to(db, to):
    stopped = threading.Event()
    thread = threading.Thread(target=alerting.run, args=(db, to, stopped.is_set))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_an_incident_is_mailed_once_to_each_operator(notifications_db, tmp_path):
    hear(notifications_db, opened(), opened(0.1), opened(0.2))

    with mailing_by(notifications_db, Folder(tmp_path)):
        until(lambda: [status for *_, status in rows(notifications_db)] == ["sent", "sent"])
    assert sorted(rows(notifications_db, "kind, recipient")) == [
        ("operator_alert", "night@example.com"),
        ("operator_alert", "ops@example.com"),
    ]
    assert known(notifications_db) == [("circuit_opened", 3, False)]
    with notifications_db.transaction() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM outbox")) == 0  # a mail of no organization is no event


def test_an_incident_is_posted_once_and_signed(notifications_db):
    with FakeReceiver().running() as receiver:
        to = alerts(receiver.url)
        with alerting_to(notifications_db, to):
            hear(notifications_db, opened(), opened(0.1), opened(model="sdxl"), to=to)
            until(lambda: len(receiver.posted) == 2)
            until(lambda: known(notifications_db, "status") == [("sent",), ("sent",)])

    for posted in receiver.posted:
        event = Webhook(SECRET).verify(posted.body, posted.headers)
        assert event["type"] == "OperatorAlert"
        assert event["id"] == posted.headers["webhook-id"]
        assert event["data"].keys() == {"kind", "text", "remedy", "since"}
    assert {json.loads(posted.body)["data"]["text"].split()[1] for posted in receiver.posted} == {"flux", "sdxl"}


def test_a_receiver_that_is_down_is_tried_again_and_mails_do_not_wait_for_it(notifications_db, tamper, tmp_path):
    with FakeReceiver(lambda _: (500, {}, b"")).running() as receiver:
        to = alerts(receiver.url)
        with alerting_to(notifications_db, to), mailing_by(notifications_db, Folder(tmp_path)):
            hear(notifications_db, opened(), to=to)
            until(lambda: known(notifications_db, "status, attempt, lease_until IS NULL") == [("pending", 1, True)])
            until(lambda: [status for *_, status in rows(notifications_db)] == ["sent", "sent"])
            receiver.answer = lambda _: (204, {}, b"")
            tamper("UPDATE incidents SET due_at = now()")
            until(lambda: known(notifications_db, "status, attempt") == [("sent", 2)])

    assert len({posted.headers["webhook-id"] for posted in receiver.posted}) == 1


def test_what_comes_back_long_after_its_end_is_told_again(notifications_db):
    hear(notifications_db, opened(), closed(0, 0.2), opened(0.5), closed(0.5, 0.6), opened(2))

    assert known(notifications_db) == [("circuit_opened", 2, True), ("circuit_opened", 1, False)]
    assert len(rows(notifications_db)) == 4


def test_an_end_that_overtakes_its_beginning_leaves_nothing_open(notifications_db):
    hear(notifications_db, closed(0, 0.2), opened())

    assert known(notifications_db) == [("circuit_opened", 2, True)]
    assert rows(notifications_db) == []


def test_the_end_of_what_was_before_does_not_end_what_is_now(notifications_db):
    hear(notifications_db, opened(2), closed(0, 0.2))

    assert known(notifications_db) == [("circuit_opened", 1, False)]


def test_replicas_that_see_the_same_tell_it_once(notifications_db):
    threads = [
        threading.Thread(
            target=alerting.look_at_dead_letters, args=(notifications_db, alerts(), {"credits": 3, "catalog": 1})
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(known(notifications_db, "key, seen")) == [("dead_letters/catalog", 8), ("dead_letters/credits", 8)]
    assert len(rows(notifications_db)) == 4


def test_messages_set_aside_are_over_when_none_lies_there(notifications_db):
    for count in (1, 5, 0, 2, 0):
        alerting.look_at_dead_letters(notifications_db, alerts(), {"credits": count, "catalog": 0})

    assert known(notifications_db) == [("dead_letters", 3, True)]


def test_a_ledger_that_does_not_add_up_is_told(notifications_db):
    hear(
        notifications_db,
        LedgerInvariantViolated(
            meta=events.correlated(None), night="2031-05-01", violations=3, invariant="held_equals_open_lines"
        ),
    )

    assert known(notifications_db, "kind, text") == [
        ("ledger_violated", "The audit of 2031-05-01 found violations in the ledger: 3, first held_equals_open_lines.")
    ]


def test_sign_ups_that_failed_are_told(notifications_db):
    for count in (2, 7):
        told = {"count": count, "error": "OperationalError", "since": moment()}
        assert alerting.report_failed_sign_ups(notifications_db, alerts(), **told) == {"reported": count}

    assert known(notifications_db, "kind, seen, text") == [
        ("sign_up_failed", 2, "Signing up failed 2 times, last with OperationalError.")
    ]


def test_where_nobody_is_to_be_told_incidents_are_kept_all_the_same(notifications_db):
    hear(notifications_db, opened(), to=alerts(emails=()))

    assert known(notifications_db, "kind, status") == [("circuit_opened", "none")]


def test_incidents_of_which_nothing_was_heard_for_long_are_deleted_told_or_not(notifications_db, tamper):
    hear(notifications_db, opened(), closed(0, 0.2), opened(model="sdxl"))
    hear(notifications_db, opened(model="imagen"), to=alerts("https://alerts.example/"))
    tamper("UPDATE incidents SET last_at = now() - interval '91 days', closed_at = closed_at - interval '91 days'")
    hear(notifications_db, opened(model="recraft"))

    incidents.sweep(notifications_db)

    assert known(notifications_db, "key") == [("circuit_opened/fal/recraft",)]


def test_a_circuit_whose_end_was_lost_is_told_again_after_a_day(notifications_db, tamper):
    hear(notifications_db, opened(), opened(1))
    tamper("UPDATE incidents SET last_at = now() - interval '25 hours'")

    hear(notifications_db, opened(26))

    assert known(notifications_db) == [("circuit_opened", 2, True), ("circuit_opened", 1, False)]


def test_no_organization_reads_what_operators_are_told(notifications_db):
    hear(notifications_db, opened())

    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):  # noqa: SIM117  which of them is of interest
        with notifications_db.transaction(org_id="operators") as session:
            session.execute(sa.text("SELECT * FROM incidents"))


@pytest.mark.parametrize(
    "given",
    [
        {"alert_webhook_url": "https://ops.example/alerts"},
        {"alert_webhook_url": "https://ops.example/alerts", "alert_webhook_secret": Secret("secret")},
        {"alert_webhook_url": "https://ops.example/alerts", "alert_webhook_secret": Secret("whsec_c2hvcnQ=")},
        {"alert_webhook_url": "ftp://ops.example", "alert_webhook_secret": Secret(SECRET)},
    ],
)
def test_a_receiver_that_cannot_be_is_told_at_the_start(environment_of_alerts, given):
    settings = dataclasses.replace(environment_of_alerts, **given)

    with pytest.raises(ConfigurationError, match="ALERT_WEBHOOK"):
        alerts_for(settings)


def test_addresses_that_are_none_are_told_at_the_start(monkeypatch, environment_of_alerts):
    del environment_of_alerts
    monkeypatch.setenv("ALERT_EMAILS", "ops@example.com, nobody")

    with pytest.raises(ConfigurationError, match="ALERT_EMAILS"):
        config.load("notifications")


@pytest.fixture
def environment_of_alerts(monkeypatch):
    monkeypatch.setenv("NOTIFICATIONS_DATABASE_URL", "postgresql+psycopg2://nobody@localhost/none")
    monkeypatch.setenv("AMQP_URL", "amqp://nobody")
    monkeypatch.setenv("STORAGE_URL", "file:///nonexistent")
    monkeypatch.setenv("ALERT_EMAILS", "ops@example.com, night@example.com")
    settings = config.load("notifications")
    assert settings.alert_emails == ("ops@example.com", "night@example.com")
    return settings


@pytest.mark.broker
def test_what_lies_in_the_dead_letters_reaches_operators(environment, monkeypatch, tmp_path):
    monkeypatch.setenv("ALERT_EMAILS", "ops@example.com")
    monkeypatch.setenv("SMTP_URL", tmp_path.as_uri())
    with broker.connected(environment["AMQP_URL"], name="test") as connection:
        lost = Outgoing(body=b"?", exchange="", routing_key="notifications.dead-letters", message_id="evt_lost")
        assert broker.Publisher(connection).publish([lost]).confirmed

    with consuming():
        mails = until(lambda: list(tmp_path.glob("*.eml")), seconds=15)

    assert dead_letters.counts(environment["AMQP_URL"]) == {"notifications": 1}
    assert "1 messages for notifications could not be handled" in mails[0].read_text()
