"""Headshots over HTTP: what is handed on, what is shown, and what is kept from everybody."""

import dataclasses
import json
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from services.gateway import deletion_receipts
from shared import events
from shared.config import Secret
from shared.events import BehaviourTracked
from shared.ids import new_id
from shared.links import verify_link
from shared.problems import SourceGone


def keyed(headers):
    return {**headers, "Idempotency-Key": new_id("key")}


@pytest.fixture
def face(an_upload, studio, services):
    upload_id = an_upload(studio[0])
    services.assets[upload_id]["purpose"] = "face"
    return upload_id


@pytest.fixture
def headshot(client, services, studio, face):
    """Make a headshot and give its id."""
    body = {"upload_id": face, "style": "corporate"}
    job = client.post("/v1/headshots", json=body, headers=keyed(studio[1]))
    assert job.status_code == 202, job.text
    services.finish(job.json["id"])
    return next(iter(services.headshots))


def test_one_style_and_several_are_each_one_job_and_defaults_are_filled_in(client, services, studio, face):
    client.post("/v1/headshots", json={"upload_id": face, "style": "model"}, headers=keyed(studio[1]))
    body = {"upload_id": face, "styles": ["corporate", "model"], "aspect_ratio": "4:5", "quality": "low"}
    client.post("/v1/headshots/batches", json=body, headers=keyed(studio[1]))

    one, several = services.generation.asked("submit")
    assert one["workflow"] == several["workflow"] == "headshot"
    assert one["inputs"] == {"upload_id": face, "style": "model", "aspect_ratio": "1:1", "quality": "high"}
    assert several["inputs"] == body
    assert one["assets"][face]["purpose"] == "face"


@pytest.mark.parametrize(
    ("path", "wrong", "pointer"),
    [
        ("/v1/headshots", {"style": "gothic"}, "/style"),
        ("/v1/headshots", {"style": "model", "aspect_ratio": "7:1"}, "/aspect_ratio"),
        ("/v1/headshots", {"style": "model", "quality": "best"}, "/quality"),
        ("/v1/headshots/batches", {"styles": []}, "/styles"),
        ("/v1/headshots/batches", {"styles": ["model", "model"]}, "/styles"),
        ("/v1/headshots/batches", {"styles": ["model", "gothic"]}, "/styles/1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_before_anything_is_asked(
    client, services, studio, face, path, wrong, pointer
):
    answer = client.post(path, json={"upload_id": face, **wrong}, headers=keyed(studio[1]))

    assert answer.status_code == 400
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]
    assert services.jobs == {}


def test_a_headshot_is_shown_with_addresses_and_marked_as_a_favorite(client, studio, headshot):
    shown = client.get(f"/v1/headshots/{headshot}", headers=studio[1]).json
    marked = client.put(f"/v1/headshots/{headshot}/favorite", headers=studio[1])
    unmarked = client.delete(f"/v1/headshots/{headshot}/favorite", headers=studio[1])

    assert shown["images"][0]["url"].startswith("http://files.test/")
    assert [answer.json["favorite"] for answer in (marked, unmarked)] == [True, False]
    assert client.get("/v1/headshots?favorite=true", headers=studio[1]).json["data"]
    assert client.get("/v1/headshots/stats", headers=studio[1]).json["text"] == "You've generated 2 headshots"


@pytest.mark.parametrize(
    ("word", "status"), [("completed", "succeeded"), ("processing", "running"), ("failed", "failed")]
)
def test_a_status_is_found_by_what_it_was_called_before(client, services, studio, word, status):
    lists = ("/v1/headshots", "/v1/jobs", "/api/headshots/history")

    answers = [client.get(f"{path}?status={word}", headers=studio[1]) for path in lists]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    asked = services.generation.asked("headshots") + services.generation.asked("jobs")
    assert [each["status"] for each in asked] == [status] * 3
    assert client.get("/v1/headshots?status=finished", headers=studio[1]).status_code == 400


def test_a_deleted_headshot_is_not_there(client, studio, headshot):
    assert client.delete(f"/v1/headshots/{headshot}", headers=studio[1]).status_code == 204

    assert client.get(f"/v1/headshots/{headshot}", headers=studio[1]).status_code == 404


@pytest.mark.usefixtures("headshot")
def test_images_are_marked_as_favorites_too(client, services, studio):
    (image_id,) = services.images

    answer = client.put(f"/v1/images/{image_id}/favorite", headers=studio[1])

    assert answer.status_code == 200, answer.text
    assert answer.json["favorite"] is True
    assert client.delete(f"/v1/images/{image_id}/favorite", headers=studio[1]).json["favorite"] is False


@pytest.mark.parametrize(
    "query",
    [
        "favorite=true&pinned=false&style=corporate&workflow=headshot",
        "created_since=2026-01-01T00:00:00Z&created_before=2026-01-02T00:00:00%2B01:00",
        "room_type=bedroom&product_id=prd_1&session_id=ses_1",
    ],
)
@pytest.mark.usefixtures("headshot")
def test_images_are_filtered_by_what_the_contract_says(client, studio, query):
    assert client.get(f"/v1/images?{query}", headers=studio[1]).status_code == 200


@pytest.mark.parametrize("query", ["favorite=perhaps", "created_since=yesterday", "created_since=2026-01-01T00:00:00"])
def test_a_filter_that_is_none_is_refused(client, studio, query):
    assert client.get(f"/v1/images?{query}", headers=studio[1]).status_code == 400


@pytest.mark.usefixtures("headshot")
def test_a_face_is_compared_only_with_the_consent_to_keep_it(client, services, studio, face):
    (image_id,) = services.images
    refused = client.get(f"/v1/images/{image_id}/comparison", headers=studio[1])
    services.assets[face]["consent"] = {"given_at": "2026-01-15T09:30:00Z", "given_by": None}

    shown = client.get(f"/v1/images/{image_id}/comparison", headers=studio[1])

    assert (refused.status_code, refused.json["code"]) == (409, "consent_required")
    assert shown.status_code == 200
    assert shown.json["before"]["url"].startswith("http://files.test/")
    assert shown.json["after"]["id"] == image_id


@pytest.mark.usefixtures("headshot")
def test_what_is_deleted_is_compared_with_nothing(client, services, studio, face):
    (image_id,) = services.images
    client.delete(f"/v1/uploads/{face}", headers=studio[1])

    answer = client.get(f"/v1/images/{image_id}/comparison", headers=studio[1])

    assert (answer.status_code, answer.json["code"]) == (410, "source_gone")


@pytest.mark.usefixtures("headshot")
def test_a_retry_of_what_is_deleted_is_gone_and_holds_nothing(client, services, studio, face):
    (job_id,) = services.jobs
    services.refusal = SourceGone("The photo was deleted.", upload_id=face, deleted_at=None, reason="retention")

    answer = client.post(f"/v1/jobs/{job_id}/retry", json={}, headers=keyed(studio[1]))

    assert (answer.status_code, answer.json["code"], answer.json["reason"]) == (410, "source_gone", "retention")


def test_a_receipt_is_signed_so_that_anybody_can_check_it(client, studio, face):
    there = client.get(f"/v1/uploads/{face}/deletion-receipt", headers=studio[1])
    client.delete(f"/v1/uploads/{face}", headers=studio[1])

    receipt = client.get(f"/v1/uploads/{face}/deletion-receipt", headers=studio[1]).json
    keys = client.get("/v1/deletion-receipts/keys").json

    assert there.status_code == 409
    key = jwt.PyJWK(keys["keys"][0])
    claims = jwt.decode(receipt["receipt"], key, algorithms=["EdDSA"], issuer="darkroom")
    assert claims["sub"] == face
    assert claims["deletion"]["org_id"] == studio[0]
    assert claims["deletion"]["deleted_at"] == receipt["deleted_at"]
    assert {name: claims["deletion"][name] for name in ("sha256", "reason", "purpose")} == {
        name: receipt[name] for name in ("sha256", "reason", "purpose")
    }


def test_a_receipt_that_was_altered_or_signed_by_another_is_none(client, studio, face):
    client.delete(f"/v1/uploads/{face}", headers=studio[1])
    told = client.get(f"/v1/uploads/{face}/deletion-receipt", headers=studio[1]).json
    head, body, signature = told["receipt"].split(".")
    key = jwt.PyJWK(client.get("/v1/deletion-receipts/keys").json["keys"][0])
    deletion = {**told, "org_id": studio[0]}
    forged = deletion_receipts.signed(deletion, secret="another secret of somebody else's")["receipt"]

    for wrong in (f"{head}.{body[:-4]}AAAA.{signature}", forged):
        with pytest.raises(jwt.InvalidTokenError):
            jwt.decode(wrong, key, algorithms=["EdDSA"])


def test_a_receipt_is_checked_by_the_key_of_its_day_when_the_secret_is_another(client, gateway, studio, face):
    client.delete(f"/v1/uploads/{face}", headers=studio[1])
    address = f"/v1/uploads/{face}/deletion-receipt"
    old = client.get(address, headers=studio[1]).json["receipt"]

    gateway.settings = dataclasses.replace(gateway.settings, signing_secret=Secret("t" * 40))

    new = client.get(address, headers=studio[1]).json["receipt"]
    keys = jwt.PyJWKSet.from_dict(client.get("/v1/deletion-receipts/keys").json)
    told = [jwt.decode(one, keys[jwt.get_unverified_header(one)["kid"]], algorithms=["EdDSA"]) for one in (old, new)]
    assert old != new
    assert told[0] == told[1]
    assert len(keys.keys) == 2
    assert keys.keys[0].key_id == jwt.get_unverified_header(new)["kid"]


def tracked(db):
    with db.transaction() as session:
        bodies = session.connection().exec_driver_sql("SELECT body FROM outbox ORDER BY id").scalars()
        found = [events.decode(body.encode()) for body in bodies]
    return [item for item in found if isinstance(item, BehaviourTracked)]


def test_what_somebody_did_is_told_once_however_often_it_is_sent(client, gateway_db, studio, headshot):
    body = {"name": "headshot_downloaded", "headshot_id": headshot}
    headers = keyed(studio[1])

    answers = [client.post("/v1/analytics/events", json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json["style"] == "corporate"
    (told,) = tracked(gateway_db)
    assert (told.behaviour_id, told.name, told.style) == (answers[0].json["id"], "headshot_downloaded", "corporate")


def test_a_download_is_counted_by_the_server_and_that_once_an_hour(client, gateway_db, studio, headshot, settings):
    answers = [client.get(f"/v1/headshots/{headshot}/download", headers=studio[1]) for _ in range(2)]
    client.head(f"/v1/headshots/{headshot}/download", headers=studio[1])

    place = urlsplit(answers[0].headers["Location"])
    expires_at = int(parse_qs(place.query)["expires"][0])
    key = place.path.removeprefix("/files/")
    grant = verify_link(secret=settings.signing_secret, method="GET", key=key, query=place.query, now=expires_at - 3600)
    told = tracked(gateway_db)
    assert [answer.status_code for answer in answers] == [303, 303]
    assert grant.disposition == 'attachment; filename="headshot-corporate.jpg"'
    assert [(each.name, each.headshot_id, each.style) for each in told] == [
        ("headshot_downloaded", headshot, "corporate")
    ] * 2
    assert len({each.behaviour_id for each in told}) == 1


def test_what_has_no_image_yet_or_is_anothers_is_not_downloaded(client, gateway_db, services, studio, headshot):
    services.headshots[headshot]["images"] = []

    unmade = client.get(f"/v1/headshots/{headshot}/download", headers=studio[1])
    unknown = client.get(f"/v1/headshots/{new_id('gen')}/download", headers=studio[1])

    assert (unmade.status_code, unknown.status_code) == (409, 404)
    assert tracked(gateway_db) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "style_selected", "style": "model"}, 201),
        ({"name": "history_viewed"}, 201),
        ({"name": "style_selected"}, 400),
        ({"name": "style_selected", "style": "gothic"}, 400),
        ({"name": "headshot_downloaded"}, 400),
        ({"name": "headshot_completed"}, 400),
        ({"name": "user_shared", "headshot_id": new_id("gen")}, 404),
    ],
)
def test_only_what_a_client_alone_can_know_is_taken(client, studio, body, status):
    assert client.post("/v1/analytics/events", json=body, headers=studio[1]).status_code == status


def test_administrators_read_the_statistics(client, services, admin):
    answer = client.get("/v1/admin/analytics/headshots?first=2026-01-01&last=2026-01-31", headers=admin)

    assert answer.status_code == 200
    assert answer.json["styles"][0]["style"] == "corporate"
    name, asked = services.notifications.calls[-1]
    assert (name, json.loads(json.dumps(asked))) == (
        "headshot_analytics",
        {"first": "2026-01-01", "last": "2026-01-31", "livemode": True},
    )
