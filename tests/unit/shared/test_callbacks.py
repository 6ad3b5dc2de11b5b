"""The addresses providers are given to call back: only who was given one can know it."""

from urllib.parse import parse_qs, urlsplit

import pytest

from shared.callbacks import Callbacks
from shared.config import Secret
from shared.ids import new_id
from shared.links import sign_link

OURS = Callbacks(public_url="https://darkroom.example", secret=Secret("s" * 40))


def test_an_address_names_provider_and_operation_and_is_signed() -> None:
    operation_id = new_id("op")

    address = urlsplit(OURS.address("fal", operation_id=operation_id))

    query = parse_qs(address.query, strict_parsing=True)
    assert f"{address.scheme}://{address.netloc}{address.path}" == "https://darkroom.example/v1/webhooks-in/fal"
    assert set(query) == {"op", "sig"}
    assert query["op"] == [operation_id]
    assert OURS.fits(query["sig"][0], provider="fal", operation_id=operation_id)


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "\ud800", "a" * 10_000])
def test_what_is_no_signature_does_not_fit(signature: str) -> None:
    assert not OURS.fits(signature, provider="fal", operation_id="op_1")


def test_a_signature_is_of_one_operation_at_one_provider_under_one_secret() -> None:
    signature = OURS.signature("fal", operation_id="op_1")
    others = Callbacks(public_url=OURS.public_url, secret=Secret("t" * 40))

    assert OURS.fits(signature, provider="fal", operation_id="op_1")
    assert not OURS.fits(signature, provider="fal", operation_id="op_2")
    assert not OURS.fits(signature, provider="replicate", operation_id="op_1")
    assert not OURS.fits(signature, provider="fal\nop", operation_id="_1")
    assert not others.fits(signature, provider="fal", operation_id="op_1")


def test_what_is_signed_for_another_purpose_is_no_callback() -> None:
    of_link = sign_link(secret=OURS.secret, method="GET", key="op_1", expires_at=1).rpartition("=")[2]

    assert not OURS.fits(of_link, provider="GET", operation_id="op_1")


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(OURS)
