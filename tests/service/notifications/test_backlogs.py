"""A receiver with a backlog of any size costs the others nothing."""

import json

import pytest
import sqlalchemy as sa

from services.notifications import claiming, endpoints
from shared.ids import new_id
from tests.service.notifications.hooks import a_post, an_endpoint, deliveries, tell
from tests.service.notifications.told import started

BACKLOG = 30_000
URL = "https://customer.example/hook"
# What PostgreSQL had to look at to say what is due: the rows each step of the plan gave or threw away.
_LOOKED_AT = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")


@pytest.fixture
def post():
    return a_post(resolve=lambda _host, _seconds, **_: ["93.184.216.34"])


@pytest.fixture
def org_id():
    return new_id("org")


@pytest.fixture
def backlog(tamper):
    """Return a function that lets an endpoint have a backlog; ``due`` is when, in SQL."""

    def make(endpoint, org_id, *, due):
        tamper(
            "INSERT INTO webhook_deliveries (org_id, endpoint_id, event_id, type, sequence, cause, due_at, attempt)"
            f" SELECT '{org_id}', '{endpoint['id']}', 'evt_' || n, 'GenerationStarted', n, 'event', {due}, 1"
            f" FROM generate_series(1, {BACKLOG}) AS n",
            "ANALYZE webhook_deliveries",
        )

    return make


def looked_at(plan):
    loops = plan.get("Actual Loops", 1)
    return sum(plan.get(name, 0) for name in _LOOKED_AT) * loops + sum(map(looked_at, plan.get("Plans", ())))


def cost_of_a_claim(db):
    """Return how many rows a claim looks at."""
    explained = sa.text("EXPLAIN (ANALYZE, FORMAT JSON) " + str(claiming._CLAIM))  # noqa: SLF001  the statement itself
    values = {"free": 64, "slow_free": 32, "per_endpoint": 4, "per_organization": 16, "lease": 60.0}
    with db.transaction() as session:
        found = session.execute(explained, values).scalar_one()
    (plan,) = json.loads(found) if isinstance(found, str) else found
    return looked_at(plan["Plan"])


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("due", ["now() - interval '1 hour'", "now() + interval '1 hour'"], ids=["due", "waiting"])
def test_a_claim_does_not_read_a_backlog(notifications_db, post, org_id, backlog, due, ordered):
    endpoint = an_endpoint(notifications_db, post, URL, org_id=org_id, ordered=ordered)
    other = an_endpoint(notifications_db, post, URL, org_id=new_id("org"))
    backlog(endpoint, org_id, due=due)

    assert 0 < cost_of_a_claim(notifications_db) < 500
    assert other["status"] == "enabled"


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
