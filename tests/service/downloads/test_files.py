"""The signed `/files` route as a client meets it: the whole HTTP application, real bytes, real signatures."""

import hashlib
import time
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY
from werkzeug.test import Client

from services.downloads.service import Downloads
from shared.http import application_of
from shared.links import sign_link
from shared.storage_folder import FolderStore

SECRET = "s" * 32
KEY = "images/org_first/img_1/1.png"
CONTENT = bytes(range(256)) * 4000  # a megabyte: several pieces


@pytest.fixture
def store(tmp_path):
    store = FolderStore(tmp_path)
    store.put(key=KEY, chunks=CONTENT, content_type="image/png")
    return store


@pytest.fixture
def client(store):
    service = Downloads()
    service.store = store
    service.settings = SimpleNamespace(signing_secret=SECRET)
    return Client(application_of(service))


def link(key=KEY, *, method="GET", expires_in=3600.0, **fields):
    """Make a link as the gateway does."""
    query = sign_link(secret=SECRET, method=method, key=key, expires_at=int(time.time() + expires_in), **fields)
    return f"/files/{key}?{query}"


def refused(answer):
    """Return status and code of a refusal, which is always a problem and never shows the key's bytes."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert CONTENT[:64] not in answer.data
    return answer.status_code, answer.json["code"]


def test_a_link_gives_the_file_with_all_that_a_cache_and_a_browser_need(client):
    answer = client.get(link())

    assert (answer.status_code, answer.data) == (200, CONTENT)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["ETag"].startswith('"')
    assert "X-Request-Id" in answer.headers


def test_a_file_may_be_kept_by_its_client_until_the_link_expires(client):
    answer = client.get(link(expires_in=600))

    visibility, _, seconds = answer.headers["Cache-Control"].partition(", max-age=")
    assert visibility == "private"
    assert 595 <= int(seconds) <= 600


def test_the_disposition_that_was_signed_is_sent(client):
    answer = client.get(link(disposition='attachment; filename="room.png"'))

    assert answer.headers["Content-Disposition"] == 'attachment; filename="room.png"'


def test_head_tells_of_the_file_and_sends_none_of_it(client):
    answer = client.head(link())

    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["ETag"] == client.get(link()).headers["ETag"]


@pytest.mark.parametrize(("asked", "start", "end"), [("0-9", 0, 10), ("500000-", 500000, None), ("-5", -5, None)])
def test_a_range_gives_these_bytes_alone(client, asked, start, end):
    answer = client.get(link(), headers={"Range": f"bytes={asked}"})

    assert answer.status_code == 206
    assert answer.data == CONTENT[start:end]
    assert answer.headers["Content-Length"] == str(len(answer.data))
    first = range(len(CONTENT))[start]
    last = first + len(answer.data) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_a_download_that_broke_off_is_resumed_with_if_range(client):
    address = link()
    half = client.get(address, headers={"Range": "bytes=0-499999"})

    rest = client.get(address, headers={"Range": "bytes=500000-", "If-Range": half.headers["ETag"]})

    assert rest.status_code == 206
    assert hashlib.sha256(half.data + rest.data).digest() == hashlib.sha256(CONTENT).digest()


def test_a_resume_of_another_file_begins_anew(client):
    answer = client.get(link(), headers={"Range": "bytes=500000-", "If-Range": '"another"'})

    assert (answer.status_code, answer.data) == (200, CONTENT)


def test_a_range_behind_the_end_is_refused_with_the_size(client):
    answer = client.get(link(), headers={"Range": f"bytes={len(CONTENT)}-"})

    assert refused(answer) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_several_ranges_at_once_give_the_whole_file(client):
    answer = client.get(link(), headers={"Range": "bytes=0-1,5-6"})

    assert (answer.status_code, answer.data) == (200, CONTENT)


def test_a_client_that_has_the_file_is_told_so(client):
    etag = client.get(link()).headers["ETag"]

    answer = client.get(link(), headers={"If-None-Match": etag})

    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == etag


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("img_1", "img_2"),
        ("org_first", "org_second"),
        ("expires=", "expires=1"),
        ("signature=", "signature=0"),
        ("?", "?disposition=attachment&"),
        ("?", "?max_bytes=1&"),
        ("?", "?colour=red&"),
        ("?", "?expires=99999999999&"),
    ],
)
def test_a_link_that_was_changed_is_forged(client, store, part, other):
    store.put(key=KEY.replace("img_1", "img_2"), chunks=CONTENT, content_type="image/png")

    answer = client.get(link().replace(part, other, 1))

    assert refused(answer) == (403, "link_forged")


def test_a_link_without_its_query_is_forged(client):
    assert refused(client.get(link().partition("?")[0])) == (403, "link_forged")


def test_a_link_to_put_a_file_does_not_read_it(client):
    address = link(method="PUT", max_bytes=10, content_type="image/png")

    assert refused(client.get(address)) == (403, "link_forged")


def test_a_link_that_was_good_once_says_so(client):
    assert refused(client.get(link(expires_in=-1))) == (410, "link_expired")


def test_a_forged_link_is_forged_even_when_it_would_have_expired(client):
    assert refused(client.get(link(expires_in=-1) + "0")) == (403, "link_forged")


def test_a_file_that_is_gone_is_not_found(client, store):
    address = link()

    store.delete(KEY)

    assert refused(client.get(address)) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_no_other_method_is_taken(client, method):
    assert refused(client.open(link(), method=method)) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["../secrets", "images/../../secrets", "assets", "images//x", ".incoming/x"])
def test_no_path_leads_out_of_the_store_even_with_a_signature(client, path):
    answer = client.get(link(path))

    assert answer.status_code == 404


def test_what_was_sent_is_counted(client):
    sent, waited = counted("darkroom_download_bytes_total"), counted("darkroom_download_first_byte_seconds_count")

    received = client.get(link(), headers={"Range": "bytes=0-99"}).data

    assert len(received) == 100
    assert counted("darkroom_download_bytes_total") - sent == 100
    assert counted("darkroom_download_first_byte_seconds_count") - waited == 1


def test_a_client_that_hangs_up_is_sent_no_more(client):
    sent = counted("darkroom_download_bytes_total")
    answer = client.get(link())

    first_piece = next(answer.iter_encoded())
    answer.close()

    assert CONTENT.startswith(first_piece)
    assert counted("darkroom_download_bytes_total") - sent <= len(first_piece) < len(CONTENT)


def counted(name):
    return REGISTRY.get_sample_value(name)
