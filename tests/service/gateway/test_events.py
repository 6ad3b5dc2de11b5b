"""The log of events over HTTP: pages, the stream of it, and whose events whoever asks sees."""

import json
import time
from dataclasses import replace
from functools import partial

import pytest
import sqlalchemy as sa
from werkzeug.test import Client

from services.gateway.models import ApiKey
from services.gateway.streams import Streams, Wanted
from shared.http import Principal, application_of
from shared.problems import Forbidden, Unauthenticated, Unavailable
from tests.service.gateway.people import join


def test_a_page_of_the_log_is_of_the_organization_and_mode_of_who_asks(client, services, studio):
    org_id, headers = studio
    services.log(org_id)
    services.log(org_id, livemode=False)
    services.log("org_else")

    page = client.get("/v1/events?types=JobFinished,GenerationFailed&limit=2", headers=headers).json

    assert [each["id"] for each in page["data"]] == ["1"]
    assert services.notifications.asked("events") == [
        {
            "org_id": org_id,
            "livemode": True,
            "session_id": None,
            "job_id": None,
            "types": ["GenerationFailed", "JobFinished"],
            "after": "0",
            "limit": 2,
        }
    ]


def test_a_test_key_sees_what_test_keys_have_made(client, services, studio):
    org_id, headers = studio
    made = client.post("/v1/api-keys", json={"name": "CI", "livemode": False}, headers=headers).json
    test_key = {"Authorization": f"Bearer {made['secret']}"}
    services.log(org_id)
    services.log(org_id, livemode=False)

    assert [each["id"] for each in client.get("/v1/events", headers=test_key).json["data"]] == ["2"]
    assert client.get("/v1/notifications", headers=test_key).json["data"] == []
    client.get("/v1/activity", headers=test_key)
    assert services.notifications.asked("activity")[-1]["livemode"] is False


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "types=Nothing", "types=", "job=1", "limit=0", "limit=201", "foo=1"]
)
def test_what_cannot_be_asked_of_the_log_is_refused(client, studio, query):
    answer = client.get(f"/v1/events?{query}", headers=studio[1])

    assert (answer.status_code, answer.json["code"]) == (400, "validation_failed")


def test_the_story_is_told_by_the_clock_of_who_asks(client, services, studio):
    org_id, headers = studio

    answer = client.get("/v1/activity?timezone=Europe/Berlin&session=ses_1", headers=headers)

    assert answer.status_code == 200
    asked = services.notifications.asked("activity")[-1]
    assert (asked["org_id"], asked["timezone"], asked["session_id"]) == (org_id, "Europe/Berlin", "ses_1")


def followed(client, headers, query="", **more):
    """Begin to follow; return the answer and its pieces."""
    answer = client.get(f"/v1/events/stream{query}", headers={**headers, **more}, buffered=False)
    return answer, answer.iter_encoded()


@pytest.fixture
def follow(gateway):
    """Follow by a client that does not wait for the end of what it is sent."""
    plain = Client(application_of(gateway))
    return lambda headers, query="", **more: followed(plain, headers, query, **more)


def test_a_stream_begins_with_what_was_missed_and_is_not_held_back_on_its_way(follow, services, studio):
    org_id, headers = studio
    services.log(org_id)
    services.log(org_id)

    answer, pieces = follow(headers, "?after=0", **{"Last-Event-ID": "1"})

    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert (answer.headers["X-Accel-Buffering"], answer.headers["Cache-Control"]) == ("no", "no-store")
    first = next(pieces).decode()
    assert first.startswith("retry: ")
    assert "id: 2\nevent: JobFinished\ndata: " in first
    assert json.loads(first.partition("data: ")[2]) == services.logged[1]["event"]
    answer.close()


def test_a_stream_passes_on_what_is_heard(follow, gateway, services, studio):
    org_id, headers = studio
    answer, pieces = follow(headers)
    next(pieces)

    gateway.streams.heard(services.log(org_id))

    assert next(pieces).startswith(b"id: 1\n")
    answer.close()
    assert gateway.streams.all() == []


def test_one_stream_too_many_is_refused(follow, gateway, studio):
    gateway.streams = Streams(per_organization=1)
    first, pieces = follow(studio[1])
    next(pieces)

    second, _ = follow(studio[1])

    assert (second.status_code, second.json["code"]) == (429, "too_many_streams")
    assert second.headers["Retry-After"] == "10"
    first.close()


def test_the_stream_is_refused_where_the_log_does_not_answer(client, services, studio):
    services.notifications.down = True

    answer = client.get("/v1/events/stream", headers=studio[1])

    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")


def ended(gateway, stream):
    gateway.watch.look(gateway.db, gateway.streams)
    return stream.closed


def test_a_revoked_key_ends_its_stream_and_no_other(follow, client, gateway, studio):
    _, headers = studio
    made = client.post("/v1/api-keys", json={"name": "CI"}, headers=headers).json
    revoked, pieces = follow({"Authorization": f"Bearer {made['secret']}"})
    next(pieces)
    other, pieces_of_other = follow(headers)
    next(pieces_of_other)
    assert len(gateway.streams.all()) == 2
    [stream] = [one for one in gateway.streams.all() if one.wanted.asker.id == made["id"]]
    assert not ended(gateway, stream)

    client.delete(f"/v1/api-keys/{made['id']}", headers=headers)

    assert ended(gateway, stream)
    assert list(pieces) == []
    assert len(gateway.streams.all()) == 1
    revoked.close()
    other.close()


@pytest.mark.parametrize("how", ["logout", "removal"])
def test_a_person_who_has_left_follows_nothing(follow, client, gateway, studio, how):
    user_id, person = join(client, studio[1])
    answer, pieces = follow(person)
    next(pieces)
    [stream] = gateway.streams.all()
    assert not ended(gateway, stream)

    if how == "logout":
        client.post("/v1/auth/logout", headers=person)
    else:
        client.delete(f"/v1/members/{user_id}", headers=studio[1])

    assert ended(gateway, stream)
    answer.close()


def test_a_key_that_expires_ends_its_stream(follow, gateway, studio):
    answer, pieces = follow(studio[1])
    next(pieces)
    [stream] = gateway.streams.all()

    with gateway.db.transaction() as session:
        session.execute(sa.update(ApiKey).values(expires_at=sa.text("now() - interval '1 second'")))

    assert ended(gateway, stream)
    answer.close()


def test_streams_end_where_nobody_can_tell_whose_credentials_are_good(follow, gateway, studio, monkeypatch):
    answer, pieces = follow(studio[1])
    next(pieces)
    [stream] = gateway.streams.all()

    def down(**_):
        raise ConnectionError

    monkeypatch.setattr(gateway.db, "transaction", down)
    with pytest.raises(ConnectionError):
        ended(gateway, stream)
    assert not stream.closed
    monkeypatch.setattr("services.gateway.watching.UNKNOWN_SECONDS", -1.0)
    with pytest.raises(ConnectionError):
        ended(gateway, stream)

    assert stream.closed
    answer.close()


def test_a_process_that_ends_lets_its_streams_end(gateway, studio):
    application = application_of(gateway)
    answer, pieces = followed(Client(application), studio[1])
    next(pieces)
    began = time.monotonic()

    application.close()

    assert list(pieces) == []
    assert time.monotonic() - began < 2
    late, pieces = followed(Client(application), studio[1])
    assert len(list(pieces)) <= 1
    answer.close()
    late.close()


@pytest.mark.parametrize(
    ("problem", "ends"), [(None, False), (Unauthenticated, True), (Forbidden, True), (Unavailable, False)]
)
def test_a_token_of_the_identity_provider_is_asked_about_again(gateway, problem, ends):
    def recheck():
        if problem:
            raise problem
        return asker

    asker = Principal(kind="oidc", id="usr_1", name="Ada", org_id="org_1", user_id="usr_1", role="owner")
    chosen = {"types": None, "session_id": None, "job_id": None}
    stream = gateway.streams.open(Wanted(asker=asker, org_id="org_1", after=None, chosen=chosen, recheck=recheck))
    stream.open()

    assert ended(gateway, stream) == ends


@pytest.mark.parametrize("elsewhere", [{"org_id": "org_2", "user_id": "usr_2"}, {"user_id": "usr_2"}])
def test_a_token_that_is_somebody_elses_by_now_ends_the_stream(gateway, elsewhere):
    asker = Principal(kind="oidc", id="usr_1", name="Ada", org_id="org_1", user_id="usr_1", role="owner")
    chosen = {"types": None, "session_id": None, "job_id": None}
    recheck = partial(replace, asker, **elsewhere)
    stream = gateway.streams.open(Wanted(asker=asker, org_id="org_1", after=None, chosen=chosen, recheck=recheck))
    stream.open()

    assert ended(gateway, stream)
