"""The service as a process behind a real broker: events in, webhooks and mails out; it may die at any moment."""

import json

import eventlet
import pytest
from standardwebhooks import Webhook

from services.notifications import posting
from shared import config
from shared.ids import new_id
from shared.problems import BadRequest, NotFound, PreconditionFailed
from shared.rpc import RpcConnection
from tests.fakes import FakeReceiver
from tests.polling import until
from tests.service.notifications.hooks import an_endpoint, deliveries
from tests.service.notifications.mails import statuses
from tests.service.notifications.test_event_log_on_the_broker import consuming, process, publish
from tests.service.notifications.test_telling import invited, joined
from tests.service.notifications.told import finished, started

pytestmark = pytest.mark.broker
URL = "https://93.184.216.34/hook"


@pytest.fixture
def org_id():
    return new_id("org")


@pytest.fixture
def folder(environment, tmp_path, monkeypatch):
    """The folder the service writes its mails into."""
    environment["SMTP_URL"] = (tmp_path / "mail").as_uri()
    monkeypatch.setenv("SMTP_URL", environment["SMTP_URL"])
    return tmp_path / "mail"


@pytest.fixture
def receiver(environment, monkeypatch):
    with FakeReceiver().running() as server:
        environment["OUTSIDE_ALLOWED"] = server.place
        monkeypatch.setenv("OUTSIDE_ALLOWED", server.place)
        yield server


@pytest.fixture
def call(environment):
    """Return a function that calls a method of the service as the gateway does."""
    connection = RpcConnection(environment["AMQP_URL"], name="test rpc client")
    thread = eventlet.spawn(connection.run)
    until(lambda: connection.problem() is None)
    yield lambda method, **arguments: connection.call("notifications", method, arguments)
    connection.stop()
    thread.wait()


def post_of_the_service():
    return posting.post_for(config.load("notifications"))


def test_an_event_reaches_the_log_the_webhook_the_inbox_and_the_mail(
    notifications_db, environment, folder, receiver, call, org_id
):
    user_id = new_id("usr")
    endpoint = an_endpoint(notifications_db, post_of_the_service(), receiver.url, org_id=org_id)
    done = finished(org_id, user_id=user_id)

    with consuming():
        publish(environment["AMQP_URL"], [joined(org_id, user_id, email="grace@example.com")])
        until(lambda: call("activity", org_id=org_id)["data"])
        publish(environment["AMQP_URL"], [done], times=2)
        until(lambda: len(receiver.posted) == 2, seconds=30, what="both webhooks")
        until(lambda: len(list(folder.glob("*.eml"))) == 1, what="the mail")
        page = call("events", org_id=org_id, types=["JobFinished"])
        inbox = call("messages", org_id=org_id, user_id=user_id)

    event = Webhook(endpoint["secret"]).verify(receiver.posted[1].body, receiver.posted[1].headers)
    assert [item["event"] for item in page["data"]] == [event]
    assert event["id"] == done.meta.id
    assert [item["text"] for item in inbox["data"]] == ["Staging complete! 2 of 2 images generated."]


@pytest.mark.usefixtures("environment", "folder")
def test_every_method_can_be_called_by_name_as_the_gateway_does(call, org_id):
    user_id = new_id("usr")
    mine = {"org_id": org_id, "user_id": user_id}
    with consuming():
        endpoint = call("create_endpoint", org_id=org_id, endpoint_id=new_id("whe"), url=URL, types=["JobFinished"])
        one = {"org_id": org_id, "endpoint_id": endpoint["id"]}

        assert call("endpoints", org_id=org_id, limit=10)["data"][0]["id"] == endpoint["id"]
        assert call("endpoint", **one)["url"] == URL
        assert call("change_endpoint", **one, version=1, description="Production")["version"] == 2
        with pytest.raises(PreconditionFailed):
            call("change_endpoint", **one, version=1, ordered=True)
        assert call("rotate_endpoint_secret", rotation_id=new_id("rot"), **one)["secret"] != endpoint["secret"]
        assert call("test_endpoint", **one)["cause"] == "test"
        assert call("replay", **one, after="0")["replayed"] == 0
        assert [item["cause"] for item in call("deliveries", **one)["data"]] == ["test"]
        assert call("delete_endpoint", **one)["id"] == endpoint["id"]
        with pytest.raises(NotFound):
            call("endpoint", **one)
        assert call("events", org_id=org_id, after="0", limit=10)["resync"] is False
        assert call("activity", org_id=org_id, timezone="Europe/Berlin")["data"] == []
        assert call("messages", **mine, unread=True)["unread"] == 0
        assert call("mark_read", **mine) == {"read": 0, "unread": 0}
        assert call("preferences", **mine)["frequency"] == "realtime"
        assert call("change_preferences", **mine, change={"frequency": "daily_digest"})["frequency"] == "daily_digest"
        with pytest.raises(BadRequest):
            call("unsubscribe", token="eml_1.2.3")
        assert call("send_tips", tip_id="tip_1", subject="Light", paragraphs=["Open the curtains."])["mails"] == 0


@pytest.mark.parametrize(
    "point", ["webhooks.after_claim:2", "webhooks.after_call:2", "consumer.before_ack:1", "relay.after_publish:1"]
)
def test_a_process_that_dies_on_the_way_to_a_receiver_leaves_nothing_undelivered(
    notifications_db, environment, receiver, org_id, tmp_path, tamper, point
):
    endpoint = an_endpoint(notifications_db, post_of_the_service(), receiver.url, org_id=org_id)
    items = [started(org_id) for _ in range(5)]
    publish(environment["AMQP_URL"], items)

    with process(environment, log=tmp_path / "first", CRASH_AT=point) as dying:
        until(lambda: dying.poll() is not None, seconds=30, what="the crash")
    with process(environment, log=tmp_path / "second"):
        until(lambda: len(deliveries(notifications_db, endpoint, org_id=org_id)) == 5, seconds=30)
        tamper("UPDATE webhook_deliveries SET lease_until = now() WHERE lease_until IS NOT NULL")
        until(
            lambda: {item["status"] for item in deliveries(notifications_db, endpoint, org_id=org_id)} == {"delivered"},
            seconds=30,
        )

    numbers = {json.loads(posted.body)["orgsequence"] for posted in receiver.posted}
    assert dying.returncode == 137
    assert {posted.headers["webhook-id"] for posted in receiver.posted} == {item.meta.id for item in items}
    assert numbers == {1, 2, 3, 4, 5}
    assert len(receiver.posted) <= len(items) + 5


@pytest.mark.parametrize("point", ["mails.after_claim", "mails.after_call"])
def test_a_process_that_dies_over_a_mail_sends_it_later_as_the_same_file(
    notifications_db, environment, folder, org_id, tmp_path, tamper, point
):
    publish(
        environment["AMQP_URL"], [invited(org_id, new_id("usr"), email=f"g{number}@example.com") for number in range(3)]
    )

    with process(environment, log=tmp_path / "first", CRASH_AT=f"{point}:2") as dying:
        until(lambda: dying.poll() is not None, seconds=30, what="the crash")
    with process(environment, log=tmp_path / "second"):
        until(lambda: len(statuses(notifications_db)) == 3, seconds=30)
        tamper("UPDATE mails SET lease_until = now() WHERE lease_until IS NOT NULL")
        until(lambda: set(statuses(notifications_db)) == {"sent"}, seconds=30)

    assert dying.returncode == 137
    assert len(list(folder.glob("*.eml"))) == 3
