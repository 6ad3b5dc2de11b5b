"""Webhooks out: signed, once per event and endpoint, again by the schedule, and no receiver holds another back."""

import itertools
import json
import threading
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from services.notifications import claiming, endpoints, log, outcomes, posting, recording, requested, webhooks
from services.notifications.deliveries import SCHEDULE_SECONDS, Answer, decide
from services.notifications.posting import Post
from services.notifications.requested import Range
from shared import events
from shared.encryption import Cipher
from shared.events import WebhookEndpointDisabled
from shared.ids import new_id
from shared.outside import Outside
from tests.fakes import FakeReceiver, FakeSite, an_answer
from tests.polling import until
from tests.service.notifications.hooks import (
    a_post,
    an_endpoint,
    deliveries,
    end_leases,
    endpoint_now,
    pass_time,
    posting_on,
    tell,
)
from tests.service.notifications.told import failed, finished, reserved, started


@pytest.fixture
def receiver():
    with FakeReceiver().running() as server:
        yield server


@pytest.fixture
def org_id():
    return new_id("org")


def statuses(db, endpoint, org_id):
    return [item["status"] for item in deliveries(db, endpoint, org_id=org_id)]


def ids(receiver):
    return [posted.headers["webhook-id"] for posted in receiver.posted]


def test_an_event_arrives_signed_so_that_the_reference_library_accepts_it(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    failure = failed(org_id)

    with posting_on(notifications_db, post):
        tell(notifications_db, failure)
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered"])

    (posted,) = receiver.posted
    event = Webhook(endpoint["secret"]).verify(posted.body, posted.headers)
    assert posted.headers["webhook-id"] == event["id"] == failure.meta.id
    assert posted.headers["content-type"] == "application/cloudevents+json"
    assert event["type"] == "GenerationFailed"
    assert event["orgsequence"] == 1
    assert event["data"]["reason"] == "provider_error"
    assert "provider_cost_microusd" not in event["data"]


def test_what_arrives_is_the_event_of_the_list(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    an_endpoint(notifications_db, post, receiver.url, org_id=org_id)

    with posting_on(notifications_db, post):
        tell(notifications_db, reserved(org_id))
        until(lambda: receiver.posted)

    with notifications_db.transaction(org_id=org_id) as session:
        (item,) = log.events(session, org_id=org_id)["data"]
    assert json.loads(receiver.posted[0].body) == item["event"]


def test_an_event_recorded_once_is_owed_once_to_each_endpoint_that_wants_its_type(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    everything = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    ends = an_endpoint(notifications_db, post, receiver.url, org_id=org_id, types=["JobFinished"])
    others = an_endpoint(notifications_db, post, receiver.url, org_id=new_id("org"))
    done, begun = finished(org_id), started(org_id)

    tell(notifications_db, done, begun)
    tell(notifications_db, done)

    assert [item["event_id"] for item in deliveries(notifications_db, everything, org_id=org_id)] == [
        begun.meta.id,
        done.meta.id,
    ]
    assert [item["event_id"] for item in deliveries(notifications_db, ends, org_id=org_id)] == [done.meta.id]
    with notifications_db.transaction() as session:
        count = session.scalar(
            sa.text("SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = :id"), {"id": others["id"]}
        )
    assert count == 0


def test_an_endpoint_gets_what_is_recorded_after_its_creation_even_by_who_waited_meanwhile(notifications_db, org_id):
    post = a_post(resolve=lambda _host, _seconds, **_: ["93.184.216.34"])
    tell(notifications_db, started(org_id))
    recording_one = threading.Thread(target=tell, args=(notifications_db, started(org_id)))

    with notifications_db.transaction() as session:
        session.execute(sa.text("SELECT 1 FROM event_sequences FOR UPDATE"))
        recording_one.start()
        until(lambda: _waiting_for_a_lock(notifications_db))
        endpoint = an_endpoint(notifications_db, post, "https://customer.example/", org_id=org_id)
    recording_one.join()

    assert len(deliveries(notifications_db, endpoint, org_id=org_id)) == 1


def test_before_during_and_after_a_rotation_every_signature_is_accepted(notifications_db, receiver, org_id, tamper):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    old = Webhook(endpoint["secret"])

    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: len(receiver.posted) == 1)
        rotated = endpoints.rotate(
            notifications_db, post, org_id=org_id, endpoint_id=endpoint["id"], overlap_seconds=3600
        )
        new = Webhook(rotated["secret"])
        tell(notifications_db, started(org_id))
        until(lambda: len(receiver.posted) == 2)
        pass_time(tamper, 3601)
        tell(notifications_db, started(org_id))
        until(lambda: len(receiver.posted) == 3)

    before, during, after = receiver.posted
    assert rotated["secret"] != endpoint["secret"]
    old.verify(before.body, before.headers)
    old.verify(during.body, during.headers)
    new.verify(during.body, during.headers)
    new.verify(after.body, after.headers)
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert len(after.headers["webhook-signature"].split(" ")) == 1


def test_a_receiver_that_fails_gets_it_again_by_the_schedule_with_the_same_bytes(
    notifications_db, receiver, org_id, tamper
):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    receiver.answer = lambda _posted: (500, {}, b"out of order")
    tell(notifications_db, started(org_id))

    with posting_on(notifications_db, post):
        for number, seconds in enumerate(SCHEDULE_SECONDS[1:], 1):
            until(lambda number=number: len(receiver.posted) == number)
            until(lambda: not _under_way(notifications_db))
            pass_time(tamper, seconds * 0.85)
            assert len(receiver.posted) == number
            pass_time(tamper, seconds * 0.3)
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["failed"])

    (delivery,) = deliveries(notifications_db, endpoint, org_id=org_id)
    assert len(receiver.posted) == 10
    assert len({posted.body for posted in receiver.posted}) == 1
    assert len(set(ids(receiver))) == 1
    assert [each["number"] for each in delivery["attempts"]] == list(range(1, 11))
    assert {each["status"] for each in delivery["attempts"]} == {500}
    assert delivery["attempts"][0]["response"] == "out of order"
    assert delivery["failure"] == "status 500"


def _under_way(db):
    with db.transaction() as session:
        return session.scalar(
            sa.text(
                "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"
                " AND (due_at <= clock_timestamp() OR lease_until > clock_timestamp())"
            )
        )


def test_what_a_receiver_missed_in_an_hour_of_being_down_arrives_afterwards_each_once(notifications_db, org_id, tamper):
    receiver = FakeReceiver()
    post = a_post(receiver.place)
    receiver.be_down()
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    items = [started(org_id) for _ in range(20)]
    tell(notifications_db, *items)
    with posting_on(notifications_db, post):
        for _ in range(12):
            pass_time(tamper, 300)
            until(lambda: not _under_way(notifications_db))
    assert set(statuses(notifications_db, endpoint, org_id)) == {"pending"}

    with receiver.running(), posting_on(notifications_db, post):
        until(lambda: pass_time(tamper, 600) or set(statuses(notifications_db, endpoint, org_id)) == {"delivered"})

    assert sorted(ids(receiver)) == sorted(item.meta.id for item in items)
    assert endpoint_now(notifications_db, endpoint, org_id=org_id)["failing_since"] is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(notifications_db, receiver, org_id, status):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    receiver.answer = lambda _posted: (status, {"Location": f"http://{receiver.place}/elsewhere"}, b"")

    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: deliveries(notifications_db, endpoint, org_id=org_id)[0]["attempts"])

    (delivery,) = deliveries(notifications_db, endpoint, org_id=org_id)
    assert delivery["status"] == "pending"
    assert delivery["attempts"][0]["status"] == status
    assert [posted.path for posted in receiver.posted] == ["/hook"]


def test_gone_disables_the_endpoint_and_cancels_the_rest(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id, ordered=True)
    receiver.answer = lambda _posted: (410, {}, b"")

    with posting_on(notifications_db, post):
        tell(notifications_db, *[started(org_id) for _ in range(3)])
        until(lambda: endpoint_now(notifications_db, endpoint, org_id=org_id)["status"] == "disabled")
    tell(notifications_db, started(org_id))

    assert endpoint_now(notifications_db, endpoint, org_id=org_id)["disabled_reason"] == "gone"
    assert statuses(notifications_db, endpoint, org_id) == ["cancelled", "cancelled", "failed"]
    assert [(item.endpoint_id, item.org_id, item.reason) for item in _disabled(notifications_db)] == [
        (endpoint["id"], org_id, "gone")
    ]


def _disabled(db):
    with db.transaction() as session:
        bodies = session.scalars(sa.text("SELECT body FROM outbox WHERE type = 'WebhookEndpointDisabled'"))
        return [
            item
            for item in (events.decode(body.encode()) for body in bodies)
            if isinstance(item, WebhookEndpointDisabled)
        ]


def test_an_endpoint_that_has_only_failed_for_five_days_is_disabled_once(notifications_db, receiver, org_id, tamper):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    receiver.answer = lambda _posted: (500, {}, b"")
    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: len(receiver.posted) == 1)
        until(lambda: not _under_way(notifications_db))
        pass_time(tamper, 4.9 * 86_400)
        until(lambda: len(receiver.posted) == 2)
        until(lambda: not _under_way(notifications_db))
        assert endpoint_now(notifications_db, endpoint, org_id=org_id)["status"] == "enabled"

        pass_time(tamper, 0.2 * 86_400)
        until(lambda: endpoint_now(notifications_db, endpoint, org_id=org_id)["status"] == "disabled")

    assert endpoint_now(notifications_db, endpoint, org_id=org_id)["disabled_reason"] == "failing"
    assert [item.reason for item in _disabled(notifications_db)] == ["failing"]


def test_one_success_ends_the_time_of_failing(notifications_db, receiver, org_id, tamper):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    answers = itertools.chain([500, 204], itertools.repeat(500))
    receiver.answer = lambda _posted: (next(answers), {}, b"")

    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: endpoint_now(notifications_db, endpoint, org_id=org_id)["failing_since"])
        pass_time(tamper, 4.9 * 86_400)
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered"])
        tell(notifications_db, started(org_id))
        until(lambda: len(receiver.posted) == 3)
        until(lambda: not _under_way(notifications_db))
        pass_time(tamper, 4.9 * 86_400)
        until(lambda: len(receiver.posted) == 4)
        until(lambda: not _under_way(notifications_db))

    assert endpoint_now(notifications_db, endpoint, org_id=org_id)["status"] == "enabled"


def test_a_receiver_that_asks_for_patience_gets_nothing_meanwhile(notifications_db, receiver, org_id, tamper):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    receiver.answer = lambda _posted: (429, {"Retry-After": "120"}, b"")
    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: deliveries(notifications_db, endpoint, org_id=org_id)[0]["attempts"])
        receiver.answer = lambda _posted: (204, {}, b"")
        tell(notifications_db, started(org_id))
        pass_time(tamper, 100)
        assert len(receiver.posted) == 1
        pass_time(tamper, 30)
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered", "delivered"])

    assert len(receiver.posted) == 3


def test_one_success_does_not_end_the_patience_another_answer_asked_for(notifications_db, org_id, tamper):
    endpoint = an_endpoint(
        notifications_db,
        a_post(resolve=lambda _host, _seconds, **_: ["93.184.216.34"]),
        "https://customer.example/",
        org_id=org_id,
    )
    tamper(f"UPDATE webhook_endpoints SET slow = false WHERE id = '{endpoint['id']}'")
    tell(notifications_db, *[started(org_id) for _ in range(3)])
    with notifications_db.transaction() as session:
        first, second, _ = claiming.claim(session, free=3, slow_free=3)
    pass_time(tamper, 100)

    for item, answer in (
        (first, Answer(status=429, seconds=0.1, retry_after="3600")),
        (second, Answer(status=200, seconds=0.1)),
    ):
        with notifications_db.transaction() as session:
            outcomes.record(session, item, answer, decide(answer, attempt=1, now=datetime.now(UTC)))
    end_leases(tamper)

    with notifications_db.transaction() as session:
        assert claiming.claim(session, free=3, slow_free=3) == []
    pass_time(tamper, 3600)
    with notifications_db.transaction() as session:
        assert claiming.claim(session, free=3, slow_free=3) != []


def test_an_ordered_endpoint_gets_one_after_the_other_in_the_order_of_the_log(
    notifications_db, receiver, org_id, tamper
):
    post = a_post(receiver.place)
    an_endpoint(notifications_db, post, receiver.url, org_id=org_id, ordered=True)
    answers = itertools.cycle([500, 204])
    receiver.answer = lambda _posted: (next(answers), {}, b"")
    tell(notifications_db, *[started(org_id) for _ in range(5)])
    tell(notifications_db, *[started(org_id) for _ in range(5)])

    with posting_on(notifications_db, post, workers=2):
        until(lambda: pass_time(tamper, 10) or len(receiver.posted) == 20, seconds=30)

    order = [json.loads(posted.body)["orgsequence"] for posted in receiver.posted]
    assert order == [number for number in range(1, 11) for _ in range(2)]
    assert receiver.most_at_once == 1


def test_one_endpoint_has_few_deliveries_under_way_at_a_time(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    receiver.answer = lambda _posted: time.sleep(0.05) or (204, {}, b"")
    tell(notifications_db, *[started(org_id) for _ in range(40)])

    with posting_on(notifications_db, post, workers=3):
        until(lambda: set(statuses(notifications_db, endpoint, org_id)) == {"delivered"})

    assert 1 < receiver.most_at_once <= claiming.PER_ENDPOINT
    assert len(receiver.posted) == len(set(ids(receiver))) == 40


def test_receivers_that_hang_hold_no_other_receiver_back(notifications_db, receiver):
    release = threading.Event()
    hanging_organizations = [new_id("org") for _ in range(12)]
    quick = new_id("org")
    with FakeReceiver(lambda _posted: release.wait(30) and (204, {}, b"")).running() as hanging:
        post = a_post(receiver.place, hanging.place)
        for org_id in hanging_organizations:
            for _ in range(3):
                an_endpoint(notifications_db, post, hanging.url, org_id=org_id)
        endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=quick)
        with posting_on(notifications_db, post, slots=8):
            tell(notifications_db, started(quick))
            until(lambda: statuses(notifications_db, endpoint, quick) == ["delivered"])
        tell(notifications_db, *[started(org_id) for org_id in hanging_organizations for _ in range(5)])
        with posting_on(notifications_db, post, slots=8):
            until(lambda: hanging.at_once == 4)
            began = time.monotonic()
            tell(notifications_db, *[started(quick) for _ in range(20)])
            until(lambda: set(statuses(notifications_db, endpoint, quick)) == {"delivered"})
            took = time.monotonic() - began
            assert hanging.most_at_once == 4
            release.set()

    assert took < 5


def test_an_endless_answer_is_cut_off_and_its_status_counts(notifications_db, org_id):
    def endless():
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b"x" * 65_536

    with FakeSite().running() as site:
        site.answers["/hook"] = endless
        post = a_post(site.place)
        endpoint = an_endpoint(notifications_db, post, f"http://{site.place}/hook", org_id=org_id)
        with posting_on(notifications_db, post):
            tell(notifications_db, started(org_id))
            until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered"])

    (delivery,) = deliveries(notifications_db, endpoint, org_id=org_id)
    assert delivery["attempts"][0]["response"] == "x" * 1000


def test_a_receiver_that_never_comes_to_an_end_is_left_in_time(notifications_db, org_id, monkeypatch):
    def drop_by_drop():
        yield b"HTTP/1.1 2"
        while True:
            time.sleep(0.05)
            yield b"0"

    monkeypatch.setattr(webhooks, "SECONDS", 1.0)
    with FakeSite().running() as site:
        site.answers["/hook"] = drop_by_drop
        post = a_post(site.place)
        endpoint = an_endpoint(notifications_db, post, f"http://{site.place}/hook", org_id=org_id)
        with posting_on(notifications_db, post):
            tell(notifications_db, started(org_id))
            until(lambda: deliveries(notifications_db, endpoint, org_id=org_id)[0]["attempts"])

    ((attempt,),) = [item["attempts"] for item in deliveries(notifications_db, endpoint, org_id=org_id)]
    assert attempt["status"] is None
    assert 900 < attempt["duration_ms"] < 3000


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\x00\xff\r\n\r\n",
        b"HTTP/1.1 999999 Nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n\x00\x00",
        an_answer(b"\x00\xff NUL and worse", status="500 No"),
        b"HTTP/1.1 500 " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
def test_whatever_a_receiver_writes_is_an_attempt_and_nothing_breaks(notifications_db, org_id, answer):
    with FakeSite().running() as site:
        site.answers["/hook"] = answer
        post = a_post(site.place)
        endpoint = an_endpoint(notifications_db, post, f"http://{site.place}/hook", org_id=org_id)
        with posting_on(notifications_db, post):
            tell(notifications_db, started(org_id))
            until(lambda: deliveries(notifications_db, endpoint, org_id=org_id)[0]["attempts"])


def test_an_address_that_leads_inside_later_on_is_not_gone_to(notifications_db, receiver, org_id):
    address = ["127.0.0.1"]
    port = receiver.place.partition(":")[2]
    allowed = a_post(f"127.0.0.1:{port}", resolve=lambda _host, _seconds, **_: address)
    endpoint = an_endpoint(notifications_db, allowed, f"http://customer.example:{port}/hook", org_id=org_id)
    guarded = a_post(f"192.0.2.1:{port}", resolve=lambda _host, _seconds, **_: address)

    with posting_on(notifications_db, guarded):
        tell(notifications_db, started(org_id))
        until(lambda: deliveries(notifications_db, endpoint, org_id=org_id)[0]["attempts"])

    (delivery,) = deliveries(notifications_db, endpoint, org_id=org_id)
    assert delivery["status"] == "pending"
    assert delivery["attempts"][0]["status"] is None
    assert receiver.posted == []


def test_a_worker_that_dies_over_a_delivery_leaves_it_to_the_next_one(notifications_db, receiver, org_id, tamper):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    tell(notifications_db, started(org_id))
    with notifications_db.transaction() as session:
        (lost,) = claiming.claim(session, free=10, slow_free=10)

    with posting_on(notifications_db, post):
        end_leases(tamper)
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered"])
    posting.deliver(notifications_db, post, lost)

    (delivery,) = deliveries(notifications_db, endpoint, org_id=org_id)
    assert delivery["attempt"] == 2
    assert [each["number"] for each in delivery["attempts"]] == [2]
    assert len(receiver.posted) == 2
    assert len(set(ids(receiver))) == 1


def test_several_workers_send_each_delivery_once(notifications_db, receiver):
    organizations = [new_id("org") for _ in range(5)]
    post = a_post(receiver.place)
    for org_id in organizations:
        an_endpoint(notifications_db, post, receiver.url, org_id=org_id)

    with posting_on(notifications_db, post, workers=4):
        tell(notifications_db, *[started(organizations[number % 5]) for number in range(100)])
        until(lambda: len(set(ids(receiver))) == 100)
        until(lambda: not _under_way(notifications_db))

    assert len(receiver.posted) == 100


def test_a_test_event_arrives_and_is_in_no_log(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id, types=["JobFinished"])

    with posting_on(notifications_db, post):
        delivery = requested.test(notifications_db, org_id=org_id, endpoint_id=endpoint["id"])
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered"])

    (posted,) = receiver.posted
    event = Webhook(endpoint["secret"]).verify(posted.body, posted.headers)
    assert event["type"] == "WebhookTest"
    assert event["id"] == delivery["event_id"]
    assert delivery["cause"] == "test"


def test_events_are_replayed_by_id_and_by_range_under_their_ids(notifications_db, receiver, org_id):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id, types=["GenerationStarted"])
    items = [started(org_id), started(org_id), finished(org_id), started(org_id), started(org_id)]

    def replay(**chosen):
        asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}
        return requested.replay(notifications_db, **asked, chosen=Range(**chosen))["replayed"]

    with posting_on(notifications_db, post):
        tell(notifications_db, *items)
        until(lambda: len(receiver.posted) == 4)
        assert replay(event_id=items[0].meta.id) == 1
        until(lambda: len(receiver.posted) == 5)
        assert replay(after="1", until="4") == 2
        until(lambda: len(receiver.posted) == 7)

    assert ids(receiver)[4:] == [items[0].meta.id, *sorted([items[1].meta.id, items[3].meta.id])]
    causes = [item["cause"] for item in deliveries(notifications_db, endpoint, org_id=org_id)]
    assert causes == ["replay"] * 3 + ["event"] * 4


def test_deliveries_past_their_retention_are_deleted_and_those_that_wait_are_not(
    notifications_db, receiver, org_id, tamper
):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered"])
    tell(notifications_db, started(org_id))
    tamper("UPDATE webhook_deliveries SET ended_at = ended_at - interval '31 days'")

    recording.sweep(notifications_db, days=30)

    assert statuses(notifications_db, endpoint, org_id) == ["pending"]


def test_a_database_that_hangs_up_again_and_again_costs_no_delivery(notifications_db, receiver, tamper):
    organizations = [new_id("org") for _ in range(3)]
    post = a_post(receiver.place)
    for org_id in organizations:
        an_endpoint(notifications_db, post, receiver.url, org_id=org_id)
    items = [started(organizations[number % 3]) for number in range(60)]
    tell(notifications_db, *items)
    receiver.answer = lambda _posted: time.sleep(0.05) or (204, {}, b"")

    with posting_on(notifications_db, post, workers=2):
        for _ in range(8):
            seen = len(receiver.posted)
            until(lambda seen=seen: len(receiver.posted) > seen or not _under_way(notifications_db))
            tamper(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        end_leases(tamper)  # those claimed over a connection that broke
        until(lambda: not _open(notifications_db), seconds=30)

    assert set(ids(receiver)) == {item.meta.id for item in items}


def _open(db):
    with db.transaction() as session:
        return session.scalar(sa.text("SELECT count(*) FROM webhook_deliveries WHERE status <> 'delivered'"))


def test_a_secret_that_no_key_opens_any_more_stops_no_other_endpoint(notifications_db, receiver, org_id):
    lost = Post(outside=Outside(allowed=[receiver.place]), cipher=Cipher("l" * 40, purpose=posting.SECRETS))
    post = a_post(receiver.place)
    unreadable = an_endpoint(notifications_db, lost, receiver.url, org_id=org_id)
    readable = an_endpoint(notifications_db, post, receiver.url, org_id=org_id)

    with posting_on(notifications_db, post):
        tell(notifications_db, started(org_id))
        until(lambda: statuses(notifications_db, readable, org_id) == ["delivered"])
        until(lambda: deliveries(notifications_db, unreadable, org_id=org_id)[0]["attempts"])

    (delivery,) = deliveries(notifications_db, unreadable, org_id=org_id)
    assert delivery["status"] == "pending"
    assert delivery["attempts"][0]["error"] == "the secret cannot be read on our side"
    assert endpoint_now(notifications_db, unreadable, org_id=org_id)["failing_since"] is None
    assert len(receiver.posted) == 1


def test_an_event_that_is_no_longer_kept_is_given_up_and_the_next_one_sent(notifications_db, receiver, org_id, tamper):
    post = a_post(receiver.place)
    endpoint = an_endpoint(notifications_db, post, receiver.url, org_id=org_id, ordered=True)
    tell(notifications_db, started(org_id), started(org_id))
    tamper("DELETE FROM recorded_events WHERE sequence = 1")

    with posting_on(notifications_db, post):
        until(lambda: statuses(notifications_db, endpoint, org_id) == ["delivered", "failed"])

    assert [json.loads(posted.body)["orgsequence"] for posted in receiver.posted] == [2]


def test_a_new_key_in_front_of_the_old_one_changes_nothing_for_receivers(notifications_db, receiver, org_id):
    endpoint = an_endpoint(notifications_db, a_post(receiver.place), receiver.url, org_id=org_id)
    changed_keys = Cipher(f"{'n' * 40},{'e' * 40}", purpose=posting.SECRETS)

    with posting_on(notifications_db, Post(outside=Outside(allowed=[receiver.place]), cipher=changed_keys)):
        tell(notifications_db, started(org_id))
        until(lambda: receiver.posted)

    Webhook(endpoint["secret"]).verify(receiver.posted[0].body, receiver.posted[0].headers)


def _waiting_for_a_lock(db):
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with db.engine.connect() as connection:
        return connection.scalar(waiting)
