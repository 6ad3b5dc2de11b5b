"""FAL's webhooks: what a key that FAL lists has signed just now is taken, from a real key set on loopback."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from services.gateway import issuer_keys
from services.gateway.issuer_keys import IssuerKeys
from services.gateway.webhooks.deliveries import NotGenuine
from services.gateway.webhooks.fal import FalWebhooks
from shared.problems import Unavailable
from tests.oidc_issuer import JWKS, LocalIssuer, private_key
from tests.unit.gateway.test_identity_provider import Clock

BODY = b'{"request_id": "r1", "status": "OK", "payload": {}}'
NOW = 1_790_000_000


@pytest.fixture
def fal() -> Iterator[LocalIssuer]:
    """FAL, as far as it lists keys."""
    with LocalIssuer().running() as running:
        running.rotate("EdDSA", kid=None, alg=None)
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vendor(fal: LocalIssuer, clock: Clock) -> FalWebhooks:
    return FalWebhooks(IssuerKeys(fal.url, listed_at=fal.url + JWKS, clock=clock))


def signed(body: bytes = BODY, *, key: Any = None, delivery: str = "r1", stamp: object = NOW) -> dict[str, str]:
    message = "\n".join((delivery, "github|123", str(stamp), hashlib.sha256(body).hexdigest()))
    return {
        "X-Fal-Webhook-Request-Id": delivery,
        "X-Fal-Webhook-User-Id": "github|123",
        "X-Fal-Webhook-Timestamp": str(stamp),
        "X-Fal-Webhook-Signature": (key or private_key("EdDSA", 0)).sign(message.encode()).hex(),
    }


def verified(vendor: FalWebhooks, headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> str:
    return vendor.verify(Headers(headers), body, now=now)


def refusal(vendor: FalWebhooks, headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> str:
    with pytest.raises(NotGenuine) as refused:
        verified(vendor, headers, body, now=now)
    return str(refused.value)


def test_what_fal_has_signed_is_genuine(vendor: FalWebhooks, fal: LocalIssuer) -> None:
    assert verified(vendor, signed()) == "r1"
    assert verified(vendor, signed(b"\x00\xff", stamp=NOW + 60), b"\x00\xff", now=NOW + 60) == "r1"
    assert fal.asked == [JWKS]


@pytest.mark.parametrize("place", range(len(BODY)))
def test_a_body_with_another_byte_is_refused(vendor: FalWebhooks, place: int) -> None:
    altered = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]

    assert "does not fit" in refusal(vendor, signed(), altered)


def test_what_a_key_has_signed_that_fal_does_not_list_is_refused(vendor: FalWebhooks) -> None:
    assert "does not fit" in refusal(vendor, signed(key=private_key("EdDSA", 7)))


@pytest.mark.parametrize(("seconds", "taken"), [(300, True), (301, False), (86_400, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_it_has_to_be_signed_within_five_minutes_of_now(
    vendor: FalWebhooks,
    fal: LocalIssuer,
    seconds: int,
    taken: bool,  # noqa: FBT001  a case
    sign: int,
) -> None:
    headers = signed(stamp=NOW + sign * seconds)

    if taken:
        assert verified(vendor, headers) == "r1"
    else:
        assert "old" in refusal(vendor, headers)
        assert fal.asked == []


@pytest.mark.parametrize("changed", ["Request-Id", "User-Id", "Timestamp"])
def test_ids_and_time_are_signed_too(vendor: FalWebhooks, changed: str) -> None:
    name = f"X-Fal-Webhook-{changed}"
    value = str(NOW + 1) if changed == "Timestamp" else "r2"

    assert "does not fit" in refusal(vendor, {**signed(), name: value})


@pytest.mark.parametrize("name", [*signed()])
def test_a_header_that_is_missing_empty_or_odd_is_told(vendor: FalWebhooks, fal: LocalIssuer, name: str) -> None:
    left_out = {key: value for key, value in signed().items() if key != name}

    for value in (None, "", "é", "a b", "x" * 300):
        headers = left_out if value is None else {**left_out, name: value}
        assert name.lower() in refusal(vendor, headers)
    assert fal.asked == []


@pytest.mark.parametrize("signature", ["00", "zz" * 64, "0" * 127, "0" * 130, "v1,abc"])
def test_a_signature_that_is_none_is_refused_before_fal_is_asked(
    vendor: FalWebhooks, fal: LocalIssuer, signature: str
) -> None:
    assert "signature" in refusal(vendor, {**signed(), "X-Fal-Webhook-Signature": signature})
    assert fal.asked == []


@pytest.mark.parametrize("stamp", ["now", "-1", "0", "1e9", f"{NOW}.0", "nan"])
def test_a_time_that_is_none_is_refused(vendor: FalWebhooks, stamp: str) -> None:
    assert "time" in refusal(vendor, signed(stamp=stamp))


def test_a_key_of_another_kind_in_the_set_verifies_nothing(vendor: FalWebhooks, fal: LocalIssuer) -> None:
    fal.rotate("RS256", keeps=True)

    assert verified(vendor, signed()) == "r1"
    assert "does not fit" in refusal(vendor, signed(key=private_key("EdDSA", 7)))


def test_of_several_keys_any_may_have_signed(vendor: FalWebhooks, fal: LocalIssuer) -> None:
    fal.rotate("EdDSA", number=1, keeps=True, kid=None)

    assert verified(vendor, signed()) == verified(vendor, signed(key=private_key("EdDSA", 1))) == "r1"


def test_a_new_key_is_fetched_when_it_is_met_and_the_old_one_is_taken_no_more(
    vendor: FalWebhooks, fal: LocalIssuer, clock: Clock
) -> None:
    verified(vendor, signed())
    fal.rotate("EdDSA", number=1)
    clock.now += issuer_keys.ASK_AGAIN_SECONDS

    assert verified(vendor, signed(key=private_key("EdDSA", 1))) == "r1"
    assert "does not fit" in refusal(vendor, signed())


def test_forged_webhooks_make_nobody_ask_for_the_keys_again_and_again(
    vendor: FalWebhooks, fal: LocalIssuer, clock: Clock
) -> None:
    forged = signed(key=private_key("EdDSA", 7))

    for _ in range(50):
        refusal(vendor, forged)
    first = len(fal.asked)
    clock.now += issuer_keys.ASK_AGAIN_SECONDS
    for _ in range(50):
        refusal(vendor, forged)

    assert (first, len(fal.asked)) == (1, 2)
    assert verified(vendor, signed()) == "r1"


def test_known_keys_go_on_while_fal_is_away_but_not_for_ever(
    vendor: FalWebhooks, fal: LocalIssuer, clock: Clock
) -> None:
    verified(vendor, signed())
    fal.go_away()

    clock.now += issuer_keys.USABLE_SECONDS
    assert verified(vendor, signed()) == "r1"
    assert "does not fit" in refusal(vendor, signed(key=private_key("EdDSA", 7)))

    clock.now += issuer_keys.AFTER_FAILURE_SECONDS + 1
    with pytest.raises(Unavailable, match="AI provider"):
        verified(vendor, signed())

    fal.come_back()
    clock.now += issuer_keys.AFTER_FAILURE_SECONDS
    assert verified(vendor, signed()) == "r1"


def test_nothing_is_taken_before_the_keys_are_known(vendor: FalWebhooks, fal: LocalIssuer) -> None:
    fal.slow_seconds = 10
    began = time.monotonic()

    with pytest.raises(Unavailable):
        verified(vendor, signed())

    assert time.monotonic() - began < issuer_keys.WAIT_SECONDS + 0.5


@pytest.mark.parametrize(
    "answer",
    [500, 404, b"<html>", b"[]", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AA"}]}', b"x" * 200_000],
)
def test_a_key_set_that_is_none_verifies_nothing(vendor: FalWebhooks, fal: LocalIssuer, answer: int | bytes) -> None:
    fal.answers[JWKS] = answer

    with pytest.raises(Unavailable):
        verified(vendor, signed())
