"""Headshots as the product document has them, over HTTP: history, favorites, status, batches, comparison, deletion."""

import contextlib
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
import sqlalchemy as sa

from shared.ids import new_id
from shared.links import link_expiry, sign_link
from tests.e2e.operations import asked
from tests.e2e.steps import NewClient, finished, get, joined, post, raw_get, settled
from tests.faults.client import Client, small_photo
from tests.faults.stack import Stack
from tests.polling import until

pytestmark = pytest.mark.stack

STYLES = ["corporate", "creative", "model"]


@pytest.fixture
def settings(stack: Stack) -> dict[str, str]:
    pairs = (line.partition("=") for line in (stack.home / "env").read_text().splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


def a_face(client: Client, *, keep_original: bool = False, number: int = 0) -> dict[str, Any]:
    """Upload a face; return the upload."""
    answer = send(client, keep_original=keep_original, number=number)
    assert answer.status_code == 201, answer.text
    upload: dict[str, Any] = answer.json()
    return upload


def send(client: Client, *, keep_original: bool = False, number: int = 0) -> requests.Response:
    return requests.post(
        f"{client.gateway_url}/v1/uploads?purpose=face&keep_original={str(keep_original).lower()}",
        data=small_photo(number),
        headers={
            "Authorization": f"Bearer {client.api_key}",
            "Idempotency-Key": new_id("key"),
            "Content-Type": "image/jpeg",
        },
        timeout=30,
    )


def batch(client: Client, upload_id: str, styles: list[str] = STYLES, **more: Any) -> dict[str, Any]:
    """Have headshots made; return their job once it has ended and is paid for."""
    answer = post(client, "/v1/headshots/batches", {"upload_id": upload_id, "styles": styles, **more})
    assert answer.status_code == 202, answer.text
    job = finished(client, answer.json()["id"])
    settled(client)
    return job


def history(client: Client, query: str = "") -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = get(client, f"/v1/headshots{query}")["data"]
    return data


def status_of(address: str) -> int:
    return requests.head(address, timeout=10).status_code


def test_three_styles_of_one_photo_are_one_job_for_six_credits_and_can_be_told_apart(new_client: NewClient) -> None:
    client = new_client(100)
    upload = a_face(client)

    answer = post(client, "/v1/headshots/batches", {"upload_id": upload["id"], "styles": STYLES, "aspect_ratio": "4:5"})
    held = answer.json()["balance"]
    job = finished(client, answer.json()["id"])

    assert (held["available"], held["held"]) == (94, 6)
    assert (job["status"], job["progress"], job["charged"]) == ("succeeded", 100, 6)
    assert settled(client)["available"] == 94
    images = client.images(job)
    assert len({client.pixels(image) for image in images}) == 3
    assert all(client.is_whole(image) for image in images)
    assert {(image["width"], image["height"]) for image in images} == {(819, 1024)}
    shown = {one["style"]: one for one in history(client)}
    assert set(shown) == set(STYLES)
    for one in shown.values():
        assert (one["status"], one["progress"], one["aspect_ratio"], one["quality"]) == (
            "succeeded",
            100,
            "4:5",
            "high",
        )
        assert one["metadata"]["cost"] == 2
        assert one["metadata"]["model"] == "local-preview-1"
        assert (one["metadata"]["attempts"], one["metadata"]["quality"]) == (1, "high")
        assert one["metadata"]["processing_time_ms"] > 0
        assert one["original"]["available"]


def test_what_was_paid_leads_to_the_headshot_and_support_gives_it_back_once(
    new_client: NewClient, admin: Client
) -> None:
    client = new_client(100)
    job = batch(client, a_face(client)["id"])
    generation_id = job["generations"][0]["id"]

    entries = get(client, "/v1/credits/entries?product=headshot")["data"]
    linked = get(client, f"/v1/credits/entries?generation={generation_id}")["data"]
    refunds = [
        post(admin, f"/v1/admin/jobs/{job['id']}/refund", {"generation_id": generation_id, "reason": "closed eyes"})
        for _ in range(2)
    ]

    assert entries
    assert linked
    assert {entry["generation_id"] for entry in linked} == {generation_id}
    assert [refund.status_code for refund in refunds] == [200, 200]
    assert client.wallet()["available"] == 96
    old = post(admin, f"/api/admin/headshots/{job['id']}/refund", {"reason": "all of it"})
    assert old.status_code == 200
    assert client.wallet()["available"] == 100


def test_a_headshot_is_saved_under_its_name_and_that_is_counted(new_client: NewClient, admin: Client) -> None:
    client = new_client(10)
    batch(client, a_face(client)["id"], ["monochrome"])
    (shown,) = history(client)

    answers = [asked(client, "GET", f"/v1/headshots/{shown['id']}/download") for _ in range(2)]
    saved = requests.get(answers[0].headers["Location"], timeout=10)

    assert [answer.status_code for answer in answers] == [303, 303]
    assert saved.headers["Content-Disposition"] == 'attachment; filename="headshot-monochrome.jpg"'
    assert len(saved.content) == shown["images"][0]["bytes"]
    until(lambda: downloads(admin, "monochrome") == 1, seconds=60, what="the count")


def downloads(admin: Client, style: str) -> int:
    styles = get(admin, "/v1/admin/analytics/headshots")["styles"]
    return sum(each["downloaded"] for each in styles if each["style"] == style)


def test_favorites_are_listed_and_history_is_looked_up_and_deleted(new_client: NewClient) -> None:
    client = new_client(100)
    batch(client, a_face(client)["id"])
    first, second, third = history(client)
    picture = first["images"][0]

    marked = asked(client, "PUT", f"/v1/headshots/{second['id']}/favorite")
    asked(client, "PUT", f"/v1/images/{third['images'][0]['id']}/favorite")
    favorites = history(client, "?favorite=true")
    at_the_old_address = get(client, "/api/headshots/favorites")["data"]
    asked(client, "DELETE", f"/v1/headshots/{third['id']}/favorite")
    there = status_of(picture["url"])
    deleted = asked(client, "DELETE", f"/v1/headshots/{first['id']}")

    assert marked.json()["favorite"] is True
    assert {one["id"] for one in favorites} == {second["id"], third["id"]}
    assert [one["id"] for one in at_the_old_address] == [one["id"] for one in favorites]
    assert [one["id"] for one in history(client, "?favorite=true")] == [second["id"]]
    found = get(client, "/v1/images?workflow=headshot&favorite=true")["data"]
    assert [image["generation_id"] for image in found] == [second["id"]]
    assert (there, deleted.status_code) == (200, 204)
    assert [status_of(picture[name]) for name in ("url", "thumbnail_url")] == [404, 404]
    assert raw_get(client, f"/v1/headshots/{first['id']}").status_code == 404
    assert [one["id"] for one in history(client)] == [second["id"], third["id"]]
    assert get(client, "/v1/headshots/stats")["generated"] == 3
    told = until(lambda: get(client, "/v1/events?types=ImageDeleted")["data"], seconds=30, what="ImageDeleted")
    assert told[0]["event"]["data"]["generation_id"] == first["id"]


def test_a_failure_is_retried_without_sending_the_photo_again_at_net_nothing(new_client: NewClient) -> None:
    client = new_client(20)
    upload = a_face(client)
    asked_for = post(client, "/v1/headshots/batches", {"upload_id": upload["id"], "styles": STYLES}).json()
    asked(client, "POST", f"/v1/jobs/{asked_for['id']}/cancel")
    ended = finished(client, asked_for["id"])
    wallet = settled(client)
    assert wallet["available"] == 20 - ended["charged"]
    failed = [one for one in history(client) if one["status"] == "failed"]
    if not failed:
        pytest.fail("the job was done before it could be cancelled")

    again = post(client, f"/v1/jobs/{ended['id']}/retry", {})

    assert again.status_code == 202, again.text
    done = finished(client, again.json()["id"])
    assert (done["status"], done["retry_of"], done["retry_count"]) == ("succeeded", ended["id"], 1)
    assert settled(client)["available"] == 20 - ended["charged"] - done["charged"] == 14


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"style": "gothic"}, 400, "validation_failed"),
        ({"upload_id": "ast_01jx0000000000000000000000"}, 404, "not_found"),
        ({"purpose": "room"}, 400, "validation_failed"),
        ({"balance": 1}, 402, "insufficient_credits"),
    ],
)
def test_what_is_refused_costs_nothing(new_client: NewClient, change: dict[str, Any], status: int, code: str) -> None:
    balance = change.pop("balance", 10)
    client = new_client(balance)
    upload_id = client.upload() if change.pop("purpose", None) else a_face(client)["id"]

    answer = post(client, "/v1/headshots", {"upload_id": upload_id, "style": "model", **change})

    assert answer.status_code == status, answer.text
    assert status != 402 or answer.json()["code"] == code
    assert (client.wallet()["available"], client.wallet()["held"]) == (balance, 0)
    assert history(client) == []


def test_before_and_after_are_compared_only_of_a_photo_that_is_kept_on_purpose(new_client: NewClient) -> None:
    client = new_client(100)
    ephemeral, kept = a_face(client), a_face(client, keep_original=True)
    for upload in (ephemeral, kept):
        batch(client, upload["id"], ["corporate"])
    of_kept, of_ephemeral = history(client)

    shown = raw_get(client, f"/v1/images/{of_kept['images'][0]['id']}/comparison")
    statuses = [status_of(shown.json()[side]["url"]) for side in ("before", "after")]
    refused = raw_get(client, f"/v1/images/{of_ephemeral['images'][0]['id']}/comparison")
    asked(client, "DELETE", f"/v1/uploads/{kept['id']}")
    gone = raw_get(client, f"/v1/images/{of_kept['images'][0]['id']}/comparison")

    assert (ephemeral["consent"], kept["delete_after"]) == (None, None)
    assert kept["consent"]["given_at"]
    assert shown.status_code == 200, shown.text
    assert statuses == [200, 200]
    assert (refused.status_code, refused.json()["code"]) == (409, "consent_required")
    assert (gone.status_code, gone.json()["code"]) == (410, "source_gone")


def test_after_half_an_hour_the_photo_is_gone_whoever_died_and_a_signed_receipt_says_so(
    new_client: NewClient, stack: Stack, settings: dict[str, str]
) -> None:
    client = new_client(100)
    upload = a_face(client)
    cancelled = post(client, "/v1/headshots/batches", {"upload_id": upload["id"], "styles": STYLES}).json()
    asked(client, "POST", f"/v1/jobs/{cancelled['id']}/cancel")
    finished(client, cancelled["id"])
    key = f"assets/{client.org_id}/{upload['id']}.jpg"
    query = sign_link(secret=settings["SIGNING_SECRET"], method="HEAD", key=key, expires_at=link_expiry(time.time()))
    address = f"{settings['FILES_PUBLIC_URL']}/files/{key}?{query}"
    assert status_of(address) == 200
    assert raw_get(client, f"/v1/uploads/{upload['id']}/deletion-receipt").status_code == 409

    stack.kill("catalog")
    half_an_hour_passes(settings, upload["id"])

    until(lambda: status_of(address) == 404, seconds=90, what="the photo's end")
    receipt = until(lambda: signed_receipt(client, upload["id"]), seconds=30, what="the receipt")
    key_set = requests.get(f"{client.gateway_url}/v1/deletion-receipts/keys", timeout=10).json()
    claims = jwt.decode(receipt["receipt"], jwt.PyJWK(key_set["keys"][0]), algorithms=["EdDSA"], issuer="darkroom")
    assert (claims["sub"], claims["deletion"]["reason"]) == (upload["id"], "retention")
    assert claims["deletion"]["sha256"] == upload["sha256"]
    told = until(lambda: get(client, "/v1/events?types=SourceDeleted")["data"], seconds=30, what="SourceDeleted")
    assert [each["event"]["data"]["asset_id"] for each in told] == [upload["id"]]
    assert raw_get(client, f"/v1/uploads/{upload['id']}").status_code == 404
    before = client.wallet()
    refused = until(lambda: refusal(client, cancelled["id"]), seconds=30, what="the refusal")
    assert refused == (410, "source_gone")
    assert client.wallet() == before
    assert not any(one["original"]["available"] for one in history(client))


def test_a_photo_is_gone_whose_gateway_died_before_anybody_was_told_that_it_is_there(
    new_client: NewClient, stack: Stack, settings: dict[str, str]
) -> None:
    client = new_client(10)
    stack.arm("gateway.asset_stored")
    with contextlib.suppress(requests.ConnectionError):
        send(client)
    assert not stack.armed
    folder = Path(settings["STORAGE_URL"].removeprefix("file://")) / "assets" / client.org_id
    (photo,) = folder.iterdir()

    moved_back(settings, "claimed_until = claimed_until - interval '5 minutes'", upload_id=photo.stem)

    until(lambda: not photo.exists(), seconds=60, what="the photo's end")
    until(lambda: get(client, "/v1/events?types=SourceDeleted")["data"], seconds=60, what="SourceDeleted")


def test_counts_and_statistics_tell_what_happened(new_client: NewClient, admin: Client) -> None:
    client = new_client(100)
    person = joined(client, "editor")
    for _ in range(2):
        batch(person, a_face(person)["id"], ["outdoor"])
    (newest, _) = history(person)
    told = {"name": "headshot_downloaded", "headshot_id": newest["id"]}
    key = new_id("key")

    answers = [post(person, "/v1/analytics/events", told, key=key) for _ in range(2)]
    post(person, "/v1/analytics/events", {"name": "style_selected", "style": "outdoor"})

    stats = get(person, "/v1/headshots/stats")
    assert (stats["generated"], stats["credits_spent"], stats["text"]) == (2, 4, "You've generated 2 headshots")
    assert stats["mine"] == {"generated": 2, "credits_spent": 4}
    assert [answer.status_code for answer in answers] == [201, 201]
    outdoor = until(lambda: counted(admin, "outdoor"), seconds=60, what="the statistics")
    assert (outdoor["total_generations"], outdoor["downloaded"], outdoor["selected"]) == (2, 1, 1)
    assert (outdoor["success_rate"], outdoor["credits"]) == (100.0, 4)
    assert outdoor["avg_processing_time_ms"] > 0
    statistics = get(admin, "/v1/admin/analytics/headshots")
    assert statistics["users"]["repeat"] >= 1
    assert sum(each["started"] for each in statistics["peak_hours"]) >= 2


def counted(admin: Client, style: str) -> dict[str, Any] | None:
    """Return the statistics of a style once all that this story did is in them."""
    styles = get(admin, "/v1/admin/analytics/headshots")["styles"]
    found = [each for each in styles if each["style"] == style]
    done = found and (found[0]["succeeded"], found[0]["downloaded"], found[0]["selected"]) == (2, 1, 1)
    return found[0] if done else None


def refusal(client: Client, job_id: str) -> tuple[int, str] | None:
    """Ask for a retry; return why there is none, once there is none."""
    answer = post(client, f"/v1/jobs/{job_id}/retry", {})
    return None if answer.status_code == 202 else (answer.status_code, answer.json()["code"])


def signed_receipt(client: Client, upload_id: str) -> dict[str, Any] | None:
    answer = raw_get(client, f"/v1/uploads/{upload_id}/deletion-receipt")
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else None


def half_an_hour_passes(settings: dict[str, str], upload_id: str) -> None:
    """Move an upload's end back by the 30 minutes that it has; nothing else is touched."""
    moved = moved_back(settings, "delete_after = delete_after - interval '30 minutes'", upload_id=upload_id)
    assert abs((moved.delete_after - moved.created_at).total_seconds()) < 5


def moved_back(settings: dict[str, str], what: str, *, upload_id: str) -> sa.Row[Any]:
    """Let time pass for one upload; return its row."""
    engine = sa.create_engine(settings["CATALOG_DATABASE_URL"], poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL ROLE darkroom_system"))
        moved = connection.execute(sa.text(f"UPDATE assets SET {what} WHERE id = :id RETURNING *"), {"id": upload_id})
        return moved.one()
