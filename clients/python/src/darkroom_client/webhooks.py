"""Webhook endpoints, and the check that what a receiver got is ours (Standard Webhooks 1.0)."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from darkroom_client import pages
from darkroom_client.errors import DarkroomError
from darkroom_client.models import Delivery, Endpoint, NewEndpoint
from darkroom_client.transport import Transport, segment

TOLERANCE_SECONDS = 300
_PATH = "/v1/webhook-endpoints"


class WebhookForged(DarkroomError):
    """What came is not from Darkroom, was altered, or is too old; answer 400 and do nothing."""


def verify_webhook(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> dict[str, Any]:
    """Check the signature of a webhook and return its event; go by the event's ``id``, since it may come again.

    Args:
        secret: of the endpoint, ``whsec_…``.
        headers: of the request; their names may be written in any way.
        body: of the request, exactly as it came: JSON that was read and written again is another text.
        now: the time, in seconds since 1970; the clock's unless given.

    Raises:
        WebhookForged: it is not one of ours, or from more than 5 minutes ago.
        ValueError: the secret cannot be one.
    """
    known = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = known.get("webhook-id", ""), known.get("webhook-timestamp", "")
    if not message_id or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):  # noqa: PLR2004
        raise WebhookForged("the headers webhook-id and webhook-timestamp are needed", code="webhook_forged")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_SECONDS:
        raise WebhookForged("this was sent too long ago, or the clocks differ", code="webhook_forged")
    signed = f"{message_id}.{timestamp}.".encode() + body
    wanted = base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()
    given = [part[3:] for part in known.get("webhook-signature", "").split() if part.startswith("v1,")]
    if not any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given):
        raise WebhookForged("the signature does not fit", code="webhook_forged")
    try:
        event: dict[str, Any] = json.loads(body)
    except ValueError as error:
        raise WebhookForged("the body is no JSON", code="webhook_forged") from error
    return event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("secret must be that of an endpoint, whsec_…")
    return key


class WebhookEndpoints:
    """``darkroom.webhook_endpoints``: for keys with the scope `manage`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        url: str,
        *,
        types: Sequence[str] | None = None,
        description: str | None = None,
        ordered: bool = False,
        idempotency_key: str | None = None,
    ) -> NewEndpoint:
        """Have events sent to ``url``; keep the ``secret``, it is not shown again.

        Args:
            url: a public address, on port 80 or 443.
            types: events of which types; all unless given.
            description: for people.
            ordered: one after the other, in the order of the log.
            idempotency_key: give one of your own to get the same endpoint again after a crash of yours.
        """
        body = {
            "url": url,
            "types": None if types is None else list(types),
            "description": description,
            "ordered": ordered,
        }
        return NewEndpoint.from_json(
            self._transport.send("POST", _PATH, body=body, idempotency_key=idempotency_key).body
        )

    def list(self, *, page_size: int = 50) -> Iterator[Endpoint]:
        """Yield the endpoints, the oldest first."""
        return pages.each(self._transport, _PATH, model=Endpoint, page_size=page_size)

    def get(self, endpoint_id: str) -> Endpoint:
        """Look an endpoint up."""
        return Endpoint.from_json(self._transport.send("GET", _of(endpoint_id)).body)

    def change(self, endpoint_id: str, **changes: Any) -> Endpoint:
        """Change ``url``, ``types``, ``description``, ``ordered`` or ``status`` (`enabled`, `disabled`)."""
        return Endpoint.from_json(self._transport.send("PATCH", _of(endpoint_id), body=changes).body)

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint, with what is on its way to it."""
        self._transport.send("DELETE", _of(endpoint_id))

    def rotate(self, endpoint_id: str, *, overlap_seconds: int | None = None) -> NewEndpoint:
        """Make another secret; for a while (a day unless given) the old one signs too."""
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        return NewEndpoint.from_json(self._transport.send("POST", f"{_of(endpoint_id)}/rotate", body=body).body)

    def test(self, endpoint_id: str) -> Delivery:
        """Send an event of the type `WebhookTest`."""
        return Delivery.from_json(self._transport.send("POST", f"{_of(endpoint_id)}/test").body)

    def replay(
        self, endpoint_id: str, *, event_id: str | None = None, after: str | None = None, until: str | None = None
    ) -> int:
        """Send one event again, or those of the log after one until another; return how many that are."""
        body = {"event_id": event_id, "after": after, "until": until}
        answer = self._transport.send("POST", f"{_of(endpoint_id)}/replay", body=body)
        return int(answer.body["replayed"])

    def deliveries(self, endpoint_id: str, *, status: str | None = None, page_size: int = 50) -> Iterator[Delivery]:
        """Yield what is or was on its way, the newest first, with each attempt."""
        path = f"{_of(endpoint_id)}/deliveries"
        return pages.each(self._transport, path, model=Delivery, page_size=page_size, query={"status": status})


def _of(endpoint_id: str) -> str:
    return f"{_PATH}/{segment(endpoint_id)}"
