"""Webhook endpoints, and what was delivered to them."""

from typing import Any

from marshmallow import fields, validate

from services.gateway.schemas.events import NUMBER, TYPES, known_types
from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.http_fields import Flag, said
from shared.notification_limits import (
    DELIVERY_STATUSES,
    DESCRIPTION_MAX,
    OVERLAP_MAX_SECONDS,
    OVERLAP_SECONDS,
)
from shared.outside_urls import URL_CHARACTERS_MAX

STATUSES = ("enabled", "disabled")
_ADDRESS = "https://example.com/webhooks"


def _types(**options: object) -> fields.List[Any]:
    return fields.List(
        fields.String(),
        allow_none=True,
        validate=[validate.Length(1, len(TYPES)), known_types],
        metadata={"examples": [["JobFinished"]], "description": "null: all"},
        **options,  # type: ignore[arg-type]  # load_default alone
    )


def _description(**options: object) -> fields.String:
    return fields.String(
        allow_none=True,
        validate=[validate.Length(1, DESCRIPTION_MAX), said],
        **options,  # type: ignore[arg-type]  # load_default alone
    )


class EndpointRequest(Schema):
    """A new endpoint: where to, and events of which types; ``ordered`` sends them one after another."""

    url = fields.String(
        required=True, validate=validate.Length(1, URL_CHARACTERS_MAX), metadata={"examples": [_ADDRESS]}
    )
    types = _types(load_default=None)
    description = _description(load_default=None)
    ordered = Flag(load_default=False)


class EndpointChangeRequest(Schema):
    """What to change of an endpoint; what is left out stays. Disabling it cancels what is on its way."""

    url = fields.String(validate=validate.Length(1, URL_CHARACTERS_MAX), metadata={"examples": [_ADDRESS]})
    types = _types()
    description = _description()
    ordered = Flag()
    status = fields.String(validate=validate.OneOf(STATUSES))


class EndpointSchema(Schema):
    """An endpoint without its secret. ``old_secret_until`` is how long a secret before still signs too."""

    id = fields.String(required=True, metadata={"examples": ["whe_01kafv0s2bf4v8e6f6z5m4j0zt"]})
    url = fields.String(required=True, metadata={"examples": [_ADDRESS]})
    types = fields.List(fields.String(), required=True, allow_none=True)
    description = fields.String(required=True, allow_none=True)
    ordered = fields.Boolean(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    disabled_reason = fields.String(required=True, allow_none=True)
    failing_since = fields.DateTime(required=True, allow_none=True)
    old_secret_until = fields.DateTime(required=True, allow_none=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class NewEndpointSchema(EndpointSchema):
    """An endpoint with its secret, which is shown this once."""

    secret = fields.String(required=True, metadata={"examples": ["whsec_…"]})


EndpointsSchema = page_of(EndpointSchema, "Endpoints")


class SecretRequest(Schema):
    """For how long the old secret signs too."""

    overlap_seconds = fields.Integer(
        load_default=OVERLAP_SECONDS, strict=True, validate=validate.Range(0, OVERLAP_MAX_SECONDS)
    )


class ReplayRequest(Schema):
    """Which events to send again: one by its ``event_id``, or those ``after`` a number of the log ``until`` another."""

    event_id = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, 100),
        metadata={"examples": ["evt_01kafv0s2bf4v8e6f6z5m4j0zt"]},
    )
    after = fields.String(load_default=None, allow_none=True, validate=NUMBER)
    until = fields.String(load_default=None, allow_none=True, validate=NUMBER)


class ReplaySchema(Schema):
    """How many events are sent again."""

    endpoint_id = fields.String(required=True, metadata={"examples": ["whe_01kafv0s2bf4v8e6f6z5m4j0zt"]})
    replayed = fields.Integer(required=True)


class DeliveryAttemptSchema(Schema):
    """One try: what was answered, or why nothing was; ``response`` is the beginning of the answer's body."""

    number = fields.Integer(required=True)
    url = fields.String(required=True)
    ended_at = fields.DateTime(required=True)
    duration_ms = fields.Integer(required=True)
    status = fields.Integer(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    response = fields.String(required=True, allow_none=True)


class DeliverySchema(Schema):
    """One event on its way to an endpoint. ``event`` is its number in the log, null for a test."""

    id = fields.String(required=True, metadata={"examples": ["7"]})
    event_id = fields.String(required=True, metadata={"examples": ["evt_01kafv0s2bf4v8e6f6z5m4j0zt"]})
    event = fields.String(required=True, allow_none=True, metadata={"examples": ["42"]})
    type = fields.String(required=True, metadata={"examples": ["JobFinished"]})
    cause = fields.String(required=True, validate=validate.OneOf(["event", "replay", "test"]))
    status = fields.String(required=True, validate=validate.OneOf(DELIVERY_STATUSES))
    failure = fields.String(required=True, allow_none=True)
    attempt = fields.Integer(required=True)
    next_attempt_at = fields.DateTime(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(required=True, allow_none=True)
    attempts = fields.List(fields.Nested(DeliveryAttemptSchema), required=True)


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    status = fields.String(load_default=None, validate=validate.OneOf(DELIVERY_STATUSES))


DeliveriesSchema = page_of(DeliverySchema, "Deliveries")
