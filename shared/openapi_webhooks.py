"""The webhooks of the OpenAPI document: what the endpoints of customers are sent, made of the event types.

The headers are those of Standard Webhooks 1.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

from collections.abc import Sequence
from typing import Any

from shared.event_samples import public_sample_of
from shared.event_schemas import COMPONENTS, public_cloud_event, public_data_schemas
from shared.events import Event

CONTENT_TYPE = "application/cloudevents+json"
_SUFFIX = "Event"  # a component of the event's own name describes its data
_HEADERS = {
    "webhook-id": {
        "description": "The event's id, alike at every attempt: drop what you have seen.",
        "schema": {"type": "string"},
    },
    "webhook-timestamp": {
        "description": "When this attempt was sent, in seconds since 1970: refuse what is older than 5 minutes.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "example": "1768469400",
    },
    "webhook-signature": {
        "description": "`v1,` and the base64 of the HMAC-SHA256, by the endpoint's secret, of id, timestamp and body "
        "as they came, joined by dots. Two with a blank between while the secret is being exchanged: accept either.",
        "schema": {"type": "string"},
        "example": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    },
}
_ANSWERS = {
    "2XX": {"description": "Taken. Answer within 15 seconds, and work afterwards."},
    "410": {"description": "Send nothing to this endpoint any more."},
    "default": {"description": "Not taken: it is sent again, later and later, for three days."},
}


def add_webhooks(document: dict[str, Any], classes: Sequence[type[Event]]) -> None:
    """Describe in ``document`` what is sent of each of these types, with its schemas and an example.

    Raises:
        ValueError: a type's name is that of another component.
    """
    schemas = public_data_schemas(classes)
    schemas.update({f"{cls.__name__}{_SUFFIX}": public_cloud_event(cls) for cls in classes})
    if taken := schemas.keys() & document["components"]["schemas"].keys():
        raise ValueError(f"these names are taken by other schemas of the API: {', '.join(sorted(taken))}")
    document["components"]["schemas"].update(schemas)
    document["webhooks"] = {cls.__name__: {"post": _sent(cls)} for cls in classes}


def _sent(cls: type[Event]) -> dict[str, Any]:
    sample = public_sample_of(cls)
    headers = {**_HEADERS, "webhook-id": {**_HEADERS["webhook-id"], "example": sample["id"]}}
    body = {"schema": {"$ref": f"{COMPONENTS}/{cls.__name__}{_SUFFIX}"}, "example": sample}
    return {
        "operationId": f"receive_{cls.__name__}",
        "summary": str(cls.__doc__).partition("\n")[0],
        "tags": ["webhooks"],
        "parameters": [{"in": "header", "name": name, "required": True, **each} for name, each in headers.items()],
        "requestBody": {"required": True, "content": {CONTENT_TYPE: body}},
        "responses": dict(_ANSWERS),
        "security": [],
    }
