"""Sending a picture to the store itself: the link, the sending, the completion, and everything that may go wrong."""

import hashlib
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from werkzeug.test import Client

from services.downloads.service import Downloads
from shared.http import application_of
from shared.images import normalise
from shared.storage import StorageUnavailable, open_store
from tests.fakes import FakeS3
from tests.pictures import a_black_png, a_picture, a_polyglot


class Folder:
    """Sends to the folder store, through the downloads service."""

    def __init__(self, gateway):
        downloads = Downloads()
        downloads.store = gateway.store
        downloads.settings = SimpleNamespace(signing_secret=gateway.settings.signing_secret)
        self._client = Client(application_of(downloads))

    def send(self, link, data, **headers):
        assert link["method"] == "PUT"
        parts = urlsplit(link["url"])
        assert f"{parts.scheme}://{parts.netloc}" == "http://files.test"
        answer = self._client.put(f"{parts.path}?{parts.query}", data=data, headers={**link["headers"], **headers})
        return answer.status_code


class Bucket:
    """Sends to the S3 store, by its form."""

    def send(self, link, data, **changed):
        assert link["method"] == "POST"
        fields = {**link["fields"], **changed}
        return requests.post(link["url"], data=fields, files={"file": data}, timeout=5).status_code


@pytest.fixture(params=["folder", "s3"])
def sender(request, gateway, monkeypatch):
    if request.param == "folder":
        yield Folder(gateway)
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    with FakeS3().running() as endpoint:
        gateway.store = open_store(f"s3://darkroom?endpoint={endpoint}&region=eu-west-1")
        yield Bucket()


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def presign(client, headers):
    """Announce a picture and give the link to send it."""

    def make(data, *, key=None, **fields):
        body = {"purpose": "room", "content_type": "image/jpeg", "bytes": len(data), **fields}
        answer = client.post(
            "/v1/uploads/presign", json=body, headers={**headers, **({"Idempotency-Key": key} if key else {})}
        )
        assert answer.status_code == 201, answer.text
        return answer.json

    return make


@pytest.fixture
def complete(client, headers):
    return lambda link: client.post(f"/v1/uploads/{link['upload_id']}/complete", headers=headers)


def stored(gateway):
    return sorted(gateway.store.keys())


def test_a_picture_that_was_sent_becomes_an_upload(presign, sender, complete, gateway, services, studio):
    picture = a_picture()
    digest = hashlib.sha256(picture).hexdigest()
    link = presign(picture, purpose="face", keep_original=True, sha256=digest)

    sent = sender.send(link, picture)
    answer = complete(link)

    asset = answer.json
    assert (sent in {200, 204}, answer.status_code) == (True, 201)
    assert asset["id"] == link["upload_id"]
    assert answer.headers["Location"] == f"/v1/uploads/{asset['id']}"
    assert (asset["content_type"], asset["width"], asset["height"]) == ("image/jpeg", 640, 480)
    [known] = services.catalog.asked("register_asset")
    assert services.catalog.asked("announce_asset") == [known]
    assert (known["purpose"], known["keep_original"]) == ("face", True)
    assert known["user_id"]
    assert stored(gateway) == [f"assets/{studio[0]}/{asset['id']}.jpg"]
    assert known["sha256"] == hashlib.sha256(normalise(picture).bytes).hexdigest()


def test_the_link_says_how_to_send_until_when_and_nothing_may_keep_it(client, headers, sender):
    body = {"purpose": "room", "content_type": "image/webp", "bytes": 7}

    answer = client.post("/v1/uploads/presign", json=body, headers=headers)

    assert answer.headers["Cache-Control"] == "private, no-store"
    assert set(answer.json) - {"fields", "headers"} == {"upload_id", "method", "url", "expires_at"}
    assert answer.json["expires_at"] == "2099-01-01T00:00:00.000Z"
    assert ("fields" in answer.json) == isinstance(sender, Bucket)
    assert ("headers" in answer.json) == isinstance(sender, Folder)


def test_completing_before_anything_was_sent_is_a_conflict_and_works_afterwards(presign, sender, complete, services):
    picture = a_picture()
    link = presign(picture)

    early = complete(link)
    sender.send(link, picture)
    answer = complete(link)

    assert (early.status_code, early.json["code"]) == (409, "upload_not_sent")
    assert answer.status_code == 201
    assert len(services.catalog.asked("register_asset")) == 1


def test_completing_again_answers_the_same_upload(presign, sender, complete, services):
    picture = a_picture()
    link = presign(picture)
    sender.send(link, picture)

    first, again = complete(link), complete(link)

    assert (again.status_code, again.json) == (201, first.json)
    assert len(services.catalog.asked("register_asset")) == 1


def test_what_is_sent_after_completion_changes_nothing(presign, sender, complete, gateway, studio):
    picture = a_picture()
    link = presign(picture)
    sender.send(link, picture)
    first = complete(link).json
    before = gateway.store.measure(f"assets/{studio[0]}/{first['id']}.jpg")

    sender.send(link, picture[::-1])

    assert complete(link).json == first
    assert gateway.store.measure(before.key) == before


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", 400, "unsupported_image_type"),
        (b"GIF89a" + bytes(50), 400, "unsupported_image_type"),
        (a_picture()[:1000], 400, "image_corrupt"),
        (a_black_png(19_000), 422, "image_too_many_pixels"),
    ],
)
def test_what_is_no_picture_is_refused_and_deleted(presign, sender, complete, gateway, services, data, status, code):
    link = presign(data)
    sender.send(link, data)

    answer = complete(link)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert stored(gateway) == []
    assert services.catalog.asked("register_asset") == []
    assert complete(link).json["code"] == "upload_not_sent"


def test_bytes_that_are_not_those_announced_are_refused_and_deleted(presign, sender, complete, gateway):
    link = presign(a_picture(colour="red"), sha256="0" * 64)
    sender.send(link, a_picture(colour="red"))

    answer = complete(link)

    assert (answer.status_code, answer.json["code"]) == (422, "upload_mismatch")
    assert stored(gateway) == []


def test_after_a_refusal_the_right_file_may_be_sent_with_the_same_link(presign, sender, complete):
    right = a_picture()
    wrong = right[:-100] + bytes(100)
    link = presign(right, sha256=hashlib.sha256(right).hexdigest())
    sender.send(link, wrong)
    assert complete(link).status_code == 422

    sender.send(link, right)

    assert complete(link).status_code == 201


def test_more_than_was_announced_does_not_reach_the_store(presign, sender, gateway):
    picture = a_picture()

    status = sender.send(presign(picture), picture + b"x")

    assert status in {400, 413}
    assert stored(gateway) == []


def test_less_than_was_announced_is_not_taken_for_it(presign, sender, complete, gateway):
    picture = a_picture()
    link = presign(picture)
    sender.send(link, picture[:-1])

    assert complete(link).json["code"] in {"upload_mismatch", "upload_not_sent"}
    assert stored(gateway) == []


def test_another_type_than_was_announced_does_not_reach_the_store(presign, sender, gateway):
    picture = a_picture()

    assert sender.send(presign(picture), picture, **{"Content-Type": "text/html"}) in {403, 415}
    assert stored(gateway) == []


def test_a_picture_of_another_kind_is_what_it_is(presign, sender, complete, gateway):
    picture = a_picture("PNG")
    link = presign(picture, content_type="image/jpeg")
    sender.send(link, picture)

    asset = complete(link).json

    assert asset["content_type"] == "image/png"
    assert [key.rpartition(".")[2] for key in stored(gateway)] == ["png"]


def test_nothing_but_pixels_is_kept_of_a_polyglot(presign, sender, complete, gateway):
    polyglot = a_polyglot()
    link = presign(polyglot)
    sender.send(link, polyglot)

    complete(link)

    [key] = stored(gateway)
    kept = b"".join(gateway.store.open(key))
    assert b"<script>" not in kept
    assert b"PK\x03\x04" not in kept


def test_a_picture_that_was_known_before_leaves_no_second_copy(presign, sender, complete, gateway, services):
    picture = a_picture()
    first_link = presign(picture)
    sender.send(first_link, picture)
    first = complete(first_link).json
    services.catalog.methods["register_asset"] = lambda **_: services.assets[first["id"]]
    link = presign(picture)
    sender.send(link, picture)

    answer = complete(link)

    assert (answer.status_code, answer.json["id"]) == (201, first["id"])
    assert len(stored(gateway)) == 1


def test_a_catalog_that_does_not_answer_costs_nothing_but_another_try(presign, sender, complete, services):
    picture = a_picture()
    link = presign(picture)
    sender.send(link, picture)
    register = services.catalog.methods.pop("register_asset")
    services.catalog.methods["register_asset"] = lambda **_: (_ for _ in ()).throw(StorageUnavailable("not now"))
    failed = complete(link)
    services.catalog.methods["register_asset"] = register

    assert (failed.status_code, complete(link).status_code) == (503, 201)


def test_a_store_that_cannot_delete_now_costs_the_client_nothing(presign, sender, complete, gateway, monkeypatch):
    def refuse(_key):
        raise StorageUnavailable("not now")

    picture = a_picture()
    link = presign(picture)
    sender.send(link, picture)
    monkeypatch.setattr(gateway.store, "delete", refuse)

    answer = complete(link)

    assert answer.status_code == 201
    assert len(stored(gateway)) == 2  # what was sent is left to the catalog's collector
    assert complete(link).json == answer.json


def test_the_same_announcement_again_is_the_same_upload_with_the_same_link(presign, sender, services):
    first, again = (presign(b"x" * 10, key="k1") for _ in range(2))

    assert again["upload_id"] == first["upload_id"]
    assert urlsplit(again["url"]).path == urlsplit(first["url"]).path
    assert len(services.expected) == 1
    assert sender


def test_no_link_is_kept_with_the_idempotency_key(presign, gateway_db):
    link = presign(b"x" * 10, key="k1")

    with gateway_db.transaction() as session:
        kept = str(session.connection().exec_driver_sql("SELECT * FROM idempotency_keys").all())
    assert link["upload_id"] in kept
    assert "signature" not in kept


def test_more_than_ten_megabytes_are_refused_with_the_remedy(client, headers, services):
    body = {"purpose": "room", "content_type": "image/png", "bytes": 15 << 20}

    answer = client.post("/v1/uploads/presign", json=body, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (422, "limit_exceeded")
    assert answer.json["detail"] == "File must be under 10 MB (current: 15 MB)"
    assert (answer.json["limit"], answer.json["excess"]) == (10 << 20, 5 << 20)
    assert services.catalog.calls == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"content_type": "image/gif"}, "/content_type"),
        ({"content_type": "text/html"}, "/content_type"),
        ({"bytes": 0}, "/bytes"),
        ({"bytes": -1}, "/bytes"),
        ({"bytes": "10"}, "/bytes"),
        ({"bytes": 10.5}, "/bytes"),
        ({"bytes": 10**30}, "/bytes"),
        ({"sha256": "A" * 64}, "/sha256"),
        ({"sha256": "a" * 64 + "\n"}, "/sha256"),
        ({"purpose": "fun"}, "/purpose"),
        ({"key": "assets/org_other/x.jpg"}, "/key"),
    ],
)
def test_an_announcement_that_does_not_fit_is_refused_where_it_does_not(client, headers, services, fields, pointer):
    body = {"purpose": "room", "content_type": "image/jpeg", "bytes": 10, **fields}

    answer = client.post("/v1/uploads/presign", json=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == pointer
    assert services.catalog.calls == []


def test_what_another_organization_announced_is_not_there(client, an_organization, presign, sender):
    picture = a_picture()
    link = presign(picture)
    sender.send(link, picture)
    _, others = an_organization(name="Somebody else")

    answer = client.post(f"/v1/uploads/{link['upload_id']}/complete", headers=others)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
