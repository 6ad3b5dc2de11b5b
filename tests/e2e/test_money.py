"""Money over HTTP: what is promised, held, charged, given back, and shown."""

import csv
import io
from typing import Any

import pytest
import requests

from shared.ids import new_id
from tests.e2e.steps import NewClient, finished, get, post, raw_get, settled, ten_times
from tests.faults.client import Client
from tests.polling import until

pytestmark = pytest.mark.stack

ROOM = {"style": "modern", "room_type": "bedroom"}


def staging(client: Client, *, variants: int = 2) -> dict[str, Any]:
    return {"upload_id": client.upload(), **ROOM, "variants": variants}


def studio(uploads: list[str], *, variants: int, **terms: Any) -> dict[str, Any]:
    inputs = {"upload_ids": uploads, "style": "modern", "room_type": "kitchen", "variants": variants}
    return {"workflow": "studio", "inputs": inputs, **terms}


def put(client: Client, path: str, body: dict[str, Any]) -> requests.Response:
    headers = {"Authorization": f"Bearer {client.api_key}"}
    return requests.put(client.gateway_url + path, json=body, headers=headers, timeout=20)


def test_a_quote_is_kept_and_the_receipt_adds_up(new_client: NewClient) -> None:
    client = new_client(100)
    inputs = staging(client)
    quote = post(client, "/v1/quotes", {"workflow": "staging", "inputs": inputs}).json()

    job = post(client, "/v1/jobs", {"workflow": "staging", "inputs": inputs, "quote_id": quote["id"]}).json()
    ended = finished(client, job["id"])
    settled(client)

    receipt = get(client, f"/v1/jobs/{job['id']}/receipt")
    assert (quote["amount"], quote["images"], ended["charged"]) == (20, 2, 20)
    assert receipt["quote_id"] == quote["id"]
    assert receipt["totals"]["credits"] == {"held": 20, "charged": 20, "refunded": 0, "returned": 0, "open": 0}
    assert {line["generation_id"] for line in receipt["lines"]["data"]} == {
        generation["id"] for generation in ended["generations"]
    }
    again = post(client, "/v1/jobs", {"workflow": "staging", "inputs": inputs, "quote_id": quote["id"]})
    assert (again.status_code, again.json()["code"]) == (409, "quote_used")


def test_a_quote_is_good_for_its_own_inputs_and_organization_only(new_client: NewClient) -> None:
    client, stranger = new_client(100), new_client(100)
    inputs = staging(client)
    quote = post(client, "/v1/quotes", {"workflow": "staging", "inputs": inputs}).json()

    other = post(client, "/v1/stagings", {**inputs, "variants": 3, "quote_id": quote["id"]})
    foreign = post(stranger, "/v1/stagings", {**staging(stranger), "quote_id": quote["id"]})

    assert (other.status_code, other.json()["code"]) == (422, "quote_mismatch")
    assert foreign.status_code == 404
    assert client.wallet()["held"] == stranger.wallet()["held"] == 0


def test_a_dry_run_says_what_a_job_would_hold_and_holds_nothing(new_client: NewClient) -> None:
    client = new_client(30)
    entries = get(client, "/v1/credits/entries")["data"]

    fits = post(client, "/v1/stagings", {**staging(client), "dry_run": True})
    short = post(client, "/v1/stagings", {**staging(client, variants=4), "dry_run": True})

    assert (fits.status_code, fits.json()["amount"], fits.json()["images"]) == (200, 20, 2)
    assert (short.status_code, short.json()["required"], short.json()["max_affordable"]) == (402, 40, 3)
    assert get(client, "/v1/credits/entries")["data"] == entries
    assert get(client, "/v1/jobs")["data"] == []


def test_a_partial_job_makes_what_can_be_paid_for_and_charges_only_that(new_client: NewClient) -> None:
    client = new_client(25)

    accepted = post(client, "/v1/stagings", {**staging(client, variants=4), "on_insufficient": "partial"})

    job = finished(client, accepted.json()["id"])
    failed = [each for each in job["generations"] if each["status"] == "failed"]
    assert (accepted.status_code, job["status"], job["charged"]) == (202, "partially_succeeded", 20)
    assert [each["failure"]["reason"] for each in failed] == ["insufficient_credits"] * 2
    assert settled(client)["available"] == 5


def test_a_paused_job_goes_on_by_itself_once_the_plan_allows_it(new_client: NewClient) -> None:
    client = new_client(0, plan="free")
    uploads = [client.upload() for _ in range(45)]
    used = post(client, "/v1/jobs", studio(uploads[:17], variants=5))
    finished(client, used.json()["id"], seconds=120)

    refused = post(client, "/v1/jobs", studio(uploads, variants=4))
    paused = post(client, "/v1/jobs", studio(uploads, variants=4, on_insufficient="pause"))
    until(lambda: client.job(paused.json()["id"])["status"] == "paused", seconds=60, what="the pause")
    waiting = client.job(paused.json()["id"])
    upgraded = put(client, "/v1/plan", {"plan": "pro"})
    job = finished(client, paused.json()["id"], seconds=180)

    figures = {name: refused.json()[name] for name in ("code", "limit", "used", "requested", "max_affordable")}
    assert refused.status_code == 402
    assert figures == {
        "code": "quota_exceeded",
        "limit": 100,
        "used": 85,
        "requested": 180,
        "max_affordable": 15,
    }
    assert (waiting["counts"]["succeeded"], waiting["waiting_reason"]) == (15, "quota_exceeded")
    assert upgraded.json()["quota"]["limit"] is None
    assert (job["status"], job["counts"]["succeeded"], job["charged"]) == ("succeeded", 180, 180)
    assert client.wallet()["quota"]["used"] == 265


def test_every_request_that_moves_money_has_one_effect_however_often_it_is_sent(
    new_client: NewClient, admin: Client
) -> None:
    client = new_client(1000)
    organization = f"/v1/admin/organizations/{client.org_id}"
    body, keys = staging(client, variants=1), [new_id("key") for _ in range(4)]

    staged = ten_times(lambda: post(client, "/v1/stagings", body, key=keys[0]))
    granted = {"amount": 7, "kind": "promotional", "reason": "thanks"}
    ten_times(lambda: post(admin, f"{organization}/grants", granted, key=keys[1]))
    ten_times(lambda: post(admin, f"{organization}/adjustments", {"amount": -5, "reason": "typo"}, key=keys[2]))
    (job_id,) = {answer.json()["id"] for answer in staged if answer.status_code == 202}
    finished(client, job_id)
    before = settled(client)["available"]
    returned = ten_times(lambda: post(admin, f"/v1/admin/jobs/{job_id}/refund", {"reason": "sorry"}, key=keys[3]))

    assert len(get(client, "/v1/jobs")["data"]) == 1
    assert {answer.status_code for answer in staged} <= {202, 409}
    assert before == 1000 - 10 + 7 - 5
    assert {answer.status_code for answer in returned} <= {200, 409}
    assert client.wallet()["available"] == before + 10
    assert get(client, f"/v1/jobs/{job_id}/receipt")["totals"]["credits"]["returned"] == 10


def test_the_history_can_be_filtered_and_taken_away_as_a_table(new_client: NewClient, admin: Client) -> None:
    client = new_client(100)
    job_id = post(client, "/v1/stagings", staging(client, variants=1)).json()["id"]
    job = finished(client, job_id)
    settled(client)
    granted = {"amount": 1, "kind": "promotional", "reason": "=HYPERLINK(1)"}
    post(admin, f"/v1/admin/organizations/{client.org_id}/grants", granted)
    (generation,) = job["generations"]

    of_generation = get(client, f"/v1/credits/entries?generation={generation['id']}")["data"]
    of_image = get(client, f"/v1/credits/entries?image={generation['images'][0]['id']}")["data"]
    table = raw_get(client, "/v1/credits/entries.csv")

    assert [entry["kind"] for entry in of_generation] == ["capture", "hold"]
    assert of_image == of_generation
    assert raw_get(client, generation["entries_url"]).json()["data"] == of_generation
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["kind"] for row in rows] == ["grant", "capture", "hold", "grant"]
    assert rows[0]["reason"] == "'=HYPERLINK(1)"


def test_the_ledger_adds_up_after_all_of_that(admin: Client) -> None:
    proof = get(admin, "/v1/admin/invariants")

    assert proof["violations"] == []
    assert proof["entries"] > 0
