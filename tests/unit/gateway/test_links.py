"""Addresses in place of keys."""

from urllib.parse import urlsplit

import pytest

from services.gateway.links import Links
from shared.links import LinkForged, verify_link

LINKS = Links(secret="s" * 40, files_url="https://files.example", now=1_000_000.0)
IMAGE = {"id": "img_1", "key": "images/org_1/img_1/1.jpg", "thumbnail_key": None}


def test_an_address_allows_exactly_its_object_for_an_hour():
    address = urlsplit(LINKS.to("images/org_1/img_1/1.jpg"))

    grant = verify_link(
        secret="s" * 40, method="GET", key="images/org_1/img_1/1.jpg", query=address.query, now=1_003_000
    )
    assert (address.netloc, address.path) == ("files.example", "/files/images/org_1/img_1/1.jpg")
    assert 1_003_600 <= grant.expires_at <= 1_003_600 + 600


def test_an_address_to_send_a_file_allows_one_put_of_that_size_and_type():
    key = "assets/org_1/ast_1.sent.jpg"

    sent = LINKS.to_send(key=key, content_type="image/jpeg", max_bytes=70, expires_at=1_000_500)

    address = urlsplit(sent)
    grant = verify_link(secret="s" * 40, method="PUT", key=key, query=address.query, now=1_000_499)
    assert address.path == f"/files/{key}"
    assert (grant.max_bytes, grant.content_type, grant.expires_at) == (70, "image/jpeg", 1_000_500)
    with pytest.raises(LinkForged):
        verify_link(secret="s" * 40, method="GET", key=key, query=address.query, now=1_000_499)


def test_polls_within_ten_minutes_see_the_same_address():
    later = Links(secret="s" * 40, files_url="https://files.example", now=1_000_100.0)

    assert later.to("images/org_1/img_1/1.jpg") == LINKS.to("images/org_1/img_1/1.jpg")


def test_no_key_leaves_with_a_job():
    job = {"id": "job_1", "generations": [{"id": "gen_1", "images": [IMAGE]}]}

    [image] = LINKS.job(job)["generations"][0]["images"]

    assert image["url"].startswith("https://files.example/files/images/")
    assert image["thumbnail_url"] is None
    assert not {"key", "thumbnail_key"} & image.keys()
    assert job["generations"][0]["images"] == [IMAGE]
