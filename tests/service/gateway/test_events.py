"""The log of events over HTTP: pages, the stream of it, and whose events whoever asks sees."""

import json
import time

import pytest
from werkzeug.test import Client

from services.gateway.streams import Streams
from shared.http import application_of
from tests.service.gateway.following import followed


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
