"""Test keys on the real stack: work like any other, that costs nothing and that live keys never see."""

from typing import Any

import pytest
import requests

from tests.e2e.steps import NewClient, finished, get, post, raw_get
from tests.faults.client import Client, small_photo
from tests.polling import until

pytestmark = pytest.mark.stack

ROOM = {"style": "modern", "room_type": "bedroom"}


def with_a_test_key(client: Client) -> Client:
    """Make a test key of a client's organization; return the client that has it."""
    made = post(client, "/v1/api-keys", {"name": "CI", "livemode": False}).json()
    assert made["secret"].startswith("sk_test_")
    return Client(gateway_url=client.gateway_url, api_key=made["secret"], org_id=client.org_id)


def uploaded(client: Client, photo: bytes) -> str:
    headers = {"Authorization": f"Bearer {client.api_key}", "Content-Type": "image/jpeg"}
    return str(requests.post(f"{client.gateway_url}/v1/uploads", data=photo, headers=headers, timeout=30).json()["id"])


def staged(client: Client, upload_id: str, *, variants: int, **terms: Any) -> dict[str, Any]:
    answer = post(client, "/v1/stagings", {"upload_id": upload_id, **ROOM, "variants": variants, **terms})
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def all_ended(client: Client, seen: list[int]) -> bool:
    """Look at all jobs at once, and note how many generations are at work."""
    jobs = get(client, "/v1/jobs")["data"]
    seen.append(sum(job["counts"]["running"] for job in jobs))
    return all(job["finished_at"] for job in jobs)


def test_a_test_key_makes_images_without_a_credit(new_client: NewClient) -> None:
    live = new_client(0)
    test = with_a_test_key(live)
    wallet, entries = live.wallet(), get(live, "/v1/credits/entries")["data"]
    upload_id = test.upload()
    inputs = {"upload_id": upload_id, **ROOM, "variants": 2}

    rehearsed = post(test, "/v1/stagings", {**inputs, "dry_run": True}).json()
    quote = post(test, "/v1/quotes", {"workflow": "staging", "inputs": inputs}).json()
    accepted = staged(test, upload_id, variants=2, quote_id=quote["id"])
    job = finished(test, accepted["id"])

    assert (rehearsed["amount"], quote["amount"], quote["livemode"]) == (20, 20, False)
    assert (accepted["livemode"], accepted["reserved"], accepted["balance"]["held"]) == (False, 0, 0)
    assert (job["status"], job["charged"], job["refunded"]) == ("succeeded", 0, 0)
    images = test.images(job)
    assert [image["livemode"] for image in images] == [False, False]
    assert {(image["provenance"]["provider"], image["provenance"]["livemode"]) for image in images} == {
        ("local", False)
    }
    assert all(test.is_whole(image) for image in images)
    receipt = get(test, f"/v1/jobs/{job['id']}/receipt")
    assert (receipt["closed"], receipt["totals"], receipt["lines"]["data"]) == (True, {}, [])
    assert post(test, "/v1/stagings", {**inputs, "quote_id": quote["id"]}).json()["code"] == "quote_used"
    assert {**live.wallet(), "quota": None} == {**wallet, "quota": None}
    assert get(live, "/v1/credits/entries")["data"] == entries
    assert get(live, "/v1/usage")["data"] == []


def test_live_and_test_keys_see_nothing_of_each_other(new_client: NewClient) -> None:
    live = new_client(100)
    test = with_a_test_key(live)
    sides: list[tuple[Client, Client, bool]] = [(live, test, True), (test, live, False)]

    made = []
    for own, _, livemode in sides:
        upload_id = own.upload()
        job = finished(own, staged(own, upload_id, variants=1)["id"])
        made.append((upload_id, job["id"], test.images(job)[0]["id"]))
        assert job["livemode"] is livemode

    for (own, other, livemode), (upload_id, job_id, image_id) in zip(sides, made, strict=True):
        assert [job["livemode"] for job in get(own, "/v1/jobs")["data"]] == [livemode]
        assert [image["id"] for image in get(own, "/v1/images")["data"]] == [image_id]
        for path in (
            f"/v1/uploads/{upload_id}",
            f"/v1/jobs/{job_id}",
            f"/v1/jobs/{job_id}/generations",
            f"/v1/jobs/{job_id}/receipt",
            f"/v1/images/{image_id}",
            f"/v1/images/{image_id}/content",
            f"/v1/credits/entries?image={image_id}",
        ):
            assert raw_get(own, path).status_code in {200, 303}, path
            assert raw_get(other, path).status_code == 404, path
        assert post(other, "/v1/stagings", {"upload_id": upload_id, **ROOM}).status_code == 404
    assert made[0][0] != made[1][0]  # the same picture, and two uploads


def test_of_test_work_one_thing_is_done_at_a_time_and_only_so_much_may_wait(new_client: NewClient) -> None:
    live = new_client(0)
    test = with_a_test_key(live)
    uploads = [uploaded(test, small_photo(number)) for number in range(11)]
    scenes = {"upload_ids": uploads, "style": "modern", "room_type": "kitchen", "variants": 5}

    for _ in range(2):
        staged(test, uploads[0], variants=3)
    too_much = post(test, "/v1/jobs", {"workflow": "studio", "inputs": scenes})
    seen: list[int] = []
    until(lambda: all_ended(test, seen), seconds=120, what="the end of the test work")

    assert (too_much.status_code, too_much.json()["code"], too_much.json()["limit"]) == (422, "limit_exceeded", 50)
    assert max(seen) == 1
    jobs = get(test, "/v1/jobs")["data"]
    assert [(job["status"], job["counts"]["succeeded"]) for job in jobs] == [("succeeded", 3)] * 2
