"""What happened to a job: its attempts at AI providers, and its timeline."""

from marshmallow import fields

from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema


class AttemptSchema(Schema):
    """One sending of an operation to an AI provider; ``phase`` and ``queue_position`` are of those at work.

    ``status`` is ``sent`` (and not answered yet), ``submitted`` (at work there), ``unknown`` (the answer was lost),
    ``succeeded``, ``failed``, or ``late``: it ended when nobody waited for it any more.
    """

    operation_id = fields.String(required=True)
    generation_id = fields.String(required=True)
    operation = fields.String(required=True, metadata={"examples": ["image.stage"]})
    attempt = fields.Integer(required=True)
    status = fields.String(required=True)
    phase = fields.String(required=True, allow_none=True)
    queue_position = fields.Integer(required=True, allow_none=True)
    provider = fields.String(required=True, metadata={"examples": ["replicate"]})
    model_requested = fields.String(required=True)
    model_used = fields.String(required=True, allow_none=True)
    seed = fields.Integer(required=True)
    reason = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Why it failed: a code of docs/failures.md.", "examples": ["rate_limited"]},
    )
    sent_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(required=True, allow_none=True)
    duration_ms = fields.Integer(required=True, allow_none=True)


class AttemptsQuery(PageQuery):
    """Which attempts of a job."""

    live = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Only those that a provider is at work on now."},
    )


class StepSchema(Schema):
    """One thing that happened; ``detail`` is the provider's name, or why something failed."""

    at = fields.DateTime(required=True)
    what = fields.String(required=True, metadata={"examples": ["generation_started"]})
    generation_id = fields.String(required=True, allow_none=True)
    detail = fields.String(required=True, allow_none=True)


class TimelineSchema(Schema):
    """What happened to a job, in its order."""

    data = fields.List(fields.Nested(StepSchema), required=True)


AttemptsSchema = page_of(AttemptSchema, "Attempts")
