"""The routes of staging sessions and saved styles: what they hand on, whom they let, what they refuse themselves."""

import pytest

from shared.ids import new_id
from shared.problems import PreconditionFailed, StepNotAllowed
from tests.service.gateway.people import bearer, join

STYLED = {"style": "modern", "room_type": "bedroom"}


def keyed(headers):
    return {**headers, "Idempotency-Key": new_id("key")}


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def a_session(client, studio, an_upload):
    """Begin a session and give it as it was answered."""

    def make(**fields):
        body = {"upload_id": an_upload(studio[0]), "room_state": "generate_empty", **fields}
        answer = client.post("/v1/staging-sessions", json=body, headers=studio[1])
        assert answer.status_code == 201, answer.text
        return answer.json

    return make


def test_a_session_is_begun_on_a_snapshot_of_the_upload(client, services, studio, an_upload):
    org_id, headers = studio
    upload_id = an_upload(org_id)
    body = {"upload_id": upload_id, "room_state": "already_empty", "name": "Elm Street 4", "style": "rustic"}

    answer = client.post("/v1/staging-sessions", json=body, headers=headers)

    [asked] = services.generation.asked("create_staging_session")
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v1/staging-sessions/{asked['session_id']}")
    assert (asked["asset"]["key"], asked["room_state"]) == (services.assets[upload_id]["key"], "already_empty")
    assert (asked["org_id"], asked["livemode"], asked["style"], asked["room_type"]) == (org_id, True, "rustic", None)
    assert answer.json["original_url"].startswith("http://files.test/files/assets/")
    assert "original_key" not in answer.json


def test_one_key_begins_one_session(client, services, studio, an_upload):
    body = {"upload_id": an_upload(studio[0]), "room_state": "already_empty"}
    headers = {**studio[1], "Idempotency-Key": "k"}

    first, again = (client.post("/v1/staging-sessions", json=body, headers=headers) for _ in range(2))

    assert first.json == again.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(services.sessions) == 1


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"room_state": "messy"}, "/room_state"),
        ({"upload_id": "1"}, "/upload_id"),
        ({"style": "gothic"}, "/style"),
        ({"style": "sty_1"}, "/style"),
        ({"room_type": "moon"}, "/room_type"),
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"extra": 1}, "/extra"),
    ],
)
def test_a_session_that_makes_no_sense_is_refused_by_its_place(client, services, studio, an_upload, wrong, pointer):
    body = {"upload_id": an_upload(studio[0]), "room_state": "already_empty", **wrong}

    answer = client.post("/v1/staging-sessions", json=body, headers=studio[1])

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)
    assert services.sessions == {}


def test_a_session_on_an_upload_that_is_not_there_is_not_begun(client, services, headers):
    body = {"upload_id": new_id("ast"), "room_state": "already_empty"}

    answer = client.post("/v1/staging-sessions", json=body, headers=headers)

    assert answer.status_code == 404
    assert services.sessions == {}


@pytest.mark.parametrize(
    ("path", "body", "method", "given"),
    [
        ("empty-rooms", {"retry_number": 2}, "generate_empty_room", {"retry_number": 2}),
        ("stagings", STYLED, "stage_session", {"inputs": {**STYLED, "variants": 2}}),
    ],
)
def test_a_paid_step_is_handed_over_as_a_job_of_the_asker(
    client, services, studio, a_session, path, body, method, given
):
    session_id = a_session()["id"]

    answer = client.post(f"/v1/staging-sessions/{session_id}/{path}", json=body, headers=keyed(studio[1]))

    [asked] = services.generation.asked(method)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    assert answer.json["balance"]["available"] == 80
    assert {name: asked[name] for name in given} == given
    assert (asked["session_id"], asked["job_id"], asked["org_id"]) == (session_id, answer.json["id"], studio[0])
    assert (asked["on_insufficient"], asked["dry_run"], asked["daily_cap"]) == ("reject", False, None)


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("empty-rooms", {}, "/retry_number"),
        ("empty-rooms", {"retry_number": -1}, "/retry_number"),
        ("empty-rooms", {"retry_number": "1"}, "/retry_number"),
        ("empty-rooms", {"retry_number": 1, "free": True}, "/free"),
        ("stagings", {**STYLED, "style": "gothic"}, "/style"),
        ("stagings", {**STYLED, "room_type": "moon"}, "/room_type"),
        ("stagings", {**STYLED, "variants": 9}, "/variants"),
    ],
)
def test_a_step_that_makes_no_sense_never_reaches_generation(client, services, headers, a_session, path, body, pointer):
    session_id = a_session()["id"]
    services.generation.calls.clear()

    answer = client.post(f"/v1/staging-sessions/{session_id}/{path}", json=body, headers=keyed(headers))

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)
    assert services.generation.calls == []


def test_a_dry_run_needs_no_key_and_takes_no_step(client, services, headers, a_session):
    session_id = a_session()["id"]
    body = {"retry_number": 0, "dry_run": True}

    answer = client.post(f"/v1/staging-sessions/{session_id}/empty-rooms", json=body, headers=headers)

    assert (answer.status_code, answer.json["dry_run"]) == (200, True)
    assert services.jobs == {}


def test_an_illegal_step_is_told_with_what_is_allowed(client, services, headers, a_session):
    session_id = a_session()["id"]
    allowed = ["select_empty_room"]
    services.refusal = StepNotAllowed(
        "An empty room is being generated.", session_status="generating", allowed=allowed, next_retry_number=1
    )

    answer = client.post(
        f"/v1/staging-sessions/{session_id}/empty-rooms", json={"retry_number": 0}, headers=keyed(headers)
    )

    assert (answer.status_code, answer.json["code"]) == (409, "step_not_allowed")
    assert (answer.json["session_status"], answer.json["allowed"]) == ("generating", allowed)
    assert answer.json["next_retry_number"] == 1


def test_a_key_for_other_workflows_takes_no_paid_step(client, services, headers, a_session):
    session_id = a_session()["id"]
    limited = client.post("/v1/api-keys", json={"name": "CI", "workflows": ["staging"]}, headers=headers).json["secret"]
    address = f"/v1/staging-sessions/{session_id}"

    empty = client.post(f"{address}/empty-rooms", json={"retry_number": 0}, headers=keyed(bearer(limited)))
    staged = client.post(f"{address}/stagings", json=STYLED, headers=keyed(bearer(limited)))

    assert (empty.status_code, staged.status_code) == (403, 202)
    assert services.generation.asked("generate_empty_room") == []


CHANGES = {
    "PATCH ": {"name": "Oak Lane 2"},
    "POST /lock": {},
    "DELETE ": None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_is_changed_only_as_it_was_seen(client, headers, a_session, change):
    method, _, rest = change.partition(" ")
    address = f"/v1/staging-sessions/{a_session()['id']}"
    tag = client.get(address, headers=headers).headers["ETag"]
    options = {"method": method, "json": CHANGES[change]}

    stale = client.open(address + rest, headers={**headers, "If-Match": '"7-other"'}, **options)
    seen = client.open(address + rest, headers={**headers, "If-Match": tag}, **options)

    assert (stale.status_code, stale.json["current"]["version"], stale.json["etag"]) == (412, 1, tag)
    assert seen.status_code in {200, 204}


def test_what_changes_between_look_and_change_is_not_changed(client, services, headers, a_session, monkeypatch):
    session = a_session()
    address = f"/v1/staging-sessions/{session['id']}"
    tag = client.get(address, headers=headers).headers["ETag"]
    real = services.generation.methods["change_staging_session"]

    def after_another(**given):
        services.sessions[session["id"]].update(name="Theirs", version=2)
        return real(**given)

    monkeypatch.setitem(services.generation.methods, "change_staging_session", after_another)
    answer = client.patch(address, json={"name": "Mine"}, headers={**headers, "If-Match": tag})

    assert (answer.status_code, answer.json["current"]["name"]) == (412, "Theirs")


def test_without_if_match_any_version_is_changed(client, services, headers, a_session):
    address = f"/v1/staging-sessions/{a_session()['id']}"

    assert client.patch(address, json={"style": None, "name": "Now"}, headers=headers).json["name"] == "Now"
    assert services.generation.asked("change_staging_session")[0]["only_versions"] is None


def test_generation_itself_decides_about_versions(client, services, headers, a_session, monkeypatch):
    session = a_session()

    def refuse(**_given):
        services.sessions[session["id"]]["version"] = 9
        raise PreconditionFailed

    monkeypatch.setitem(services.generation.methods, "delete_staging_session", refuse)
    answer = client.delete(
        f"/v1/staging-sessions/{session['id']}", headers={**headers, "If-Match": f'"{session["version"]}-x"'}
    )

    assert (answer.status_code, answer.json["current"]["version"]) == (412, 9)


def test_only_an_owner_deletes_a_session(client, services, headers, a_session):
    session_id = a_session()["id"]
    _, editor = join(client, headers, role="editor")

    refused = client.delete(f"/v1/staging-sessions/{session_id}", headers=editor)
    done = client.delete(f"/v1/staging-sessions/{session_id}", headers=headers)

    assert (refused.status_code, done.status_code) == (403, 204)
    assert services.sessions == {}


def test_who_waits_for_a_session_at_work_is_told_when_to_ask_again(client, services, headers, a_session):
    session_id = a_session()["id"]
    address = f"/v1/staging-sessions/{session_id}"

    assert "Retry-After" not in client.get(address, headers=headers).headers
    services.sessions[session_id]["status"] = "staging"
    assert client.get(address, headers=headers).headers["Retry-After"] == "5"


def test_images_of_a_session_have_addresses_for_keys(client, services, headers, a_session):
    session_id = a_session()["id"]
    job = client.post(
        f"/v1/staging-sessions/{session_id}/empty-rooms", json={"retry_number": 0}, headers=keyed(headers)
    ).json
    services.finish(job["id"])
    attempt = {**services.jobs[job["id"]]["generations"][0], "job_id": job["id"], "retry_number": 0}
    services.sessions[session_id]["empty_rooms"] = [attempt]

    for shown in (
        client.get(f"/v1/staging-sessions/{session_id}", headers=headers).json,
        client.get("/v1/staging-sessions", headers=headers).json["data"][0],
    ):
        [image] = shown["empty_rooms"][0]["images"]
        assert image["url"].startswith("http://files.test/files/images/")
        assert "key" not in image
        assert "internal_cost" not in image["provenance"]


def test_the_first_page_shows_the_newest_sessions_and_what_comes_next(client, services, headers, a_session):
    session_id = a_session()["id"]

    shown = client.get("/v1/dashboard", headers=headers).json["sessions"]

    assert [one["id"] for one in shown] == [session_id]
    assert shown[0]["next_actions"][0]["action"] == "generate_empty_room"
    assert "empty_rooms" not in shown[0]
    assert services.generation.asked("staging_sessions")[0]["attempts"] == 0


def test_a_style_is_saved_listed_changed_and_deleted(client, services, headers):
    body = {"name": "Summer", "base": "coastal", "words": "olive trees", "colours": ["#1D8C3A"]}

    made = client.post("/v1/styles", json=body, headers=headers)
    address = f"/v1/styles/{made.json['id']}"
    tag = client.get(address, headers=headers).headers["ETag"]
    changed = client.patch(address, json={"words": "lemons"}, headers={**headers, "If-Match": tag})
    stale = client.delete(address, headers={**headers, "If-Match": tag})
    listed = client.get("/v1/styles", headers=headers).json["data"]
    gone = client.delete(address, headers=headers)

    assert (made.status_code, made.headers["Location"]) == (201, address)
    assert (changed.json["words"], changed.json["colours"]) == ("lemons", ["#1D8C3A"])
    assert (stale.status_code, stale.json["current"]["version"]) == (412, 2)
    assert [one["id"] for one in listed] == [made.json["id"]]
    assert (gone.status_code, services.styles) == (204, {})


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"base": "gothic"}, "/base"),
        ({"base": new_id("sty")}, "/base"),
        ({"name": " "}, "/name"),
        ({"words": "a" * 501}, "/words"),
        ({"colours": ["green"]}, "/colours/0"),
        ({"colours": ["#123456"] * 5}, "/colours"),
    ],
)
def test_a_style_that_makes_no_sense_is_refused_by_its_place(client, services, headers, wrong, pointer):
    answer = client.post("/v1/styles", json={"name": "Summer", "base": "coastal", **wrong}, headers=headers)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)
    assert services.styles == {}


@pytest.mark.parametrize("path", ["/v1/stagings", "/v1/jobs"])
def test_a_saved_style_can_be_named_where_a_style_is(client, services, headers, a_staging, studio, path):
    body = a_staging(studio[0], style=new_id("sty"))
    whole = {"workflow": "staging", "inputs": body} if path == "/v1/jobs" else body

    answer = client.post(path, json=whole, headers=keyed(headers))

    assert answer.status_code == 202
    assert services.generation.asked("submit")[0]["inputs"]["style"] == body["style"]


def test_a_style_nobody_has_is_refused_with_those_there_are(client, headers, a_staging, studio):
    answer = client.post("/v1/stagings", json=a_staging(studio[0], style="gothic"), headers=keyed(headers))

    assert answer.status_code == 400
    assert "scandinavian" in answer.json["detail"]


def test_administrators_read_how_sessions_do(client, services, admin, headers):
    address = "/v1/admin/analytics/staging?first=2026-01-01&last=2026-01-31&livemode=false"

    answer = client.get(address, headers=admin)

    assert (answer.status_code, answer.json["sessions"]["completion_rate"]) == (200, 75.0)
    assert services.notifications.asked("staging_analytics") == [
        {"first": "2026-01-01", "last": "2026-01-31", "livemode": False}
    ]
    assert client.get(address, headers=headers).status_code == 403
