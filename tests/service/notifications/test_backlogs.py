"""A receiver with a backlog of any size costs the others nothing."""

import pytest
import sqlalchemy as sa

from services.notifications import claiming, endpoints, receivers, requested
from shared.ids import new_id
from shared.problems import LimitExceeded
from tests.service.notifications.costs import rows_read
from tests.service.notifications.hooks import a_post, an_endpoint, deliveries, tell
from tests.service.notifications.told import started

BACKLOG = 30_000
URL = "https://customer.example/hook"


@pytest.fixture
def post():
    return a_post(resolve=lambda _host, _seconds, **_: ["93.184.216.34"])


@pytest.fixture
def org_id():
    return new_id("org")


@pytest.fixture
def backlog(tamper):
    """Return a function that lets an endpoint have a backlog; ``due`` is when, in SQL."""

    def make(endpoint, org_id, *, due, size=BACKLOG):
        tamper(
            "INSERT INTO webhook_deliveries (org_id, endpoint_id, event_id, type, sequence, cause, due_at, attempt)"
            f" SELECT '{org_id}', '{endpoint['id']}', 'evt_' || n, 'GenerationStarted', n, 'event', {due}, 1"
            f" FROM generate_series(1, {size}) AS n",
            "ANALYZE webhook_deliveries",
        )

    return make


def cost_of_a_claim(db):
    """Return how many rows a claim looks at."""
    return rows_read(db, lambda session: claiming.claim(session, free=64, slow_free=32))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("due", ["now() - interval '1 hour'", "now() + interval '1 hour'"], ids=["due", "waiting"])
def test_a_claim_does_not_read_a_backlog(notifications_db, post, org_id, backlog, due, ordered):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id, ordered=ordered)
    other = an_endpoint(notifications_db, post, URL, org_id=new_id("org"))
    backlog(endpoint, org_id, due=due)

    assert 0 < cost_of_a_claim(notifications_db) < 500
    assert other["status"] == "enabled"


@pytest.mark.parametrize("ordered", [False, True])
def test_a_claim_does_not_read_what_waits_behind_a_delivery_that_is_to_be_tried_again(
    notifications_db, post, org_id, backlog, ordered
):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id, ordered=ordered)
    first_waits = "CASE n WHEN 1 THEN now() + interval '1 hour' ELSE now() - interval '1 hour' END"
    backlog(endpoint, org_id, due=first_waits, size=100_000)
    claimed = []

    cost = rows_read(notifications_db, lambda session: claimed.extend(claiming.claim(session, free=64, slow_free=32)))

    assert [item.event_id for item in claimed] == ([] if ordered else ["evt_2"])
    assert 0 < cost < 500


def test_an_endpoint_that_is_ordered_from_now_on_gets_nothing_beside_what_is_under_way(
    notifications_db, post, org_id, tamper
):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id)
    tamper(f"UPDATE webhook_endpoints SET slow = false WHERE id = '{endpoint['id']}'")
    tell(notifications_db, *[started(org_id) for _ in range(3)])
    with notifications_db.transaction() as session:
        first, second, _ = claiming.claim(session, free=3, slow_free=3)
    tamper(f"UPDATE webhook_deliveries SET lease_until = NULL WHERE id = {first.id}")

    endpoints.change(notifications_db, post, org_id=org_id, endpoint_id=endpoint["id"], ordered=True)
    with notifications_db.transaction() as session:
        beside = claiming.claim(session, free=3, slow_free=3)
    tamper(f"UPDATE webhook_deliveries SET lease_until = NULL WHERE id >= {second.id}")
    with notifications_db.transaction() as session:
        after = claiming.claim(session, free=3, slow_free=3)

    assert beside == []
    assert [item.id for item in after] == [first.id]


def test_an_endpoint_is_disabled_and_its_backlog_cancelled_some_at_a_time(
    notifications_db, post, org_id, backlog, monkeypatch
):
    monkeypatch.setattr(claiming, "CANCELLED_AT_ONCE", 20_000)
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id)
    backlog(endpoint, org_id, due="now()")

    endpoints.change(notifications_db, post, org_id=org_id, endpoint_id=endpoint["id"], status="disabled")
    with notifications_db.transaction() as session:
        claimed = claiming.claim(session, free=10, slow_free=10)
        cancelled = [claiming.cancel_for_disabled(session) for _ in range(2)]

    assert claimed == []
    assert cancelled == [BACKLOG - 20_000, 0]


def test_what_is_on_its_way_to_others_is_not_cancelled(notifications_db, post, org_id):
    off, on = (an_endpoint(notifications_db, post, URL, org_id=org_id) for _ in range(2))
    tell(notifications_db, started(org_id))

    endpoints.change(notifications_db, post, org_id=org_id, endpoint_id=off["id"], status="disabled")
    with notifications_db.transaction() as session:
        claiming.cancel_for_disabled(session)

    assert [item["status"] for item in deliveries(notifications_db, off, org_id=org_id)] == ["cancelled"]
    assert [item["status"] for item in deliveries(notifications_db, on, org_id=org_id)] == ["pending"]


def test_an_endpoint_is_deleted_with_a_backlog_of_any_size(notifications_db, post, org_id, backlog):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id)
    backlog(endpoint, org_id, due="now()")

    endpoints.delete(notifications_db, org_id=org_id, endpoint_id=endpoint["id"])

    with notifications_db.transaction() as session:
        for table in ("webhook_endpoints", "webhook_deliveries"):
            assert session.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0


def test_events_are_recorded_while_an_endpoint_is_being_changed(notifications_db, post, org_id):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id)

    with notifications_db.transaction(org_id=org_id) as session:
        receivers.found(session, org_id=org_id, endpoint_id=endpoint["id"], lock=True)
        tell(notifications_db, started(org_id))

    assert len(deliveries(notifications_db, endpoint, org_id=org_id)) == 1


def test_a_replay_of_too_much_is_refused_without_counting_to_the_end(
    notifications_db, post, org_id, tamper, monkeypatch
):
    monkeypatch.setattr(requested, "REPLAYED_MAX", 10)
    monkeypatch.setattr(requested, "_COUNTED_MAX", 100)
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id)
    tamper(
        "INSERT INTO recorded_events (org_id, sequence, event_id, type, body)"
        f" SELECT '{org_id}', n, 'evt_' || n, 'GenerationStarted', '{{}}' FROM generate_series(1, {BACKLOG}) AS n",
        "ANALYZE recorded_events",
    )

    def replay(_session):
        with pytest.raises(LimitExceeded) as told:
            requested.replay(
                notifications_db, org_id=org_id, endpoint_id=endpoint["id"], chosen=requested.Range(after="0")
            )
        assert told.value.extra == {"limit": 10, "excess": 90}

    assert rows_read(notifications_db, replay) < 500


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_few_deliveries_that_failed_are_found_among_many_that_arrived(notifications_db, post, org_id, tamper, status):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id)
    tamper(
        "INSERT INTO webhook_deliveries (org_id, endpoint_id, event_id, type, sequence, cause, status, ended_at)"
        f" SELECT '{org_id}', '{endpoint['id']}', 'evt_' || n, 'GenerationStarted', n, 'event',"
        f" CASE n WHEN 7 THEN '{status}' ELSE 'delivered' END, now() FROM generate_series(1, {BACKLOG}) AS n",
        "ANALYZE webhook_deliveries",
    )
    found = []

    cost = rows_read(
        notifications_db,
        lambda session: found.append(
            receivers.deliveries(session, org_id=org_id, endpoint_id=endpoint["id"], status=status)
        ),
        org_id=org_id,
    )

    assert [item["event_id"] for item in found[0]["data"]] == ["evt_7"]
    assert cost < 500
