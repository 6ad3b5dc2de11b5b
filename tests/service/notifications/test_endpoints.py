"""Webhook endpoints as their organization manages them."""

import threading

import pytest
import sqlalchemy as sa

from services.notifications import endpoints, receivers, requested, webhooks
from services.notifications.requested import Range
from shared.ids import new_id
from shared.outside import UrlRefused
from shared.problems import BadRequest, Conflict, LimitExceeded, NotFound, PreconditionFailed
from tests.service.notifications.hooks import a_post, an_endpoint, deliveries, endpoint_now, tell
from tests.service.notifications.told import finished, started

URL = "https://customer.example/hook?key=theirs"


@pytest.fixture
def org_id():
    return new_id("org")


@pytest.fixture
def post():
    return a_post(resolve=lambda _host, _seconds, **_: ["93.184.216.34"])


@pytest.fixture
def endpoint(notifications_db, post, org_id):
    return an_endpoint(notifications_db, post, URL, org_id=org_id, types=["JobFinished"], description="Production")


def listed(db, org_id, **page):
    with db.transaction(org_id=org_id) as session:
        return receivers.endpoints(session, org_id=org_id, **page)


def test_the_secret_is_shown_once_and_kept_only_encrypted(notifications_db, endpoint, org_id):
    assert endpoint["secret"].startswith("whsec_")
    assert "secret" not in endpoint_now(notifications_db, endpoint, org_id=org_id)
    assert "secret" not in listed(notifications_db, org_id)["data"][0]
    with notifications_db.transaction() as session:
        kept = session.scalar(sa.text("SELECT webhook_endpoints::text FROM webhook_endpoints"))
    assert endpoint["secret"] not in kept
    assert endpoint["secret"].removeprefix("whsec_") not in kept


def test_an_endpoint_is_as_it_was_asked_for(notifications_db, endpoint, org_id):
    found = endpoint_now(notifications_db, endpoint, org_id=org_id)

    assert {name: found[name] for name in ("url", "types", "description", "ordered", "status", "version")} == {
        "url": URL,
        "types": ["JobFinished"],
        "description": "Production",
        "ordered": False,
        "status": "enabled",
        "version": 1,
    }


def test_asking_for_it_again_under_its_id_answers_alike(notifications_db, post, endpoint, org_id):
    wanted = endpoints.Wanted(org_id=org_id, endpoint_id=endpoint["id"], url=URL, types=["JobFinished"])

    assert endpoints.create(notifications_db, post, wanted) == endpoint
    assert len(listed(notifications_db, org_id)["data"]) == 1


def test_an_id_of_another_organization_is_taken(notifications_db, post, endpoint):
    wanted = endpoints.Wanted(org_id=new_id("org"), endpoint_id=endpoint["id"], url=URL)

    with pytest.raises(Conflict):
        endpoints.create(notifications_db, post, wanted)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/hook", "http://169.254.169.254/", "ftp://customer.example/", "http://a:b@c.example/", "x"]
)
def test_an_address_that_leads_inside_is_refused_when_it_is_given_and_when_it_is_changed(
    notifications_db, endpoint, org_id, url
):
    post = a_post()

    with pytest.raises(UrlRefused):
        an_endpoint(notifications_db, post, url, org_id=org_id)
    with pytest.raises(UrlRefused):
        endpoints.change(notifications_db, post, org_id=org_id, endpoint_id=endpoint["id"], url=url)

    assert [item["url"] for item in listed(notifications_db, org_id)["data"]] == [URL]


@pytest.mark.parametrize("types", [[], ["NoSuchEvent"], ["EventRecorded"], ["JobFinished", "ReservationOverdue"]])
def test_types_that_no_organization_sees_are_refused(notifications_db, post, org_id, types):
    with pytest.raises(BadRequest):
        an_endpoint(notifications_db, post, URL, org_id=org_id, types=types)


def test_an_organization_has_at_most_twenty_even_when_they_are_asked_for_at_once(notifications_db, post, org_id):
    outcomes = []

    def ask():
        try:
            outcomes.append(an_endpoint(notifications_db, post, URL, org_id=org_id)["id"])
        except LimitExceeded as problem:
            outcomes.append(problem.extra)

    threads = [threading.Thread(target=ask) for _ in range(23)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(listed(notifications_db, org_id, limit=200)["data"]) == 20
    assert [each for each in outcomes if isinstance(each, dict)] == [{"limit": 20, "excess": 1}] * 3


def test_changes_count_up_the_version_and_a_stale_one_is_told(notifications_db, post, endpoint, org_id):
    asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}

    changed = endpoints.change(notifications_db, post, **asked, version=1, types=None, ordered=True, description=None)
    with pytest.raises(PreconditionFailed) as told:
        endpoints.change(notifications_db, post, **asked, version=1, ordered=False)

    assert (changed["version"], changed["types"], changed["ordered"], changed["description"]) == (2, None, True, None)
    assert told.value.extra["current"] == changed


@pytest.mark.parametrize("field", ["secret", "org_id_of", "id", "version_", "failing_since"])
def test_only_what_may_be_changed_is_changed(notifications_db, post, endpoint, org_id, field):
    with pytest.raises(BadRequest):
        endpoints.change(notifications_db, post, org_id=org_id, endpoint_id=endpoint["id"], **{field: "x"})


def test_a_disabled_endpoint_gets_nothing_and_what_it_missed_can_be_replayed(notifications_db, post, endpoint, org_id):
    asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}
    tell(notifications_db, finished(org_id))

    disabled = endpoints.change(notifications_db, post, **asked, status="disabled")
    tell(notifications_db, finished(org_id), started(org_id))
    missed = [item["status"] for item in deliveries(notifications_db, endpoint, org_id=org_id)]
    with pytest.raises(Conflict):
        requested.test(notifications_db, **asked)
    with pytest.raises(Conflict):
        requested.replay(notifications_db, **asked, chosen=Range(after="0"))
    enabled = endpoints.change(notifications_db, post, **asked, status="enabled")
    replayed = requested.replay(notifications_db, **asked, chosen=Range(after="0"))

    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "requested")
    assert missed == ["cancelled"]
    assert (enabled["status"], enabled["disabled_reason"]) == ("enabled", None)
    assert replayed["replayed"] == 2


def test_a_deleted_endpoint_is_gone_with_all_that_was_on_its_way(notifications_db, endpoint, org_id):
    tell(notifications_db, finished(org_id))

    endpoints.delete(notifications_db, org_id=org_id, endpoint_id=endpoint["id"])

    assert listed(notifications_db, org_id)["data"] == []
    with notifications_db.transaction() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM webhook_deliveries")) == 0


def test_replays_are_of_something_and_of_a_bounded_number(notifications_db, endpoint, org_id, monkeypatch):
    asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}
    tell(notifications_db, *[finished(org_id) for _ in range(5)])
    monkeypatch.setattr(requested, "REPLAYED_MAX", 3)

    with pytest.raises(LimitExceeded) as told:
        requested.replay(notifications_db, **asked, chosen=Range(after="0"))
    with pytest.raises(NotFound):
        requested.replay(notifications_db, **asked, chosen=Range(event_id=new_id("evt")))
    for chosen in (Range(), Range(until="4"), Range(after="0", event_id="evt_1"), Range(after="x")):
        with pytest.raises(BadRequest):
            requested.replay(notifications_db, **asked, chosen=chosen)

    assert told.value.extra == {"limit": 3, "excess": 2}


def test_nobody_lets_ever_more_wait_for_a_receiver(notifications_db, endpoint, org_id, monkeypatch):
    asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}
    tell(notifications_db, *[finished(org_id) for _ in range(5)])
    monkeypatch.setattr(requested, "REPLAYED_MAX", 8)
    requested.replay(notifications_db, **asked, chosen=Range(after="3"))
    requested.test(notifications_db, **asked)

    with pytest.raises(LimitExceeded) as told:
        requested.replay(notifications_db, **asked, chosen=Range(after="3"))
    with pytest.raises(LimitExceeded):
        requested.test(notifications_db, **asked)
    tell(notifications_db, finished(org_id))

    assert told.value.extra == {"limit": 8, "excess": 2}
    assert len(deliveries(notifications_db, endpoint, org_id=org_id)) == 9  # what happens is never left out


@pytest.mark.parametrize("overlap_seconds", [-1, 7 * 86_400 + 1])
def test_an_old_secret_goes_on_for_a_week_at_most(notifications_db, post, endpoint, org_id, overlap_seconds):
    asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}

    with pytest.raises(BadRequest):
        endpoints.rotate(notifications_db, post, **asked, overlap_seconds=overlap_seconds)


def test_another_organization_finds_and_changes_nothing(notifications_db, post, endpoint, org_id):
    asked = {"org_id": new_id("org"), "endpoint_id": endpoint["id"]}
    tell(notifications_db, finished(org_id))

    for act in (
        lambda: endpoint_now(notifications_db, endpoint, org_id=asked["org_id"]),
        lambda: deliveries(notifications_db, endpoint, org_id=asked["org_id"]),
        lambda: endpoints.change(notifications_db, post, **asked, ordered=True),
        lambda: endpoints.change(notifications_db, post, **asked, url="http://127.0.0.1/refused"),
        lambda: endpoints.rotate(notifications_db, post, **asked),
        lambda: requested.test(notifications_db, **asked),
        lambda: requested.replay(notifications_db, **asked, chosen=Range(after="0")),
        lambda: endpoints.delete(notifications_db, **asked),
    ):
        with pytest.raises(NotFound):
            act()

    with notifications_db.transaction(org_id=asked["org_id"]) as session:
        for table in ("webhook_endpoints", "webhook_deliveries", "webhook_attempts"):
            assert session.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0


def test_deliveries_are_listed_newest_first_in_pages_and_by_status(notifications_db, endpoint, org_id):
    items = [finished(org_id) for _ in range(3)]
    tell(notifications_db, *items)

    with notifications_db.transaction(org_id=org_id) as session:
        asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}
        first = receivers.deliveries(session, **asked, limit=2)
        second = receivers.deliveries(session, **asked, limit=2, after=first["next_cursor"])
        delivered = receivers.deliveries(session, **asked, status="delivered")
        with pytest.raises(BadRequest):
            receivers.deliveries(session, **asked, status="lost")
        with pytest.raises(BadRequest):
            receivers.deliveries(session, **asked, after="1x")

    newest_first = [item.meta.id for item in reversed(items)]
    assert [item["event_id"] for page in (first, second) for item in page["data"]] == newest_first
    assert delivered["data"] == []


def test_a_rotation_that_is_asked_for_again_changes_nothing(notifications_db, post, endpoint, org_id):
    asked = {"org_id": org_id, "endpoint_id": endpoint["id"]}
    one, two = (webhooks.secret_of(new_id("rot"), signing_secret="s" * 40) for _ in range(2))

    first = endpoints.rotate(notifications_db, post, **asked, secret=one)
    again = endpoints.rotate(notifications_db, post, **asked, secret=one)
    second = endpoints.rotate(notifications_db, post, **asked, secret=two)

    assert again == first
    assert (first["secret"], second["secret"]) == (one, two)
    assert second["version"] == first["version"] + 1
    with pytest.raises(Conflict):
        endpoints.rotate(notifications_db, post, **asked, secret=one)


def test_the_secret_of_a_rotation_is_the_same_and_of_another_or_for_another_key_is_not():
    made = {webhooks.secret_of(rotation, signing_secret=key * 40) for rotation in ("rot_1", "rot_2") for key in "ab"}

    assert len(made) == 4
    assert webhooks.secret_of("rot_1", signing_secret="a" * 40) in made
