"""A believable sample of every event type, always the same: made from its schema and the trade's own words.

The documents of events and of the API show them.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec

from shared import events
from shared.events import Event, Meta

_MOMENT = "2026-01-15T09:30:00.000000Z"
_SEQUENCE = f"{1:020d}"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PREFIXES = {
    "asset": "ast",
    "mail": "eml",
    "endpoint": "whe",
    "generation": "gen",
    "grant": "grt",
    "image": "img",
    "invitation": "inv",
    "line": "gen",
    "operation": "op",
    "owner": "usr",
    "parent": "rev",
    "product": "prd",
    "reservation": "rsv",
    "reset": "pwr",
    "revision": "rev",
    "session": "ses",
    "user": "usr",
}
_WORDS = {
    "category": "chairs",
    "change": "updated",
    "key": "images/org_1/img_1/1.jpg",
    "room_state": "generate_empty",
    "code": "provider_error",
    "content_type": "image/jpeg",
    "email": "grace@example.com",
    "fallback_from": "replicate",
    "inviter_name": "Ada",
    "invariant": "wallet_equals_its_entries",
    "kind": "promotional",
    "message": "The provider did not answer in time.",
    "model": "preview-1",
    "name": "Demo Studio",
    "night": "2026-01-15",
    "outcome": "captured",
    "organization_name": "Demo Studio",
    "changed_by": "admin:root",
    "invited_by": "admin:root",
    "removed_by": "admin:root",
    "plan": "pro",
    "previous_plan": "free",
    "previous_role": "viewer",
    "provider": "local",
    "purpose": "room",
    "replacement": "preview-2",
    "reason": "provider_timeout",
    "role": "editor",
    "room_type": "living_room",
    "session_name": "Elm Street 4",
    "sku": "staging.variant",
    "status": "succeeded",
    "style": "scandinavian",
    "sunset": "2027-01-31",
    "type": "JobFinished",
    "thumbnail_key": "images/org_1/img_1/1.thumb.jpg",
    "unit": "credits",
    "view_type": "front",
    "workflow": "staging",
}
_NUMBERS = {
    "percent": 80,
    "used": 80,
    "limit": 100,
    "failures": 10,
    "violations": 1,
    "waiting": 165,
    "amount": 10,
    "available": 980,
    "bytes": 482_113,
    "duration_ms": 1840,
    "height": 1200,
    "width": 1600,
}
_OF_TYPES: dict[str, dict[str, Any]] = {
    "WebhookEndpointDisabled": {"reason": "failing"},
    "SourceDeleted": {"reason": "requested"},
    "JobPaused": {"reason": "quota_exceeded"},
    "CreditsAdjusted": {"reason": "invoice 7 was entered twice"},
    "ProductChanged": {"name": "Oak dining chair", "sku": "DSK-001", "room_types": ["dining_room"]},
    "ProductDeleted": {"sku": "DSK-001"},
    "ProductViewAdded": {"asset_id": None},
    "StagingSessionChanged": {"change": "selected"},
}


def sample_of(cls: type[Event]) -> dict[str, Any]:
    """Return one event of the type as it is on the wire."""
    envelope: dict[str, Any] = json.loads(events.encode(_sample(cls)))
    return {**envelope, "sequence": _SEQUENCE}  # the relay appends it


def public_sample_of(cls: type[Event]) -> dict[str, Any]:
    """Return the same event as its organization sees it, numbered in its log."""
    return {**events.public(_sample(cls)), "orgsequence": 42}


def _sample(cls: type[Event]) -> Event:
    schema = events.schema_of(cls)
    data = {name: _value(name, part, schema) for name, part in schema["properties"].items()}
    data |= _OF_TYPES.get(cls.__name__, {})
    item = msgspec.convert(data, cls)
    meta = Meta(
        id=_id("evt", cls.__name__),
        time=_MOMENT,
        correlation_id=_id("req", ""),
        causation_id=_id("evt", ""),
        sequence=_SEQUENCE,
    )
    return events.with_meta(item, meta)


def _value(name: str, part: Any, schema: Any) -> Any:
    """Return a value for the field ``name`` that fits its part of the schema."""
    if "$ref" in part:
        properties = schema["$defs"][part["$ref"].rpartition("/")[2]]["properties"]
        return {inner: _value(inner, each, schema) for inner, each in properties.items()}
    if "anyOf" in part:
        return _value(name, part["anyOf"][0], schema)
    plain: dict[str, Callable[[], Any]] = {
        "array": lambda: [_value(name.removesuffix("s"), part["items"], schema)],
        "integer": lambda: _NUMBERS.get(name, 1),
        "boolean": lambda: True,
        "object": lambda: {"specversion": "1.0", "id": _id("evt", name), "type": _WORDS["type"], "data": {}},
        "string": lambda: _text(name),
    }
    if part["type"] in plain:
        return plain[part["type"]]()
    raise ValueError(f"no sample is known for the field {name}: {part}; teach shared/event_samples.py its kind")


def _text(name: str) -> str:
    if name.endswith("_id"):
        kind = name.removesuffix("_id")
        return _id(_PREFIXES.get(kind, kind), "")
    if name == "retry_of":
        return _id("job", name)
    if name.endswith("_at") or name in {"period_start", "since", "failing_since"}:
        return _MOMENT
    if name == "sha256":
        return hashlib.sha256(b"a picture").hexdigest()
    if name in _WORDS:
        return _WORDS[name]
    raise ValueError(f"no sample is known for the text {name}; add it to shared/event_samples.py")


def _id(prefix: str, of: str) -> str:
    """Return a well-formed TypeID, the same every time."""
    digest = hashlib.sha256(f"{prefix}:{of}".encode()).digest()
    return f"{prefix}_01kf0c4m8x" + "".join(_ALPHABET[byte % 32] for byte in digest[:16])
