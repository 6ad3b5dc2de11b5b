"""The engine as administrators see it: what was asked of AI providers, how they do, and who has which share of them."""

from marshmallow import fields, validate

from services.gateway.schemas.pages import PageQuery, page_of
from services.gateway.schemas.service import ModelSchema
from shared.http import Schema
from shared.http_fields import Moment, id_of

ATTEMPT_STATUSES = ("sent", "submitted", "unknown", "succeeded", "failed", "late")
MOST_WEIGHT = 1000
_LIMIT_MAX = 1_000_000


class OperationsQuery(PageQuery):
    """Which entries of the AI operation log."""

    org_id = fields.String(load_default=None, validate=id_of("org", "an organization"))
    job_id = fields.String(load_default=None, validate=id_of("job", "a job"))
    provider = fields.String(load_default=None, validate=validate.Length(1, 100))
    status = fields.String(load_default=None, validate=validate.OneOf(ATTEMPT_STATUSES))
    since = Moment(load_default=None, metadata={"description": "Sent then or later."})


class OperationEntrySchema(Schema):
    """One sending of an operation to an AI provider, with what it was, took, cost and came to.

    ``outcome`` is the finer ``status``. The digests are SHA-256 of what was asked and of what came back: bytes and
    secrets are never kept.
    """

    operation_id = fields.String(required=True)
    attempt = fields.Integer(required=True)
    operation_name = fields.String(required=True, metadata={"examples": ["image.stage"]})
    model = fields.String(required=True)
    model_requested = fields.String(required=True)
    provider = fields.String(required=True, metadata={"examples": ["replicate"]})
    type = fields.String(required=True, validate=validate.OneOf(("image", "analysis")))
    org_id = fields.String(required=True)
    user_id = fields.String(required=True, allow_none=True)
    job_id = fields.String(required=True)
    generation_id = fields.String(required=True)
    livemode = fields.Boolean(required=True)
    input = fields.Dict(required=True)
    prompt_version = fields.String(required=True, allow_none=True)
    output = fields.Raw(required=True, allow_none=True)
    context = fields.Dict(required=True)
    prompt_tokens = fields.Integer(required=True, allow_none=True)
    completion_tokens = fields.Integer(required=True, allow_none=True)
    total_tokens = fields.Integer(required=True, allow_none=True)
    cost_microusd = fields.Integer(required=True, allow_none=True)
    processing_time_ms = fields.Integer(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(("pending", "completed", "failed")))
    outcome = fields.String(required=True, validate=validate.OneOf(ATTEMPT_STATUSES))
    error_code = fields.String(required=True, allow_none=True)
    error_detail = fields.String(required=True, allow_none=True)
    request_digest = fields.String(required=True, allow_none=True)
    response_digest = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    completed_at = fields.DateTime(required=True, allow_none=True)


class ProviderSchema(Schema):
    """An AI provider that is set up: what it may bear, what it bears now, and how its models do.

    ``waiting`` operations are due and not begun, the oldest for ``longest_wait_seconds``. ``requests_left`` may be
    sent at once; null where it has no limit, or was not asked yet.
    """

    name = fields.String(required=True, metadata={"examples": ["replicate"]})
    operations = fields.List(fields.String(), required=True)
    concurrency = fields.Integer(required=True)
    requests_per_minute = fields.Integer(required=True, allow_none=True)
    requests_left = fields.Integer(required=True, allow_none=True)
    time_limit_seconds = fields.Float(required=True)
    calls_back = fields.Boolean(required=True)
    after_lost_answer = fields.String(required=True, validate=validate.OneOf(("resend", "lookup", "give_up")))
    at_work = fields.Integer(required=True)
    waiting = fields.Integer(required=True)
    longest_wait_seconds = fields.Float(required=True, allow_none=True)
    models = fields.List(fields.Nested(ModelSchema), required=True)


class ProvidersSchema(Schema):
    """Every AI provider that is set up."""

    data = fields.List(fields.Nested(ProviderSchema), required=True)


class ShareRequest(Schema):
    """An organization's share, all of it: what is not given is the usual again."""

    weight = fields.Integer(
        load_default=1,
        strict=True,
        validate=validate.Range(1, MOST_WEIGHT),
        metadata={"description": "Of weight 2 it has two turns where others have one."},
    )
    operations_at_work = fields.Integer(
        load_default=None,
        strict=True,
        validate=validate.Range(0, _LIMIT_MAX),
        metadata={"description": "How many operations of it may be at work at once; null: as many as of any other."},
    )
    open_generations = fields.Integer(
        load_default=None,
        strict=True,
        validate=validate.Range(0, _LIMIT_MAX),
        metadata={"description": "How many generations of it may be open; null: as many as of any other."},
    )


class ShareSchema(Schema):
    """What an organization is given apart from all others; null is the usual."""

    org_id = fields.String(required=True)
    weight = fields.Integer(required=True)
    operations_at_work = fields.Integer(required=True, allow_none=True)
    open_generations = fields.Integer(required=True, allow_none=True)


OperationsSchema = page_of(OperationEntrySchema, "Operations")
