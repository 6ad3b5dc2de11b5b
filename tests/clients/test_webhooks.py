"""Webhooks at a receiver: what our signer signed is let in, in both times of a rotation, and nothing else is."""

import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from darkroom_client import WebhookForged, verify_webhook

OLD, NEW = "whsec_" + "b2xk" * 8, "whsec_" + "bmV3" * 8
NOW = 1_900_000_000
BODY = b'{"type": "JobFinished", "data": {"n": 1}}'


def signed(*secrets: str, body: bytes = BODY, at: int = NOW) -> dict[str, str]:
    moment = datetime.fromtimestamp(at, tz=UTC)
    signatures = [Webhook(secret).sign("evt_1", moment, body.decode()) for secret in secrets]
    return {"webhook-id": "evt_1", "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


def test_what_the_reference_library_signs_is_let_in() -> None:
    assert verify_webhook(NEW, signed(NEW), BODY, now=NOW) == json.loads(BODY)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_while_two_secrets_sign_each_of_them_does(secret: str) -> None:
    assert verify_webhook(secret, signed(OLD, NEW), BODY, now=NOW)


def test_names_of_headers_may_be_written_in_any_way() -> None:
    assert verify_webhook(NEW, {name.title(): value for name, value in signed(NEW).items()}, BODY, now=NOW)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(OLD), BODY),
        (signed(NEW), BODY + b" "),
        (signed(NEW, at=NOW - 301), BODY),
        (signed(NEW, at=NOW + 301), BODY),
        ({**signed(NEW), "webhook-id": "evt_2"}, BODY),
        ({**signed(NEW), "webhook-timestamp": str(NOW + 1)}, BODY),
        ({**signed(NEW), "webhook-timestamp": "soon"}, BODY),
        ({**signed(NEW), "webhook-signature": ""}, BODY),
        ({**signed(NEW), "webhook-signature": "v1,\u00e4"}, BODY),
        ({**signed(NEW), "webhook-signature": signed(NEW)["webhook-signature"].replace("v1,", "v1a,")}, BODY),
        ({}, BODY),
        (signed(NEW, body=b"no json"), b"no json"),
    ],
)
def test_what_is_not_ours_is_not_let_in(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookForged):
        verify_webhook(NEW, headers, body, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!"])
def test_what_is_no_secret_is_told(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook(secret, signed(NEW), BODY, now=NOW)
