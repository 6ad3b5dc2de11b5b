"""What is made to hurt whoever decodes it: refused by every way in, in plain words, with memory flat."""

import io

import psutil
import pytest

from tests.pictures import a_black_png, a_picture, a_polyglot

SIDE = 19_000


def family():
    """The memory of this process and its image workers, in bytes."""
    here = psutil.Process()
    return sum(process.memory_info().rss for process in [here, *here.children(recursive=True)])


def test_a_small_file_of_361_million_pixels_is_refused_and_costs_no_memory(client, studio, store, services):
    bomb = a_black_png(SIDE)
    assert len(bomb) < 60_000
    client.post("/v1/uploads", data=a_picture(), headers=studio[1])
    before = family()
    kept = list(store.keys())

    answers = [client.post("/v1/uploads", data=bomb, headers=studio[1]) for _ in range(5)]

    assert {(answer.status_code, answer.json["code"]) for answer in answers} == {(422, "image_too_many_pixels")}
    assert answers[0].json["detail"].startswith(f"The image has {SIDE} x {SIDE} pixels; at most 50 million")
    assert (answers[0].json["limit"], answers[0].json["excess"]) == (50_000_000, SIDE * SIDE - 50_000_000)
    assert family() - before < 8_000_000
    assert list(store.keys()) == kept
    assert len(services.assets) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_is_something_else_as_well_is_only_a_picture_afterwards(client, studio, store, services, kind):
    polyglot = a_polyglot(kind)
    assert b"<script>" in polyglot

    answer = client.post("/v1/uploads", data=polyglot, headers=studio[1])

    assert answer.status_code == 201
    [known] = services.catalog.asked("register_asset")
    kept = b"".join(store.open(known["key"]))
    assert b"<script>" not in kept
    assert b"PK\x03\x04" not in kept


def test_a_name_that_lies_about_its_kind_changes_nothing(client, studio):
    html = b"<html><script>alert(1)</script></html>"

    answer = client.post(
        "/v1/uploads", data={"file": (io.BytesIO(html), "room.html.jpg", "image/jpeg")}, headers=studio[1]
    )

    assert (answer.status_code, answer.json["code"]) == (400, "unsupported_image_type")


def test_the_same_picture_again_is_the_asset_of_before_without_a_second_copy(client, studio, store, services):
    first = client.post("/v1/uploads", data=a_picture(), headers=studio[1]).json
    services.catalog.methods["register_asset"] = lambda **_: services.assets[first["id"]]

    again = client.post("/v1/uploads", data=a_picture(), headers=studio[1])

    assert (again.status_code, again.json["id"]) == (201, first["id"])
    assert again.headers["Location"] == f"/v1/uploads/{first['id']}"
    assert list(store.keys()) == [services.assets[first["id"]]["key"]]
