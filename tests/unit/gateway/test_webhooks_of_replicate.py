"""Replicate's webhooks: what its account's secret has signed just now is taken, and nothing else."""

import base64
import hmac
import re

import pytest
from werkzeug.datastructures import Headers

from services.gateway.webhooks.deliveries import NotGenuine
from services.gateway.webhooks.replicate import ReplicateWebhooks
from shared.config import Secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330
# The example with which the scheme is published.
PUBLISHED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(NOW),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
VENDOR = ReplicateWebhooks(Secret(SECRET))


def signed(body: bytes = BODY, *, secret: str = SECRET, delivery: str = "msg_1", stamp: object = NOW) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{delivery}.{stamp}.".encode() + body, "sha256")).decode()
    return {"webhook-id": delivery, "webhook-timestamp": str(stamp), "webhook-signature": f"v1,{signature}"}


def verified(
    headers: dict[str, str], body: bytes = BODY, *, vendor: ReplicateWebhooks = VENDOR, now: float = NOW
) -> str:
    return vendor.verify(Headers(headers), body, now=now)


def refusal(headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> str:
    with pytest.raises(NotGenuine) as refused:
        verified(headers, body, now=now)
    return str(refused.value)


def test_the_published_example_is_genuine() -> None:
    assert verified(PUBLISHED) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_a_delivery_that_comes_again_has_the_same_id() -> None:
    later = signed(stamp=NOW + 60)

    assert verified(signed()) == verified(later, now=NOW + 60) == "msg_1"


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe not text", b"{" * 100_000])
def test_a_body_is_bytes_whatever_they_say(body: bytes) -> None:
    assert verified(signed(body), body) == "msg_1"


@pytest.mark.parametrize("place", range(len(BODY)))
def test_a_body_with_another_byte_is_refused(place: int) -> None:
    altered = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]

    assert "signature" in refusal(signed(), altered)


def test_a_body_with_a_byte_more_or_less_is_refused() -> None:
    for other in (BODY + b" ", BODY[:-1], b" " + BODY):
        assert "signature" in refusal(signed(), other)


def test_what_another_secret_has_signed_is_refused() -> None:
    other = f"whsec_{base64.b64encode(b'o' * 24).decode()}"

    assert "signature" in refusal(signed(secret=other))


@pytest.mark.parametrize(("seconds", "taken"), [(0, True), (299, True), (300, True), (301, False), (86_400, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_it_has_to_be_signed_within_five_minutes_of_now(seconds: int, taken: bool, sign: int) -> None:  # noqa: FBT001  a case
    headers = signed(stamp=NOW + sign * seconds)

    if taken:
        assert verified(headers) == "msg_1"
    else:
        assert "old" in refusal(headers)


@pytest.mark.parametrize("changed", [{"webhook-id": "msg_2"}, {"webhook-timestamp": str(NOW + 1)}])
def test_id_and_time_are_signed_too(changed: dict[str, str]) -> None:
    assert "signature" in refusal({**signed(), **changed})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_or_empty_is_told(name: str) -> None:
    left_out = {key: value for key, value in signed().items() if key != name}

    for headers in (left_out, {**left_out, name: ""}):
        assert re.search(f"{name}|signature", refusal(headers))


@pytest.mark.parametrize(
    "stamp", ["now", "-1", "0", "1e9", f"{NOW}.0", f" {NOW}", f"+{NOW}", "٣", "9" * 20, "nan", "0x1"]
)
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    assert re.search("time", refusal(signed(stamp=stamp)))


@pytest.mark.parametrize(
    "signature", ["v1", "v1,", ",", "v1,ééé", "v1,====", "v2,{}", "v1a,{}", "{}", "v1 ,{}", "v1,{},v1", " " * 5000]
)
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    right = signed()["webhook-signature"].removeprefix("v1,")

    assert "signature" in refusal({**signed(), "webhook-signature": signature.format(right)})


def test_while_a_secret_is_replaced_one_of_several_signatures_and_secrets_has_to_fit() -> None:
    new = f"whsec_{base64.b64encode(b'n' * 24).decode()}"
    both = ReplicateWebhooks(Secret(f"{SECRET},{new}"))
    several = {**signed(), "webhook-signature": f"v1,{'A' * 43}= v2,x {signed()['webhook-signature']}"}

    assert verified(signed(), vendor=both) == verified(signed(secret=new), vendor=both) == "msg_1"
    assert verified(several) == "msg_1"
    with pytest.raises(NotGenuine):
        verified(signed(), vendor=ReplicateWebhooks(Secret(new)))


def test_the_secret_is_not_shown() -> None:
    assert "MfKQ" not in repr(VENDOR)
