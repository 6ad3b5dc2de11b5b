"""What is made to hurt whoever decodes it: refused by every way in, in plain words, with memory flat."""

import io

import PIL.Image
import psutil
import pytest

from services.gateway import uploads
from services.gateway.turns import image_line
from shared.off_hub import Pool
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


@pytest.mark.parametrize(("width", "height"), [(1, 1_000_000), (20_001, 1), (1, 20_001)])
def test_a_picture_with_an_endless_side_is_refused_however_few_its_pixels(client, studio, store, width, height):
    thread = a_black_png(width, height)

    answer = client.post("/v1/uploads", data=thread, headers=studio[1])

    assert (answer.status_code, answer.json["code"]) == (422, "image_too_many_pixels")
    assert answer.json["detail"].startswith(f"The image has {width} x {height} pixels; at most 20000")
    assert (answer.json["limit"], answer.json["excess"]) == (20_000, max(width, height) - 20_000)
    assert list(store.keys()) == []


def test_a_side_of_twenty_thousand_pixels_is_taken(client, studio):
    answer = client.post("/v1/uploads", data=a_black_png(20_000, 2), headers=studio[1])

    assert (answer.status_code, answer.json["width"]) == (201, 20_000)


def test_pictures_of_one_organization_leave_a_worker_to_the_others(gateway, client, studio, an_organization):
    """One place of two is all that an organization gets, by whichever way its pictures come."""
    _, others = an_organization(name="Somebody else")
    gateway.image_line = image_line(in_line=0)

    with gateway.image_line.place_of(studio[0]):
        refused = client.post("/v1/uploads", data=a_picture(), headers=studio[1])
        taken = client.post("/v1/uploads", data=a_picture(), headers=others)

    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (
        503,
        "service_unavailable",
        "2",
    )
    assert taken.status_code == 201
    assert client.post("/v1/uploads", data=a_picture(), headers=studio[1]).status_code == 201


def test_a_picture_that_takes_too_much_processor_time_is_given_up_and_the_next_is_served(
    client, studio, store, monkeypatch
):
    pool = Pool(size=1, cpu_seconds=1)
    monkeypatch.setattr(uploads, "_pool", pool)
    noise = io.BytesIO()
    PIL.Image.effect_noise((6000, 3400), 90).convert("RGB").save(noise, "WEBP", quality=5, method=0)
    slow = noise.getvalue()  # some two seconds to decode and encode again
    assert len(slow) < uploads.MAX_BYTES

    answer = client.post("/v1/uploads", data=slow, headers=studio[1])
    after = client.post("/v1/uploads", data=a_picture(), headers=studio[1])
    pool.close()

    assert (answer.status_code, answer.json["code"]) == (503, "image_work_failed")
    assert after.status_code == 201
    assert len(list(store.keys())) == 1


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
