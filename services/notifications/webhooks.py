"""Sending one webhook: signed after Standard Webhooks 1.0, through the guard, within a time limit, never redirected."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from standardwebhooks import Webhook

from services.notifications.deliveries import Answer
from shared.outside import Outside, UrlRefused, UrlUnreachable
from shared.problems import Problem, Unavailable

log = structlog.get_logger(__name__)

SECONDS: Final = 15.0
LATER_SECONDS: Final = 5.0
EXCERPT_BYTES: Final = 1_000
_ANSWER_BYTES: Final = 64 << 10
_SECRET_BYTES: Final = 32
_ROTATION: Final = b"webhook-secret-rotation"


def new_secret() -> str:
    """Return a fresh signing secret: ``whsec_`` and 32 random bytes in base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def secret_of(rotation_id: str, *, signing_secret: str) -> str:
    """Return the secret that one rotation makes, the same however often that is asked for; nobody else can make it."""
    purpose_key = hmac.digest(signing_secret.encode(), _ROTATION, hashlib.sha256)
    secret = hmac.digest(purpose_key, rotation_id.encode(), hashlib.sha256)
    return f"whsec_{base64.b64encode(secret).decode()}"


def send(
    outside: Outside,
    *,
    url: str,
    message_id: str,
    body: str,
    signing_secrets: Sequence[str],
    whose: str = "",
    now: datetime | None = None,
) -> Answer:
    """Post ``body`` to ``url`` and return what came back; it raises nothing for whatever the receiver does.

    Args:
        outside: the guard, which refuses addresses that lead inside.
        url: the receiver's.
        message_id: alike at every attempt, so that the receiver can tell what it has seen.
        body: the CloudEvent as JSON.
        signing_secrets: one, or both while they are being exchanged.
        whose: the organization's that it is sent for, which has few names looked up at a time.
        now: the time that is signed; the receiver accepts 5 minutes to either side.
    """
    headers = _headers(message_id, body, signing_secrets, now=now or datetime.now(UTC))
    began = time.monotonic()
    status, error, retry_after, excerpt, later = None, None, None, b"", None
    try:
        with outside.opened(
            url,
            method="POST",
            headers=headers,
            body=body.encode(),
            max_bytes=_ANSWER_BYTES,
            whose=whose,
            seconds=SECONDS,
        ) as reply:
            status, retry_after = reply.status, reply.headers.get("Retry-After")
            excerpt = _beginning(reply.pieces())
    except (UrlRefused, UrlUnreachable) as problem:
        error = problem.detail
    except Unavailable as problem:  # raised before anything is sent
        error, later = problem.detail, LATER_SECONDS
    return Answer(
        status=status,
        seconds=time.monotonic() - began,
        error=error,
        retry_after=retry_after,
        excerpt=excerpt.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}"),
        ours=later is not None,
        later_seconds=later,
    )


def _headers(message_id: str, body: str, signing_secrets: Sequence[str], *, now: datetime) -> dict[str, str]:
    signatures = [Webhook(secret).sign(msg_id=message_id, timestamp=now, data=body) for secret in signing_secrets]
    return {
        "Content-Type": "application/cloudevents+json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _beginning(pieces: Iterator[bytes]) -> bytes:
    """Return what the answer begins with. The status alone decides: an endless or broken body changes nothing."""
    taken = b""
    try:
        for piece in pieces:
            taken += piece
            if len(taken) >= EXCERPT_BYTES:
                break
    except Problem as problem:
        log.debug("webhook_answer_cut", reason=problem.code)
    return taken[:EXCERPT_BYTES]
