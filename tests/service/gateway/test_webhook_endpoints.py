"""Webhook endpoints over HTTP: made once, changed as they were seen, for owners."""

import pytest

from tests.service.gateway.people import join

PATH = "/v1/webhook-endpoints"


@pytest.fixture
def endpoint(client, studio):
    return client.post(PATH, json={"url": "https://example.com/hook"}, headers=studio[1]).json


def test_an_endpoint_is_made_once_and_its_secret_is_shown_then_alone(client, services, studio):
    org_id, headers = studio
    body = {"url": "https://example.com/hook", "types": ["JobFinished"], "ordered": True}
    keyed = {**headers, "Idempotency-Key": "one"}

    first, again = (client.post(PATH, json=body, headers=keyed) for _ in range(2))

    assert (first.status_code, first.json["secret"]) == (201, "whsec_first")
    assert first.headers["Cache-Control"] == "no-store"
    assert again.json == first.json
    [made] = services.endpoints.values()
    assert (made["org_id"], made["types"], made["ordered"]) == (org_id, ["JobFinished"], True)
    [listed] = client.get(PATH, headers=headers).json["data"]
    assert "secret" not in listed
    assert "secret" not in client.get(f"{PATH}/{listed['id']}", headers=headers).json


@pytest.mark.parametrize(
    "body",
    [{}, {"url": ""}, {"url": "https://e.com", "types": []}, {"url": "https://e.com", "types": ["Nothing"]}],
)
def test_what_is_no_endpoint_is_refused(client, services, studio, body):
    assert client.post(PATH, json=body, headers=studio[1]).status_code == 400
    assert services.endpoints == {}


def test_an_endpoint_is_changed_only_as_it_was_seen(client, studio, endpoint):
    path = f"{PATH}/{endpoint['id']}"
    tag = client.get(path, headers=studio[1]).headers["ETag"]

    first, second = (
        client.patch(path, json={"status": status}, headers={**studio[1], "If-Match": tag})
        for status in ("disabled", "enabled")
    )

    assert (first.status_code, second.status_code) == (200, 412)
    assert second.json["current"]["status"] == "disabled"
    assert "secret" not in second.json["current"]


def test_a_change_in_between_is_told(client, services, studio, endpoint, monkeypatch):
    path = f"{PATH}/{endpoint['id']}"
    tag = client.get(path, headers=studio[1]).headers["ETag"]
    real = services.notifications.methods["change_endpoint"]

    def after_another(**asked):
        services.endpoints[endpoint["id"]]["version"] += 1
        return real(**asked)

    monkeypatch.setitem(services.notifications.methods, "change_endpoint", after_another)

    answer = client.patch(path, json={"ordered": True}, headers={**studio[1], "If-Match": tag})

    assert (answer.status_code, answer.json["current"]["version"]) == (412, 2)


def test_an_endpoint_is_tested_replayed_to_given_a_secret_and_deleted(client, services, studio, endpoint):
    path, headers = f"{PATH}/{endpoint['id']}", studio[1]

    tested = client.post(f"{path}/test", headers=headers)
    replayed = client.post(f"{path}/replay", json={"after": "0", "until": "9"}, headers=headers)
    rotated = client.post(f"{path}/rotate", json={"overlap_seconds": 60}, headers=headers)
    deliveries = client.get(f"{path}/deliveries?status=pending", headers=headers)
    deleted = client.delete(path, headers=headers)

    assert (tested.status_code, tested.json["type"]) == (202, "WebhookTest")
    assert (replayed.status_code, replayed.json["replayed"]) == (202, 1)
    assert (rotated.status_code, rotated.json["secret"][:10]) == (200, "whsec_rot_")
    assert rotated.headers["Cache-Control"] == "no-store"
    assert len(deliveries.json["data"]) == 1
    assert (deleted.status_code, services.endpoints) == (204, {})
    assert client.get(path, headers=headers).status_code == 404


def test_only_owners_have_events_sent_anywhere(client, services, studio):
    for role in ("editor", "viewer"):
        _, person = join(client, studio[1], email=f"{role}@example.com", role=role)
        answer = client.post(PATH, json={"url": "https://example.com"}, headers=person)
        assert answer.status_code == 403
    assert services.endpoints == {}


def test_a_secret_that_is_asked_for_again_is_the_same(client, studio, endpoint):
    path = f"{PATH}/{endpoint['id']}/rotate"
    secrets = [
        client.post(path, json={}, headers={**studio[1], "Idempotency-Key": key}).json["secret"]
        for key in ("one", "one", "two")
    ]

    assert secrets[0] == secrets[1] != secrets[2]


@pytest.mark.parametrize(("kind", "body"), [("test", None), ("replay", {"after": "0"})])
def test_what_is_sent_again_with_its_key_is_done_once(client, services, studio, endpoint, kind, body):
    path = f"{PATH}/{endpoint['id']}/{kind}"
    headers = {**studio[1], "Idempotency-Key": "one"}

    first, again = (client.post(path, json=body, headers=headers) for _ in range(2))

    assert (first.status_code, again.json) == (202, first.json)
    asked = services.notifications.asked("test_endpoint") + services.notifications.asked("replay")
    assert len(asked) == 1
