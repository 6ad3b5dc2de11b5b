"""A signed link allows what it says, to the letter, and nothing else."""

from itertools import pairwise
from urllib.parse import parse_qs

import pytest

from shared.links import Grant, LinkExpired, LinkForged, link_expiry, sign_link, verify_link

SECRET = "s" * 32
KEY = "images/org_a/img_1/7.jpg"
END = 1_700_000_400


def query(**changes: object) -> str:
    return sign_link(**{"secret": SECRET, "method": "GET", "key": KEY, "expires_at": END, **changes})


def verify(link: str, **changes: object) -> Grant:
    return verify_link(**{"secret": SECRET, "method": "GET", "key": KEY, "query": link, "now": END - 1, **changes})


def test_a_link_allows_what_was_signed() -> None:
    link = query(disposition='attachment; filename="Wohnküche & Flur.jpg"')

    assert verify(link) == Grant(expires_at=END, disposition='attachment; filename="Wohnküche & Flur.jpg"')


def test_a_link_for_get_serves_head_too() -> None:
    assert verify(query(), method="HEAD").expires_at == END


def test_a_link_for_put_names_largest_size_and_type() -> None:
    link = query(method="PUT", max_bytes=10_000_000, content_type="image/jpeg")

    grant = verify(link, method="PUT")

    assert (grant.max_bytes, grant.content_type) == (10_000_000, "image/jpeg")


@pytest.mark.parametrize("missing", ["max_bytes", "content_type"])
def test_a_link_for_put_without_its_bounds_cannot_be_made(missing: str) -> None:
    bounds: dict[str, object] = {"max_bytes": 10, "content_type": "image/jpeg"}
    del bounds[missing]

    with pytest.raises(ValueError, match="needs max_bytes and content_type"):
        query(method="PUT", **bounds)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"method": "DELETE"},
        {"key": "images/org_b/img_1/7.jpg"},
        {"key": KEY + "\nexpires=1700000400"},
        {"secret": "t" * 32},
    ],
)
def test_a_link_is_good_for_one_method_one_key_and_one_secret(change: dict[str, str]) -> None:
    with pytest.raises(LinkForged):
        verify(query(), **change)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("expires=1700000400", "expires=1800000000"),
        ("expires=1700000400", "expires=-1"),
        ("expires=1700000400", "expires=1700000400&expires=1800000000"),
        ("expires=1700000400", "expires=1700000400&expires=1700000400"),
        ("expires=1700000400&", ""),
        ("max_bytes=10&", "max_bytes=1000&"),
        ("max_bytes=10&", ""),
        ("image%2Fjpeg", "text%2Fhtml"),
        ("signature=", "signature=0"),
        ("signature=", "signature=%C3%A9"),
        ("signature=", "signatur="),
        ("signature=", "surplus=1&signature="),
    ],
)
def test_no_field_of_a_link_can_be_changed(old: str, new: str) -> None:
    link = query(method="PUT", max_bytes=10, content_type="image/jpeg")
    assert old in link

    with pytest.raises(LinkForged):
        verify(link.replace(old, new), method="PUT")


def test_a_disposition_cannot_be_added_to_a_link() -> None:
    with pytest.raises(LinkForged):
        verify(query() + "&disposition=inline")


@pytest.mark.parametrize("garbage", ["", "expires", "&" * 1000, "signature=" + "f" * 64, "expires=x&signature="])
def test_garbage_is_a_forged_link_not_a_failure(garbage: str) -> None:
    with pytest.raises(LinkForged):
        verify(garbage)


def test_a_link_ends_when_it_says() -> None:
    assert verify(query(), now=END - 0.001)
    with pytest.raises(LinkExpired):
        verify(query(), now=END)


def test_a_forged_link_is_not_told_that_it_would_have_expired() -> None:
    with pytest.raises(LinkForged):
        verify(query().replace("signature=", "signature=0"), now=END + 1)


@pytest.mark.parametrize("disposition", ["inline\r\nSet-Cookie: a=b", "a\x00b"])
def test_a_disposition_cannot_smuggle_a_header(disposition: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        query(disposition=disposition)


def test_links_made_within_the_same_ten_minutes_are_alike() -> None:
    ends = [link_expiry(now) for now in range(1_700_000_000, 1_700_003_600)]

    assert all(end % 600 == 0 for end in ends)
    assert sum(before != after for before, after in pairwise(ends)) == 6


def test_a_link_lives_an_hour_and_at_most_ten_minutes_more() -> None:
    for now in (1_700_000_000.0, 1_700_000_399.9, 1_700_000_400.0, 1_700_000_400.1):
        assert 3600 - 1 < link_expiry(now) - now <= 4200


def test_the_signature_is_sha256_under_a_key_of_its_own() -> None:
    (signature,) = parse_qs(query())["signature"]

    assert len(bytes.fromhex(signature)) == 32
