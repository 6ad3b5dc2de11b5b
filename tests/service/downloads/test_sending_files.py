"""The signed `PUT /files` route as a client meets it: one file, of the size and type that were signed, once."""

import hashlib
import time
from types import SimpleNamespace

import pytest
from werkzeug.test import Client

from services.downloads.service import Downloads
from shared.http import application_of
from shared.links import sign_link
from shared.storage_folder import FolderStore

SECRET = "s" * 32
KEY = "assets/org_first/ast_1.sent.jpg"
CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path)


@pytest.fixture
def client(store):
    service = Downloads()
    service.store = store
    service.settings = SimpleNamespace(signing_secret=SECRET)
    return Client(application_of(service))


def link(key=KEY, *, method="PUT", expires_in=3600.0, max_bytes=1_024_000, content_type="image/jpeg"):
    query = sign_link(
        secret=SECRET,
        method=method,
        key=key,
        expires_at=int(time.time() + expires_in),
        max_bytes=max_bytes,
        content_type=content_type,
    )
    return f"/files/{key}?{query}"


def put(client, address, data=CONTENT, content_type="image/jpeg", **more):
    return client.put(address, data=data, content_type=content_type, **more)


def refused(answer, store):
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert list(store.keys()) == []
    return answer.status_code, answer.json["code"]


def test_a_file_is_stored_under_the_key_of_its_link(client, store):
    answer = put(client, link())

    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (answer.status_code, answer.json) == (200, {"bytes": len(CONTENT), "sha256": digest})
    assert store.measure(KEY).sha256 == digest


def test_sending_it_again_is_fine_and_sending_another_is_not(client, store):
    address = link()
    put(client, address)

    again, another = put(client, address), put(client, address, data=b"something else")

    assert again.status_code == 200
    assert (another.status_code, another.json["code"]) == (409, "file_exists")
    assert store.measure(KEY).bytes == len(CONTENT)


def test_less_than_the_link_allows_is_taken(client, store):
    assert put(client, link(), data=b"x").status_code == 200
    assert store.measure(KEY).bytes == 1


def test_more_than_the_link_allows_is_not_kept(client, store):
    answer = put(client, link(max_bytes=len(CONTENT) - 1))

    assert refused(answer, store) == (413, "body_too_large")
    assert answer.json["limit"] == len(CONTENT) - 1


def test_more_than_any_link_allows_is_not_even_read(client, store):
    answer = put(client, link(max_bytes=1 << 40), data=b"x" * ((10 << 20) + 1))

    assert refused(answer, store) == (413, "body_too_large")


@pytest.mark.parametrize("content_type", ["text/html", "image/png", "", "image/svg+xml"])
def test_another_type_than_the_links_is_refused(client, store, content_type):
    assert refused(put(client, link(), content_type=content_type), store) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("ast_1", "ast_2"),
        ("org_first", "org_second"),
        ("max_bytes=1", "max_bytes=91"),
        ("content_type=image%2Fjpeg", "content_type=text%2Fhtml"),
        ("expires=", "expires=9"),
        ("signature=", "signature=0"),
        ("max_bytes=", "max="),
        ("?", "?disposition=attachment&"),
    ],
)
def test_a_link_that_was_changed_is_forged(client, store, part, other):
    address = link()
    assert part in address

    assert refused(put(client, address.replace(part, other, 1)), store) == (403, "link_forged")


def test_a_link_to_fetch_a_file_does_not_store_one(client, store):
    assert refused(put(client, link(method="GET")), store) == (403, "link_forged")


def test_a_link_that_was_good_once_says_so(client, store):
    assert refused(put(client, link(expires_in=-1)), store) == (410, "link_expired")


def test_nobody_without_a_link_is_let_in_before_the_body_is_read(client, store):
    assert refused(put(client, f"/files/{KEY}"), store) == (403, "link_forged")


@pytest.mark.parametrize("key", ["../secrets.jpg", "images/../../secrets.jpg", ".incoming/x.jpg", "assets/x.jpg"])
def test_no_path_leads_out_of_the_store_even_with_a_signature(client, store, key):
    assert refused(put(client, link(key)), store) == (404, "not_found")
