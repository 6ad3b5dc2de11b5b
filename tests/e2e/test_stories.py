import csv
from pathlib import Path

import pytest
import requests

from darkroom_client import Darkroom, NotFound, PermissionDenied
from tests.e2e.steps import POLL_SECONDS, NewClient, NewDarkroom, finished, get, paid, post, raw_get, settled
from tests.faults.client import small_photo
from tests.faults.stack import Stack

pytestmark = pytest.mark.stack


def test_a_photo_is_staged_twice_for_twenty_credits(new_client: NewClient) -> None:
    client = new_client(100)

    client.stage_many(client.upload(), count=1, variants=2).join()

    job = finished(client, client.accepted[0])
    images = client.images(job)
    assert (job["status"], job["charged"], job["refunded"], job["progress"]) == ("succeeded", 20, 0, 100)
    assert len({client.pixels(image) for image in images}) == 2
    assert all(client.is_whole(image) for image in images)
    assert settled(client)["available"] == 80


def test_a_photo_can_be_sent_as_a_form(new_client: NewClient) -> None:
    client = new_client(0)

    upload_id = client.upload_as_form()

    assert get(client, f"/v1/uploads/{upload_id}")["content_type"] == "image/jpeg"


def test_the_published_client_takes_a_photo_from_its_upload_to_the_pictures_on_disk(
    new_darkroom: NewDarkroom, tmp_path: Path
) -> None:
    darkroom = new_darkroom(100)
    sent: list[tuple[int, int]] = []
    seen: list[int] = []
    (workflow,) = [each for each in darkroom.workflows.list() if each.name == "staging"]

    upload = darkroom.uploads.create(small_photo(), multipart=True, on_progress=lambda *sizes: sent.append(sizes))
    quote = darkroom.quotes.create("staging", {**workflow.example, "upload_id": upload.id, "variants": 3})
    accepted = darkroom.stagings.create(upload.id, style="rustic", room_type="bedroom", variants=3)
    job = darkroom.jobs.wait(accepted, poll_seconds=POLL_SECONDS, on_progress=lambda job: seen.append(job.progress))
    files = [darkroom.images.download(image, tmp_path) for image in job.images]
    wallet = paid(darkroom)

    assert (upload.width, upload.height, sent[-1][0]) == (320, 240, sent[-1][1])
    assert accepted.balance is not None
    assert (quote.amount, accepted.balance.held, job.charged, wallet.available) == (30, 30, 30, 70)
    assert (job.status, seen[-1], seen) == ("succeeded", 100, sorted(seen))
    assert [file.read_bytes() for file in files] == [darkroom.images.content(image.id) for image in job.images]
    assert {image.id for image in darkroom.images.list(job_id=job.id)} == {image.id for image in job.images}
    assert len(list(darkroom.jobs.generations(job.id, status="succeeded", page_size=2))) == 3
    kinds = [entry.kind for entry in darkroom.credits.entries(job_id=job.id, page_size=2)]
    assert sorted(kinds) == ["capture"] * 3 + ["hold"] * 3
    assert darkroom.credits.usage().totals.generations == 3
    assert wallet.plan in {plan.name for plan in darkroom.credits.plans()}
    darkroom.uploads.delete(upload.id)
    with pytest.raises(NotFound):
        darkroom.uploads.get(upload.id)


def test_the_published_client_sends_to_the_store_takes_its_history_away_and_makes_keys(
    new_darkroom: NewDarkroom, tmp_path: Path
) -> None:
    darkroom = new_darkroom(100)
    upload = darkroom.uploads.create(small_photo(), presigned=True, purpose="product")
    job = darkroom.stagings.create(upload.id, style="modern", room_type="bedroom", variants=1, wait_seconds=30)
    paid(darkroom)

    table = list(csv.DictReader(darkroom.credits.export(tmp_path / "entries.csv").read_text().splitlines()))
    key = darkroom.api_keys.create("reader", scopes=["read"])
    with Darkroom(key.secret, base_url=darkroom.base_url) as reader:
        me = reader.me.get()
        with pytest.raises(PermissionDenied):
            reader.uploads.create(small_photo())
    successor = darkroom.api_keys.rotate(key.id, overlap_seconds=0)
    darkroom.api_keys.revoke(successor.id)

    assert (upload.purpose, upload.width, job.status) == ("product", 320, "succeeded")
    assert [row["kind"] for row in table] == ["capture", "hold", "grant"]
    assert (me.organization.id, me.scopes) == (darkroom.me.get().organization.id, ["read"])
    listed = {each.id: each.status for each in darkroom.api_keys.list()}
    assert (listed[key.id], listed[successor.id]) == ("expired", "revoked")


def test_of_a_hundred_requests_on_a_balance_for_fifty_exactly_fifty_are_accepted(new_client: NewClient) -> None:
    client = new_client(500)
    upload_id = client.upload()

    senders = [client.stage_many(upload_id, count=25, variants=1) for _ in range(4)]
    for sender in senders:
        sender.join()

    assert (len(client.accepted), client.refused) == (50, [402] * 50)
    assert {finished(client, job_id)["status"] for job_id in client.accepted} == {"succeeded"}
    assert settled(client)["available"] == 0


def test_a_short_balance_is_refused_with_the_numbers_and_leaves_no_entry(new_client: NewClient) -> None:
    client = new_client(15)
    upload_id = client.upload()
    before = get(client, "/v1/credits/entries")["data"]

    answer = post(
        client, "/v1/stagings", {"upload_id": upload_id, "style": "modern", "room_type": "bedroom", "variants": 2}
    )

    problem = answer.json()
    assert answer.status_code == 402
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (problem["code"], problem["required"], problem["available"]) == ("insufficient_credits", 20, 15)
    assert get(client, "/v1/credits/entries")["data"] == before


def test_the_same_key_makes_one_job_however_often_it_is_sent(new_client: NewClient) -> None:
    client = new_client(100)
    body = {"upload_id": client.upload(), "style": "modern", "room_type": "bedroom", "variants": 1}

    answers = [post(client, "/v1/stagings", body, key="the-same-key") for _ in range(5)]

    assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, *["true"] * 4]
    assert post(client, "/v1/stagings", {**body, "style": "rustic"}, key="the-same-key").status_code == 422


def test_another_organization_finds_nothing_of_the_first(new_client: NewClient) -> None:
    owner, stranger = new_client(100), new_client(100)
    upload_id = owner.upload()
    owner.stage_many(upload_id, count=1).join()
    job = finished(owner, owner.accepted[0])
    (image,) = owner.images(job)
    paths = [
        f"/v1/uploads/{upload_id}",
        f"/v1/jobs/{job['id']}",
        f"/v1/jobs/{job['id']}/generations",
        f"/v1/images/{image['id']}",
        f"/v1/images/{image['id']}/content",
        f"/v1/images/{image['id']}/content?label=ai_generated",
        f"/v1/images/{image['id']}/provenance",
    ]

    statuses = {path: raw_get(stranger, path).status_code for path in paths}

    assert statuses == dict.fromkeys(paths, 404)
    assert {raw_get(owner, path).status_code for path in paths} <= {200, 303}
    assert get(stranger, "/v1/jobs")["data"] == get(stranger, "/v1/images")["data"] == []
    body = {"upload_id": upload_id, "style": "modern", "room_type": "bedroom"}
    assert post(stranger, "/v1/stagings", body).status_code == 404


def test_waiting_for_a_job_answers_with_the_finished_job(new_client: NewClient) -> None:
    client = new_client(100)
    body = {"upload_id": client.upload(), "style": "coastal", "room_type": "bedroom", "variants": 1}

    answer = post(client, "/v1/stagings", body, headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_one_request_can_be_followed_through_the_logs_of_every_service(new_client: NewClient, stack: Stack) -> None:
    client = new_client(100)
    body = {"upload_id": client.upload(), "style": "luxury", "room_type": "bedroom", "variants": 1}
    job_id = post(client, "/v1/stagings", body, headers={"X-Request-Id": "req-follow-me"}).json()["id"]

    finished(client, job_id)

    for process in ("gateway", "generation-worker"):
        log = (stack.home / "logs" / f"{process}.log").read_text()
        assert "req-follow-me" in log, process


def test_no_log_holds_a_key_a_password_or_a_signature(new_client: NewClient, stack: Stack) -> None:
    client = new_client(100)
    client.stage_many(client.upload(), count=1).join()
    job = finished(client, client.accepted[0])
    (image,) = client.images(job)
    signature = image["url"].partition("signature=")[2]
    environment = (stack.home / "env").read_text().splitlines()
    secrets = {
        line.partition("=")[2] for line in environment if line.partition("=")[0] in {"SIGNING_SECRET", "ADMIN_API_KEY"}
    }

    everything = "".join(file.read_text(errors="replace") for file in (stack.home / "logs").glob("*.log"))

    assert signature
    assert len(secrets) == 2
    assert not [one for one in (client.api_key, signature, *secrets) if one in everything]


def test_every_process_is_ready_and_shows_its_metrics(stack: Stack) -> None:
    addresses = dict(
        line.split("=", 1) for line in (stack.home / "env").read_text().splitlines() if "_OPS_ADDRESS=" in line
    )

    assert len(addresses) == 7
    for address in addresses.values():
        assert requests.get(f"http://{address}/readyz", timeout=5).json()["problems"] == {}
        assert "darkroom_outbox_pending" in requests.get(f"http://{address}/metrics", timeout=5).text
