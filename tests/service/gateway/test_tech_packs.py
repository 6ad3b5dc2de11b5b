"""Technical packs over HTTP, before what generation says of them: addresses, bodies, and the file to take away."""

import re

import pytest

from services.gateway import tech_pack_files, tech_pack_letters, tech_pack_pages
from shared.ids import new_id
from shared.problems import BadRequest
from tests.fakes import an_analysis
from tests.product_domains import DOMAINS
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


def a_close_up(number=1, **about):
    words = dict.fromkeys(("title", "view", "instruction", "reason"), "rim")
    shown = {**words, "seen_from": "front", "analysis": an_analysis(category="cup"), "image": {"id": f"img_{number}"}}
    return {"order": number, **shown, **about}


def a_sketch(view="front", **about):
    ends = {"x1": 0, "y1": 1, "x2": 1, "y2": 1}
    length = {"code": "A", "name": "Width", "value": 8.5, "unit": "cm", "basis": "measured", **ends}
    place = {"number": 1, "label": "Rim", "note": "glazed", "x": 0.5, "y": 0}
    parts = {"callouts": [place], "measurements": [length]}
    return {"view_type": view, "seen_from": "front", **parts, "image": {"id": f"img_{view}"}, **about}


def said_everywhere(value, text):
    """Return a value in which every text says this."""
    if isinstance(value, dict):
        return {name: inner if name in {"id", "hex"} else said_everywhere(inner, text) for name, inner in value.items()}
    if isinstance(value, list):
        return [said_everywhere(one, text) for one in value]
    return text if isinstance(value, str) else value


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


def test_of_a_picture_that_is_large_the_small_one_is_on_the_page(gateway, store):
    store.put(key="images/org/small.jpg", chunks=a_cup(turned=1), content_type="image/jpeg")
    image = {"id": "img_1", "key": "images/org/large.jpg", "thumbnail_key": "images/org/small.jpg"}
    packs = [a_pack(close_ups=[a_close_up(image={**image, "bytes": size})]) for size in (5_000_000, 5_000_001)]

    files = [tech_pack_files.drawn(store, gateway.image_line, pack, org_id="org") for pack in packs]

    assert [pdf.count(b"/Subtype /Image") for pdf in files] == [0, 1]


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
        "W" * 100_000,
        "漢" * 100_000,
        "a\n" * 5000,
        "日本語 \x00\x1b[31m \N{RIGHT-TO-LEFT OVERRIDE}",
        "שלום مرحبا नमस्ते 🪑",
        "e\u0301" * 5000,
        "\ud800",
        "%(x)s {0} \\n ]]> --> (ET) Tj",
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


@pytest.mark.parametrize("text", ["W" * 5000, "漢" * 5000, "wide " * 1000])
def test_a_pack_that_says_too_much_of_everything_has_its_pages(text):
    """A row that is higher than a page could never be laid out, and the pack never be taken away."""
    sections = ("materials", "dimensions", "colors", "construction", "design_elements", "attributes")
    analysis = an_analysis(category="cup")
    full = {**analysis, **{name: analysis[name] * 60 for name in sections}}
    views = [{**a_view(), "analysis": full} for _ in range(2)]
    pack = said_everywhere(
        a_pack(
            base_views=views,
            close_ups=[a_close_up(number, analysis=full) for number in (1, 2)],
            sketches=[a_sketch(view) for view in ("front", "back", "side")],
            category={"category": "kitchen", "subcategory": "ware", "confidence": 0.5},
        ),
        text,
    )

    pdf = tech_pack_pages.drawn(pack, {"rev_1": a_cup()})

    assert pdf[:5] == b"%PDF-"
    assert 20 < pages(pdf) < 200


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_terms_of_every_trade_are_on_its_pages(domain):
    about = DOMAINS[domain]
    fields = [{"name": name, "value": value} for name, value in about["fields"].items()]
    pack = a_pack(base_views=[a_view(attributes=fields)])
    pack["product"]["name"] = about["name"]

    assert pages(tech_pack_pages.drawn(pack, {})) >= 3
    tech_pack_letters.know_fonts()
    for text in (about["name"], *about["material"], *about["fields"], *about["fields"].values()):
        assert tech_pack_letters.shown(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Żółć, Ångström, Ελληνικά, Кириллица, Tiếng Việt, ½ 10 µm²", None),
        ("椅子 いす カップ 의자", None),
        ("e\u0301 cole", "é cole"),
        ("a\tb\nc", "a b c"),
        ("a\x00\x1b\u202eb\u200dc\u00ad", "abc"),
        ("①Ⅳ", "1IV"),
        ("שלום", "\ufffd" * 4),
        ("🪑 chair", "\ufffd chair"),
        ("\ud800", "\ufffd"),
    ],
)
def test_what_there_are_letters_for_is_shown_and_what_not_is_seen_to_be_missing(text, shown):
    tech_pack_letters.know_fonts()

    assert tech_pack_letters.shown(text) == (text if shown is None else shown)


def test_letters_come_in_a_font_that_has_them_and_as_no_markup():
    tech_pack_letters.know_fonts()

    mixed = tech_pack_letters.markup('<b>Cup</b> 杯 & "カップ"')

    assert mixed == (
        '&lt;b&gt;Cup&lt;/b&gt; <font name="HeiseiMin-W3">杯</font> &amp; "<font name="HeiseiMin-W3">カップ</font>"'
    )
    assert tech_pack_letters.markup("杯") == '<font name="STSong-Light">杯</font>'
    assert tech_pack_letters.markup("컵 杯") == (
        '<font name="HYSMyeongJo-Medium">컵</font> <font name="HYSMyeongJo-Medium">杯</font>'
    )


def test_a_pack_in_chinese_has_its_letters_in_the_file():
    pack = a_pack(base_views=[a_view(summary="陶瓷杯")])
    pack["product"]["name"] = "杯子"

    pdf = tech_pack_pages.drawn(pack, {})

    assert b"/STSong-Light" in pdf
    assert b"UniGB-UCS2-H" in pdf


def test_what_generation_finds_wrong_is_pointed_at_where_it_stands_in_the_body(
    client, headers, services, cup, monkeypatch
):
    def refuse(**_):
        wrong = {"pointer": "/inputs/field_path", "code": "invalid", "detail": "there is no colours"}
        raise BadRequest("The analysis has no such field.", errors=[wrong])

    monkeypatch.setitem(services.generation.methods, "submit", refuse)
    revision_id = cup["views"][0]["id"]
    edit = {"field_path": "colours", "prompt": "Set it to red"}
    old = {"revisionId": revision_id, "fieldPath": "colours", "editPrompt": "Set it to red"}

    answer = client.post(f"/v1/revisions/{revision_id}/edits", json=edit, headers=keyed(headers))
    before = client.post("/api/tech-pack-v2/edit", json=old, headers=keyed(headers))

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/field_path")
    assert (before.status_code, before.json["errors"][0]["pointer"]) == (400, "/fieldPath")


def test_a_colour_that_is_none_is_left_out():
    palette = [{"hex": "#zzzzzz", "name": "none", "share": 1}, {"hex": "red", "name": "red", "share": 0}]

    assert tech_pack_pages.drawn(a_pack(base_views=[a_view(colors=palette)]), {})[:5] == b"%PDF-"
