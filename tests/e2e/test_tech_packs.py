"""The technical pack of the product document, with its prices, over HTTP: from photos of a product to a whole pack."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.e2e.steps import NewClient, finished, get, post, raw_get, settled
from tests.e2e.test_test_keys import with_a_test_key
from tests.faults.client import Client
from tests.polling import until
from tests.products import a_cup

pytestmark = pytest.mark.stack


def uploaded(client: Client, picture: bytes) -> str:
    answer = requests.post(
        f"{client.gateway_url}/v1/uploads?purpose=product",
        data=picture,
        headers={"Authorization": f"Bearer {client.api_key}", "Content-Type": "image/jpeg"},
        timeout=30,
    )
    assert answer.status_code == 201, answer.text
    upload_id: str = answer.json()["id"]
    return upload_id


def a_product(client: Client, *views: str, **about: Any) -> dict[str, Any]:
    """Make a product with a picture of each view, each another picture."""
    made = post(client, "/v1/products", {"name": "Espresso cup", "category": "cup", **about}).json()
    for number, view in enumerate(views):
        body = {"view_type": view, "upload_id": uploaded(client, a_cup(turned=number))}
        answer = post(client, f"/v1/products/{made['id']}/views", body)
        assert answer.status_code == 201, answer.text
    product: dict[str, Any] = get(client, f"/v1/products/{made['id']}")
    return product


def done(client: Client, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Have a step done; return its job once it has ended and is paid for."""
    answer = post(client, path, body or {})
    assert answer.status_code in {200, 202}, answer.text
    job = finished(client, answer.json()["id"], seconds=180)  # pictures take their time where many are at it
    assert job["status"] == "succeeded", job["generations"]
    settled(client)
    return job


def actions(pack: dict[str, Any]) -> list[str]:
    return [each["action"] for each in pack["next_actions"]]


def test_a_whole_pack_costs_nine_credits_and_comes_back_with_one_request(new_client: NewClient) -> None:
    client = new_client(20)
    product = a_product(client, "front", "back", "left", "right", "top", metadata={"height_mm": 90})
    pack = f"/v1/tech-packs/{product['id']}"

    # Category detection is free.
    category = done(client, f"{pack}/category")
    assert (category["charged"], client.wallet()["available"]) == (0, 20)
    assert [entry["kind"] for entry in get(client, "/v1/credits/entries")["data"]] == ["grant"]
    assert len(get(client, f"/v1/jobs/{category['id']}/attempts")["data"]) == 1
    assert set(category["generations"][0]["result"]) == {"category", "subcategory", "confidence"}

    # Base views: 3 credits for five views, with materials, dimensions, colours, construction, design elements.
    views = done(client, f"{pack}/base-views")
    assert (views["charged"], client.wallet()["available"]) == (3, 17)
    analyses = views["generations"][0]["result"]["analyses"]
    assert [one["view_type"] for one in analyses] == ["front", "back", "left", "right", "top"]
    for one in analyses:
        assert 0 < one["confidence"] <= 1
        for section in ("materials", "dimensions", "colors", "construction", "design_elements"):
            assert one["analysis"][section], section
    assert {"name": "height", "value": 9.0, "unit": "cm", "basis": "stated"} in analyses[0]["analysis"]["dimensions"]

    # Close-ups: 3 credits for six to ten shots, each with what it shows and an analysis.
    close_ups = done(client, f"{pack}/close-ups", {"count": 7})
    assert (close_ups["charged"], client.wallet()["available"]) == (3, 14)
    shots = close_ups["generations"][0]["result"]["shots"]
    assert [shot["order"] for shot in shots] == list(range(1, 8))
    assert len({client.pixels(image) for image in client.images(close_ups)}) == 7
    assert all(client.is_whole(image) for image in client.images(close_ups))

    # Sketches: 3 credits for front, back and side, with callouts and measurements.
    sketches = done(client, f"{pack}/sketches")
    assert (sketches["charged"], client.wallet()["available"]) == (3, 11)

    whole = get(client, pack)
    assert (whole["status"], whole["charged"], whole["at_work"]) == ("complete", 9, [])
    assert whole["category"] == category["generations"][0]["result"]
    assert [one["analysis"] for one in whole["base_views"]] == [one["analysis"] for one in analyses]
    assert [one["order"] for one in whole["close_ups"]] == list(range(1, 8))
    sides = ["front", "back", "left", "right", "top"]
    assert [one["seen_from"] for one in whole["close_ups"]] == [*sides, *sides[:2]]
    assert all(one["analysis"]["colors"] and one["title"] and one["reason"] for one in whole["close_ups"])
    assert [one["view_type"] for one in whole["sketches"]] == ["front", "back", "side"]
    assert [one["seen_from"] for one in whole["sketches"]] == ["front", "back", "left"]
    for one in whole["sketches"]:
        assert one["callouts"]
        assert [length["code"] for length in one["measurements"]][:2] == ["A", "B"]
        assert one["measurements"][1] == {**one["measurements"][1], "value": 9.0, "unit": "cm"}
        assert requests.get(one["image"]["url"], timeout=10).status_code == 200
        assert one["image"]["provenance"]["prompt_version"] == "tech-pack-sketch-1"
    assert whole["base_views"][0]["provenance"]["prompt_version"] == "tech-pack-base-view-2"

    # And it can be taken away.
    first, second = (raw_get(client, f"{pack}/export.pdf") for _ in range(2))
    assert (first.status_code, first.headers["Content-Type"]) == (200, "application/pdf")
    assert first.content[:5] == b"%PDF-"
    assert pages_of(first.content) >= 2 + 5 + 2 + 3  # cover, views, five of materials, close-ups, sketches
    assert first.content.count(b"/Subtype /Image") == 1 + 7 + 3 + 5 - 1  # the front's picture is on two pages
    assert first.content == second.content


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b(?!s)", pdf))


def test_what_was_analysed_before_is_there_within_a_second_for_nothing(new_client: NewClient) -> None:
    client = new_client(3)
    first, second = (a_product(client, "front", "back", name=name) for name in ("Cup", "The same cup"))
    done(client, f"/v1/tech-packs/{first['id']}/base-views")
    assert client.wallet()["available"] == 0

    began = time.monotonic()
    again = post(client, f"/v1/tech-packs/{second['id']}/base-views", {})
    took = time.monotonic() - began

    assert (again.status_code, again.headers["Cache-Status"]) == (200, "darkroom; hit")
    assert took < 1
    job = again.json()
    assert (job["status"], job["charged"], job["cache"]) == (
        "succeeded",
        0,
        {"operations": 2, "hits": 2, "fresh": False},
    )
    assert get(client, f"/v1/jobs/{job['id']}/attempts")["data"] == []
    one, other = (get(client, f"/v1/tech-packs/{each['id']}") for each in (first, second))
    assert [view["analysis"] for view in one["base_views"]] == [view["analysis"] for view in other["base_views"]]
    assert client.wallet()["available"] == 0


def test_what_is_known_in_part_costs_its_part(new_client: NewClient) -> None:
    client = new_client(6)
    product = a_product(client, "front")
    done(client, f"/v1/tech-packs/{product['id']}/base-views")
    for number, view in enumerate(("back", "left"), start=1):
        post(
            client,
            f"/v1/products/{product['id']}/views",
            {"view_type": view, "upload_id": uploaded(client, a_cup(turned=number))},
        )

    job = done(client, f"/v1/tech-packs/{product['id']}/base-views")

    assert (job["charged"], client.wallet()["available"]) == (2, 1)  # ceil(3 x 2 of 3)


def test_an_edit_changes_one_field_for_one_credit_and_keeps_what_it_said(new_client: NewClient) -> None:
    client = new_client(6)
    product = a_product(client, "front")
    pack = f"/v1/tech-packs/{product['id']}"
    revision = product["views"][0]["id"]
    done(client, f"{pack}/base-views")
    before = get(client, pack)["base_views"][0]["analysis"]

    job = done(
        client,
        f"/v1/revisions/{revision}/edits",
        {"field_path": "materials.0.finish", "prompt": "Set it to semi-matt."},
    )
    new = done(
        client,
        f"/v1/revisions/{revision}/edits",
        {"field_path": "attributes.dishwasher.value", "prompt": "Set it to safe up to 65 degrees"},
    )

    assert (job["charged"], new["charged"], client.wallet()["available"]) == (1, 1, 1)
    shown = get(client, pack)
    view = shown["base_views"][0]
    assert view["version"] == 3
    assert view["analysis"]["materials"][0]["finish"] == "semi-matt"
    assert view["analysis"]["attributes"][-1] == {"name": "dishwasher", "value": "safe up to 65 degrees"}
    unchanged = {**view["analysis"], "materials": before["materials"], "attributes": before["attributes"]}
    assert unchanged == before
    assert view["analysis"]["materials"][1:] == before["materials"][1:]
    last, first = shown["edits"]
    assert (first["field_path"], first["before"], first["after"]) == (
        "materials.0.finish",
        before["materials"][0]["finish"],
        "semi-matt",
    )
    assert (last["before"], last["version"]) == (None, 3)


def test_a_view_made_again_is_the_products_next_revision_with_an_analysis_of_its_own(new_client: NewClient) -> None:
    client = new_client(10)
    product = a_product(client, "front", "back")
    pack = f"/v1/tech-packs/{product['id']}"
    front = product["views"][0]
    done(client, f"{pack}/base-views")

    job = done(client, f"/v1/revisions/{front['id']}/regenerations", {"prompt": "Lit from the left."})

    assert (job["charged"], client.wallet()["available"]) == (1, 6)
    renewed = until_renewed(client, product["id"])
    assert (renewed["version"], renewed["is_current"], renewed["parent_id"]) == (2, True, front["id"])
    view = get(client, pack)["base_views"][0]
    assert (view["revision"]["id"], view["generation_id"]) == (renewed["id"], job["generations"][0]["id"])
    assert view["analysis"] == job["generations"][0]["result"]["analysis"]

    # It is a view like any other: its fields can be edited too.
    edited = done(
        client, f"/v1/revisions/{renewed['id']}/edits", {"field_path": "summary", "prompt": 'Set it to "A cup."'}
    )
    assert edited["charged"] == 1
    assert get(client, pack)["base_views"][0]["analysis"]["summary"] == "A cup."


def until_renewed(client: Client, product_id: str) -> dict[str, Any]:
    def renewed() -> dict[str, Any] | None:
        view = get(client, f"/v1/products/{product_id}")["views"][0]
        return view if view["source"] == "generation" else None

    found: dict[str, Any] = until(renewed, seconds=30, what="the new revision")
    return found


def test_ten_regenerations_of_a_view_at_once_are_ten_revisions_of_which_the_last_counts(new_client: NewClient) -> None:
    client = new_client(13)
    product = a_product(client, "front")
    address = f"/v1/revisions/{product['views'][0]['id']}/regenerations"
    done(client, f"/v1/tech-packs/{product['id']}/base-views")

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: post(client, address, {}), range(10)))
    jobs = [finished(client, answer.json()["id"], seconds=180) for answer in answers]

    assert {(job["status"], job["charged"]) for job in jobs} == {("succeeded", 1)}
    assert settled(client)["available"] == 0
    # Each is taken up when its event arrives; what was asked for last is the current one, whenever that was.
    last = max(jobs, key=lambda job: (job["created_at"], job["generations"][0]["id"]))["generations"][0]

    def eleventh() -> dict[str, Any] | None:
        (view,) = get(client, f"/v1/products/{product['id']}")["views"]
        return view if view["generation_id"] == last["id"] else None

    until(eleventh, seconds=60, what="the revision that was asked for last")
    (shown,) = get(client, f"/v1/tech-packs/{product['id']}")["base_views"]
    assert (shown["generation_id"], shown["analysis"]) == (last["id"], last["result"]["analysis"])


def pictures(pack: dict[str, Any], *, but: int) -> list[str]:
    """Return the ids of a pack's images, without one close-up and one sketch."""
    several = (pack["close_ups"], pack["sketches"])
    return [one["image"]["id"] for parts in several for number, one in enumerate(parts) if number != but]


def test_one_close_up_or_sketch_is_made_again_for_one_credit(new_client: NewClient) -> None:
    client = new_client(11)
    product = a_product(client, "front")
    pack = f"/v1/tech-packs/{product['id']}"
    for step in ("base-views", "close-ups", "sketches"):
        done(client, f"{pack}/{step}")
    before = get(client, pack)
    shot, drawing = before["close_ups"][2], before["sketches"][2]

    for part in (shot, drawing):
        job = done(client, f"{pack}/regenerations", {"image_id": part["image"]["id"], "prompt": "Closer."})
        assert job["charged"] == 1
    after = get(client, pack)

    assert client.wallet()["available"] == 0
    assert after["close_ups"][2]["image"]["parent_id"] == shot["image"]["id"]
    assert client.pixels(after["close_ups"][2]["image"]) != client.pixels(shot["image"])
    assert after["close_ups"][2]["title"] == shot["title"]
    assert after["sketches"][2]["image"]["parent_id"] == drawing["image"]["id"]
    assert pictures(after, but=2) == pictures(before, but=2)
    assert after["charged"] == 11


@pytest.mark.parametrize("step", ["close-ups", "sketches"])
def test_a_step_whose_ground_is_missing_is_409_with_what_is_allowed(new_client: NewClient, step: str) -> None:
    client = new_client(10)
    product = a_product(client, "front")
    bare = post(client, "/v1/products", {"name": "Nothing to see"}).json()
    pack = f"/v1/tech-packs/{product['id']}"

    too_early = post(client, f"{pack}/{step}", {})
    blind = post(client, f"/v1/tech-packs/{bare['id']}/base-views", {})
    edit = post(client, f"/v1/revisions/{product['views'][0]['id']}/edits", {"field_path": "summary", "prompt": "x"})

    assert (too_early.status_code, too_early.json()["code"]) == (409, "step_not_allowed")
    assert too_early.json()["allowed"] == ["add_view", "detect_category", "analyze_base_views"]
    assert too_early.json()["allowed"] == actions(get(client, pack))
    assert (blind.status_code, blind.json()["allowed"]) == (409, ["add_view"])
    assert (edit.status_code, edit.json()["session_status"]) == (409, "not_analyzed")
    assert client.wallet() == {**client.wallet(), "available": 10, "held": 0}


def test_each_failure_of_the_document_leaves_the_balance_as_it_was(new_client: NewClient) -> None:
    client, poor, stranger = new_client(3), new_client(2), new_client(3)
    product = a_product(client, "front")
    of_poor = a_product(poor, "front")
    pack = f"/v1/tech-packs/{product['id']}"
    unknown = "rev_01jx0000000000000000000000"

    nobody = requests.post(f"{client.gateway_url}{pack}/base-views", json={}, timeout=10)
    short = post(poor, f"/v1/tech-packs/{of_poor['id']}/base-views", {})
    invalid = post(client, f"{pack}/base-views", {"revision_ids": ["front"]})
    many = post(client, f"{pack}/close-ups", {"count": 11})
    missing = post(client, f"{pack}/base-views", {"revision_ids": [unknown]})
    foreign = post(stranger, f"{pack}/base-views", {})
    elsewhere = post(client, f"{pack}/base-views", {"revision_ids": [of_poor["views"][0]["id"]]})
    no_part = post(client, f"{pack}/regenerations", {"image_id": "img_01jx0000000000000000000000"})
    no_view = post(client, f"/v1/revisions/{unknown}/edits", {"field_path": "summary", "prompt": "x"})

    assert nobody.status_code == 401
    assert (short.status_code, short.json()["required"], short.json()["available"]) == (402, 3, 2)
    assert (invalid.status_code, many.status_code) == (400, 400)
    assert (missing.status_code, missing.json()["missing"]) == (404, [unknown])
    assert [answer.status_code for answer in (foreign, elsewhere, no_part, no_view)] == [404, 404, 404, 404]
    for one, available in ((client, 3), (poor, 2), (stranger, 3)):
        assert (settled(one)["available"], get(one, "/v1/credits/entries?limit=50")["data"][0]["amount"]) == (
            available,
            available,
        )


def test_a_field_that_is_not_there_is_400_and_an_edit_that_fails_is_a_failed_job_paid_back(
    new_client: NewClient,
) -> None:
    client = new_client(4)
    product = a_product(client, "front")
    done(client, f"/v1/tech-packs/{product['id']}/base-views")
    edits = f"/v1/revisions/{product['views'][0]['id']}/edits"

    nowhere = post(client, edits, {"field_path": "materials.99.finish", "prompt": "Set it to matt"})
    unsaid = post(client, edits, {"field_path": "colors.0.hex", "prompt": "Set it to something nicer"})
    job = finished(client, unsaid.json()["id"])

    (wrong,) = nowhere.json()["errors"]
    assert (nowhere.status_code, wrong["pointer"], wrong["code"]) == (400, "/field_path", "invalid")
    assert (job["status"], job["charged"], job["refunded"]) == ("failed", 0, 1)
    assert settled(client)["available"] == 1
    assert get(client, f"/v1/tech-packs/{product['id']}")["edits"] == []


def test_a_test_key_has_a_whole_pack_without_a_credit(new_client: NewClient) -> None:
    live = new_client(0)
    test = with_a_test_key(live)
    product = a_product(test, "front")
    pack = f"/v1/tech-packs/{product['id']}"

    for step in ("category", "base-views", "close-ups", "sketches"):
        assert done(test, f"{pack}/{step}")["charged"] == 0

    assert get(test, pack)["status"] == "complete"
    assert raw_get(live, pack).status_code == 404
