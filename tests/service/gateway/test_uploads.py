"""Sending pictures in: as a form or as they are, checked by content, stored safe, known to the catalog."""

import io

import PIL.Image
import pytest

from shared.ids import is_id
from shared.problems import NotFound, Unavailable
from shared.storage import StorageUnavailable


def a_picture(kind="JPEG", *, size=(640, 480), **options):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, "navy").save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.mark.parametrize(
    ("kind", "content_type", "ending"),
    [("JPEG", "image/jpeg", "jpg"), ("PNG", "image/png", "png"), ("WEBP", "image/webp", "webp")],
)
def test_a_picture_may_come_as_it_is(client, headers, org_id, services, store, kind, content_type, ending):
    answer = client.post("/v1/uploads?purpose=room", data=a_picture(kind), headers=headers, content_type=content_type)

    asset = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/uploads/{asset['id']}"
    assert is_id(asset["id"], prefix="ast")
    assert (asset["content_type"], asset["width"], asset["height"]) == (content_type, 640, 480)
    assert "key" not in asset
    [known] = services.catalog.asked("register_asset")
    assert known["key"] == f"assets/{org_id}/{asset['id']}.{ending}"
    assert (known["purpose"], known["keep_original"], known["file_name"]) == ("room", False, None)
    stored = store.measure(known["key"])
    assert (stored.sha256, stored.bytes, stored.crc32) == (known["sha256"], known["bytes"], known["crc32"])


def test_a_picture_may_come_in_a_form_with_its_name(client, headers, services):
    answer = client.post(
        "/v1/uploads?purpose=face&keep_original=true",
        data={"file": (io.BytesIO(a_picture()), "/home/me/photos/my room\x07.jpg", "application/x-nonsense")},
        headers=headers,
    )

    assert answer.status_code == 201
    [known] = services.catalog.asked("register_asset")
    assert (known["file_name"], known["content_type"]) == ("my room.jpg", "image/jpeg")
    assert (known["purpose"], known["keep_original"]) == ("face", True)


def test_the_name_of_a_content_type_may_have_capitals(client, headers):
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    form = head + a_picture() + b"\r\n--b--\r\n"

    answer = client.post("/v1/uploads", data=form, headers=headers, content_type="Multipart/Form-Data; boundary=b")

    assert answer.status_code == 201


def test_what_a_picture_is_decides_its_content(client, headers):
    answer = client.post("/v1/uploads", data=a_picture("PNG"), headers=headers, content_type="image/jpeg")

    assert answer.json["content_type"] == "image/png"


def test_nothing_but_pixels_is_stored(client, headers, services, store):
    exif = PIL.Image.Exif()
    exif[0x010F] = "a maker of cameras"
    picture = a_picture(exif=exif, comment=b"taken at home")

    client.post("/v1/uploads", data=picture, headers=headers, content_type="image/jpeg")

    [known] = services.catalog.asked("register_asset")
    stored = b"".join(store.open(known["key"]))
    assert b"a maker of cameras" in picture
    assert b"a maker of cameras" not in stored
    assert b"taken at home" not in stored


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "unsupported_image_type"),
        (b"GIF89a" + b"\0" * 50, 400, "unsupported_image_type"),
        (a_picture()[:1000], 400, "image_corrupt"),
        (b"", 400, "validation_failed"),
    ],
)
def test_what_is_no_picture_is_refused(client, headers, services, data, status, code):
    answer = client.post("/v1/uploads", data=data, headers=headers, content_type="image/jpeg")

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert services.catalog.calls == []


@pytest.mark.parametrize(
    ("size", "current"), [((10 << 20) + 1, "10.1 MB"), (15 << 20, "15 MB"), (31 << 19, "15.5 MB"), (40 << 20, "40 MB")]
)
@pytest.mark.parametrize("as_form", [False, True])
def test_a_file_above_ten_megabytes_is_refused_with_the_remedy(client, headers, services, size, current, as_form):
    data = {"file": (io.BytesIO(b"x" * size), "big.jpg")} if as_form else b"x" * size

    answer = client.post("/v1/uploads", data=data, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (422, "limit_exceeded")
    assert answer.json["detail"] == f"File must be under 10 MB (current: {current})"
    assert answer.json["limit"] == 10 << 20
    assert answer.json["excess"] >= size - (10 << 20)
    assert services.catalog.calls == []


def test_a_file_of_just_ten_megabytes_is_looked_at(client, headers):
    answer = client.post("/v1/uploads", data=a_picture().ljust(10 << 20, b"\0"), headers=headers)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({"picture": (io.BytesIO(b"x"), "a.jpg")}, "/picture"),
        ({"file": "text"}, "/file"),
        ({"file": (io.BytesIO(a_picture()), "a.jpg"), "purpose": "room"}, "/purpose"),
        ({}, "/file"),
    ],
)
def test_a_form_with_anything_else_is_refused(client, headers, form, pointer):
    answer = client.post("/v1/uploads", data=form, headers=headers, content_type="multipart/form-data")

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"x"),
        ("multipart/form-data; boundary=a", b"--a\r\nnonsense"),
        ("multipart/form-data; boundary=" + "a" * 300, b"--a--"),
    ],
)
def test_a_broken_form_is_refused(client, headers, content_type, body):
    answer = client.post("/v1/uploads", data=body, headers=headers, content_type=content_type)

    assert answer.status_code == 400


def test_a_purpose_nobody_knows_is_refused(client, headers):
    answer = client.post("/v1/uploads?purpose=fun", data=a_picture(), headers=headers)

    assert answer.json["errors"][0]["pointer"] == "/query/purpose"


def test_an_upload_sent_again_is_one_upload_whatever_boundary_its_form_has(client, headers, services):
    picture = a_picture()
    headers = {**headers, "Idempotency-Key": "u1"}

    answers = [
        client.post("/v1/uploads", data={"file": (io.BytesIO(picture), "a.jpg")}, headers=headers) for _ in range(2)
    ]

    boundaries = {answer.request.headers["Content-Type"] for answer in answers}
    assert len(boundaries) == 2
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].json == answers[0].json
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert len(services.assets) == 1


def test_a_catalog_that_does_not_answer_is_503_and_the_next_try_completes_the_same_upload(client, headers, services):
    headers = {**headers, "Idempotency-Key": "u1"}
    services.catalog.down = True
    failed = client.post("/v1/uploads", data=a_picture(), headers=headers)

    services.catalog.down = False
    answer = client.post("/v1/uploads", data=a_picture(), headers=headers)

    first, second = services.catalog.asked("register_asset")
    assert (failed.status_code, answer.status_code) == (503, 201)
    assert first == second


@pytest.mark.parametrize("error", [StorageUnavailable("disk 7 of server x"), Unavailable()])
def test_a_store_that_does_not_answer_is_503(client, gateway, headers, error):
    class Down:
        def put(self, **_):
            raise error

    gateway.store = Down()

    answer = client.post("/v1/uploads", data=a_picture(), headers=headers)

    assert answer.status_code == 503
    assert "server x" not in answer.text


def test_an_upload_can_be_looked_up_and_deleted(client, headers):
    asset = client.post("/v1/uploads", data=a_picture(), headers=headers).json

    found = client.get(f"/v1/uploads/{asset['id']}", headers=headers)
    deleted = client.delete(f"/v1/uploads/{asset['id']}", headers=headers)
    gone = client.get(f"/v1/uploads/{asset['id']}", headers=headers)

    assert found.json == asset
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert gone.status_code == 404


def test_an_unknown_client_is_refused_before_its_picture_is_read(client):
    assert client.post("/v1/uploads", data=a_picture()).status_code == 401


def deleted_since(**_):
    raise NotFound("This upload was deleted.")


def unanswered(**_):
    raise Unavailable


def test_of_a_face_the_catalog_knows_before_its_bytes_are_stored(client, headers, services, store):
    found = []
    services.catalog.methods["announce_asset"] = lambda **_: found.append(list(store.keys())) or True

    faces = [
        client.post(f"/v1/uploads?purpose=face&keep_original={kept}", data=a_picture(), headers=headers)
        for kept in ("false", "true")
    ]
    client.post("/v1/uploads?purpose=room", data=a_picture(), headers=headers)

    assert [answer.status_code for answer in faces] == [201, 201]
    assert [len(keys) for keys in found] == [0, 1]
    assert services.catalog.asked("announce_asset") == services.catalog.asked("register_asset")[:2]


def test_of_a_face_that_is_an_upload_already_the_bytes_are_not_stored_once_more(client, headers, services, store):
    headers = {**headers, "Idempotency-Key": "u1"}
    register = services.catalog.methods["register_asset"]
    services.catalog.methods["register_asset"] = unanswered
    client.post("/v1/uploads?purpose=face", data=a_picture(), headers=headers)
    [key] = store.keys()
    store.delete(key)  # its time is over in this very moment

    services.catalog.methods.update(announce_asset=lambda **_: False, register_asset=register)
    again = client.post("/v1/uploads?purpose=face", data=a_picture(), headers=headers)

    assert again.status_code == 201
    assert list(store.keys()) == []


@pytest.mark.parametrize("refusal", [unanswered, deleted_since])
def test_no_bytes_of_a_face_are_stored_of_which_the_catalog_does_not_know(client, headers, services, store, refusal):
    services.catalog.methods["announce_asset"] = refusal

    answer = client.post("/v1/uploads?purpose=face", data=a_picture(), headers=headers)

    assert answer.status_code in {503, 409}
    assert list(store.keys()) == []


def test_an_upload_that_was_deleted_before_its_request_is_driven_again_leaves_no_bytes(
    client, headers, services, store, org_id
):
    headers = {**headers, "Idempotency-Key": "u1"}
    services.catalog.methods["register_asset"] = unanswered
    lost = client.post("/v1/uploads?purpose=face", data=a_picture(), headers=headers)
    [key] = store.keys(f"assets/{org_id}/")
    store.delete(key)  # by the catalog, which had recorded it

    services.catalog.methods["register_asset"] = deleted_since
    again = client.post("/v1/uploads?purpose=face", data=a_picture(), headers=headers)

    assert lost.status_code == 503
    assert (again.status_code, again.json["code"]) == (409, "conflict")
    assert "new Idempotency-Key" in again.json["detail"]
    assert list(store.keys(f"assets/{org_id}/")) == []


def test_ten_megabytes_are_those_of_what_is_sent_and_what_is_stored_may_be_more(client, headers, services, store):
    packed = io.BytesIO()
    PIL.Image.effect_noise((5000, 5000), 90).convert("RGB").save(packed, "JPEG", quality=10)
    assert len(packed.getvalue()) < 10 << 20

    answer = client.post("/v1/uploads", data=packed.getvalue(), headers=headers)

    [known] = services.catalog.asked("register_asset")
    assert answer.status_code == 201
    assert answer.json["bytes"] == store.measure(known["key"]).bytes > 10 << 20
