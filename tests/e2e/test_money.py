"""Money over HTTP: what is promised, held, charged, given back, and shown."""

import csv
import io
from typing import Any

import pytest

from darkroom_client import Darkroom, InsufficientCredits, QuotaExceeded, QuoteRefused
from shared.ids import new_id
from tests.e2e.steps import (
    POLL_SECONDS,
    NewClient,
    NewDarkroom,
    finished,
    get,
    paid,
    post,
    raw_get,
    settled,
    ten_times,
)
from tests.faults.client import Client, small_photo
from tests.polling import until

pytestmark = pytest.mark.stack

ROOM = {"style": "modern", "room_type": "bedroom"}


def staging(client: Client, *, variants: int = 2) -> dict[str, Any]:
    return {"upload_id": client.upload(), **ROOM, "variants": variants}


def inputs_of(darkroom: Darkroom, *, variants: int = 2) -> dict[str, Any]:
    return {"upload_id": darkroom.uploads.create(small_photo()).id, **ROOM, "variants": variants}


def scenes(uploads: list[str], *, variants: int) -> dict[str, Any]:
    return {"upload_ids": uploads, "style": "modern", "room_type": "kitchen", "variants": variants}


def test_a_quote_is_kept_and_the_receipt_adds_up(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(100)
    inputs = inputs_of(darkroom)
    quote = darkroom.quotes.create("staging", inputs)

    job = darkroom.jobs.create("staging", inputs, quote_id=quote.id)
    ended = darkroom.jobs.wait(job, poll_seconds=POLL_SECONDS)
    paid(darkroom)

    receipt = darkroom.jobs.receipt(job.id)
    totals = receipt.totals["credits"]
    assert (quote.amount, quote.images, ended.charged) == (20, 2, 20)
    assert receipt.quote_id == quote.id
    assert (totals.held, totals.charged, totals.refunded, totals.returned, totals.open) == (20, 20, 0, 0, 0)
    assert {line.generation_id for line in receipt.lines} == {generation.id for generation in ended.generations}
    with pytest.raises(QuoteRefused, match="409 quote_used"):
        darkroom.jobs.create("staging", inputs, quote_id=quote.id)


def test_a_quote_is_good_for_its_own_inputs_and_organization_only(new_client: NewClient) -> None:
    client, stranger = new_client(100), new_client(100)
    inputs = staging(client)
    quote = post(client, "/v1/quotes", {"workflow": "staging", "inputs": inputs}).json()

    other = post(client, "/v1/stagings", {**inputs, "variants": 3, "quote_id": quote["id"]})
    foreign = post(stranger, "/v1/stagings", {**staging(stranger), "quote_id": quote["id"]})

    assert (other.status_code, other.json()["code"]) == (422, "quote_mismatch")
    assert foreign.status_code == 404
    assert client.wallet()["held"] == stranger.wallet()["held"] == 0


def test_a_dry_run_says_what_a_job_would_hold_and_holds_nothing(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(30)
    entries = list(darkroom.credits.entries())

    fits = darkroom.jobs.estimate("staging", inputs_of(darkroom))
    with pytest.raises(InsufficientCredits) as short:
        darkroom.jobs.estimate("staging", inputs_of(darkroom, variants=4))

    assert (fits.amount, fits.images) == (20, 2)
    assert (short.value.required, short.value.available, short.value.max_affordable) == (40, 30, 3)
    assert list(darkroom.credits.entries()) == entries
    assert list(darkroom.jobs.list()) == []


def test_a_partial_job_makes_what_can_be_paid_for_and_charges_only_that(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(25)

    accepted = darkroom.jobs.create("staging", inputs_of(darkroom, variants=4), on_insufficient="partial")

    job = darkroom.jobs.wait(accepted, poll_seconds=POLL_SECONDS)
    assert (accepted.ended, job.status, job.charged) == (False, "partially_succeeded", 20)
    assert [failure.reason for failure in job.failures] == ["insufficient_credits"] * 2
    assert paid(darkroom).available == 5


def test_a_paused_job_goes_on_by_itself_once_the_plan_allows_it(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(0, plan="free")
    photos = [darkroom.uploads.create(small_photo(number)).id for number in range(17)]
    used = darkroom.jobs.create("studio", scenes(photos, variants=5))
    darkroom.jobs.wait(used, timeout_seconds=120, poll_seconds=POLL_SECONDS)

    with pytest.raises(QuotaExceeded) as refused:
        darkroom.jobs.create("studio", scenes(photos[:5], variants=4))
    paused = darkroom.jobs.create("studio", scenes(photos[:5], variants=4), on_insufficient="pause")
    until(lambda: darkroom.jobs.get(paused.id).status == "paused", seconds=60, what="the pause")
    waiting = darkroom.jobs.get(paused.id)
    upgraded = darkroom.credits.change_plan("pro")
    job = darkroom.jobs.wait(paused, timeout_seconds=180, poll_seconds=POLL_SECONDS)

    figures = (refused.value.limit, refused.value.used, refused.value.requested, refused.value.max_affordable)
    assert (refused.value.status, figures) == (402, (100, 85, 20, 15))
    assert (waiting.counts.succeeded, waiting.waiting_reason) == (15, "quota_exceeded")
    assert upgraded.quota.limit is None
    assert (job.status, job.counts.succeeded, job.charged) == ("succeeded", 20, 20)
    assert darkroom.credits.balance().quota.used == 105


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


def test_of_a_hundred_orders_with_one_key_exactly_those_are_held_that_it_may_pay_for(new_client: NewClient) -> None:
    owner = new_client(2000)
    made = post(owner, "/v1/api-keys", {"name": "CI", "daily_cap": 200}).json()
    capped = Client(gateway_url=owner.gateway_url, api_key=made["secret"], org_id=owner.org_id)
    order = staging(capped, variants=1)

    capped.stage_many(order["upload_id"], count=100).join()
    replaced = post(owner, f"/v1/api-keys/{made['id']}/rotate", {}).json()
    heir = Client(gateway_url=owner.gateway_url, api_key=replaced["secret"], org_id=owner.org_id)
    of_heir = post(heir, "/v1/stagings", order)
    finished(owner, post(owner, "/v1/stagings", order).json()["id"], seconds=120)

    assert (len(capped.accepted), capped.refused) == (20, [402] * 80)
    figures = {name: of_heir.json()[name] for name in ("code", "limit", "used", "requested", "max_affordable")}
    assert figures == {
        "code": "key_cap_reached",
        "limit": 200,
        "used": 200,
        "requested": 10,
        "max_affordable": 0,
    }
    wallet = until(lambda: found if (found := owner.wallet())["held"] == 0 else None, seconds=180, what="settlement")
    assert wallet["available"] == 2000 - 200 - 10


def test_the_ledger_adds_up_after_all_of_that(admin: Client) -> None:
    proof = get(admin, "/v1/admin/invariants")

    assert proof["violations"] == []
    assert proof["entries"] > 0
