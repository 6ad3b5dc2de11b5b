"""Technical packs over HTTP, before what generation says of them: addresses, bodies, and the file to take away."""

import re

import pytest

from services.gateway import tech_pack_pages
from shared.ids import new_id
from tests.fakes import an_analysis
from tests.products import a_cup

UNKNOWN = "rev_01jx0000000000000000000000"


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def cup(client, headers, services, store, an_upload, studio):
    """Give a product with a picture of its front in the store."""
    upload_id = an_upload(studio[0])
    key = f"assets/{studio[0]}/cup.jpg"
    store.put(key=key, chunks=a_cup(), content_type="image/jpeg")
    services.assets[upload_id].update(key=key, thumbnail_key=key)
    return client.post("/v1/products", json={"name": "A cup", "upload_id": upload_id}, headers=headers).json


def keyed(headers):
    return {**headers, "Idempotency-Key": new_id("key")}


def pages(pdf):
    return len(re.findall(rb"/Type /Page\b(?!s)", pdf))


def a_pack(**parts):
    product = {"id": "prd_1", "name": "A cup", "sku": None, "category": None, "description": None, "version": 1}
    nothing = {"category": None, "base_views": [], "close_ups": [], "sketches": []}
    return {"product": product, **nothing, **parts}


def a_view(**sections):
    return {
        "revision": {"id": "rev_1", "view_type": "front", "version": 1},
        "analysis": an_analysis(category="cup", **sections),
        "confidence": 0.8,
        "version": 1,
        "provenance": {"provider": "local", "model": "m", "prompt_version": "p"},
    }


def test_a_pack_has_addresses_in_place_of_keys(client, headers, cup):
    pack = client.get(f"/v1/tech-packs/{cup['id']}", headers=headers)

    assert pack.status_code == 200
    assert pack.json["product"]["id"] == cup["id"]
    (view,) = pack.json["base_views"]
    assert "/files/assets/" in view["revision"]["url"]
    assert "key" not in view["revision"]
    assert pack.json["product"]["thumbnail_url"]


@pytest.mark.parametrize(
    ("address", "body", "workflow", "inputs"),
    [
        ("/v1/tech-packs/{product}/category", {}, "tech_pack_category", {}),
        ("/v1/tech-packs/{product}/base-views", {"category": "cup"}, "tech_pack_base_views", {"category": "cup"}),
        ("/v1/tech-packs/{product}/close-ups", {}, "tech_pack_close_ups", {"count": 8}),
        ("/v1/tech-packs/{product}/sketches", {}, "tech_pack_sketches", {}),
    ],
)
def test_each_step_is_a_job_of_its_workflow(client, headers, services, cup, address, body, workflow, inputs):
    answer = client.post(address.format(product=cup["id"]), json=body, headers=keyed(headers))

    assert answer.status_code == 202
    (asked,) = services.generation.asked("submit")
    assert (asked["workflow"], asked["inputs"]) == (workflow, {"product_id": cup["id"], **inputs})
    assert set(asked["assets"]) == {cup["id"]}


@pytest.mark.parametrize(
    ("address", "body", "pointer"),
    [
        ("base-views", {"revision_ids": []}, "/revision_ids"),
        ("base-views", {"revision_ids": [UNKNOWN] * 6}, "/revision_ids"),
        ("base-views", {"revision_ids": [UNKNOWN] * 2}, "/revision_ids"),
        ("close-ups", {"count": 5}, "/count"),
        ("close-ups", {"count": 11}, "/count"),
        ("sketches", {"views": ["front"]}, "/views"),
        ("regenerations", {}, "/image_id"),
    ],
)
def test_what_does_not_fit_is_400_with_a_pointer(client, headers, services, cup, address, body, pointer):
    answer = client.post(f"/v1/tech-packs/{cup['id']}/{address}", json=body, headers=keyed(headers))

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)
    assert services.generation.asked("submit") == []


def test_a_pack_is_taken_away_as_a_file(client, headers, cup):
    answer = client.get(f"/v1/tech-packs/{cup['id']}/export.pdf", headers=headers)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/pdf")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="tech-pack-{cup["id"]}.pdf"'
    assert answer.data[:5] == b"%PDF-"
    assert (pages(answer.data), answer.data.count(b"/Subtype /Image")) == (2, 1)


def test_a_picture_that_is_gone_leaves_a_gap_and_no_failure(client, headers, cup, store, studio):
    store.delete(f"assets/{studio[0]}/cup.jpg")

    answer = client.get(f"/v1/tech-packs/{cup['id']}/export.pdf", headers=headers)

    assert (answer.status_code, answer.data.count(b"/Subtype /Image")) == (200, 0)


def test_the_same_pack_makes_the_same_bytes():
    pack = a_pack(base_views=[a_view()])

    assert tech_pack_pages.drawn(pack, {"rev_1": a_cup()}) == tech_pack_pages.drawn(pack, {"rev_1": a_cup()})


@pytest.mark.parametrize(
    "text",
    [
        '<img src="file:///etc/passwd"/>',
        '<a href="https://example.com">x</a></para><para>',
        "&nonsense; <b>",
        "wide" * 5000,
        "日本語 \x00\x1b[31m \N{RIGHT-TO-LEFT OVERRIDE}",
        "",
    ],
)
def test_no_text_from_outside_is_markup_or_too_long(text):
    fields = [{"name": text, "value": text}] * 200
    view = a_view(summary=text, construction=fields, materials=[{"name": text, "location": text, "finish": text}] * 50)
    pack = a_pack(base_views=[view])
    pack["product"].update(name=text or "x", description=text)

    pdf = tech_pack_pages.drawn(pack, {"rev_1": b"no picture"})

    assert pdf[:5] == b"%PDF-"
    assert b"/Link" not in pdf
    assert pages(pdf) < 60


def test_a_colour_that_is_none_is_left_out():
    palette = [{"hex": "#zzzzzz", "name": "none", "share": 1}, {"hex": "red", "name": "red", "share": 0}]

    assert tech_pack_pages.drawn(a_pack(base_views=[a_view(colors=palette)]), {})[:5] == b"%PDF-"
