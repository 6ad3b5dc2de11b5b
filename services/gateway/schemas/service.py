"""The service itself: health, and the product lines it offers."""

from marshmallow import fields, validate

from shared.http import Schema


class WorkflowSchema(Schema):
    """A product line: ``inputs`` is the JSON schema of what a job of it takes, ``choices`` what may be chosen."""

    name = fields.String(required=True)
    title = fields.String(required=True)
    inputs = fields.Dict(required=True)
    example = fields.Dict(required=True)
    choices = fields.Dict()


class WorkflowsSchema(Schema):
    """Every product line."""

    data = fields.List(fields.Nested(WorkflowSchema), required=True)


class ModelHealthSchema(Schema):
    """How a model does, for everybody: ``paused`` by its vendor for a while, or ``down`` until it is seen to work."""

    status = fields.String(required=True, validate=validate.OneOf(("ok", "paused", "down")))
    state = fields.String(required=True, validate=validate.OneOf(("closed", "open", "half_open")))
    failures_in_a_row = fields.Integer(required=True)
    last_failure = fields.String(
        required=True, allow_none=True, metadata={"description": "A code of docs/failures.md."}
    )
    last_failure_at = fields.DateTime(required=True, allow_none=True)
    open_since = fields.DateTime(required=True, allow_none=True)
    paused_until = fields.DateTime(required=True, allow_none=True)
    p50_seconds = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata={"description": "The median of the last 50 operations, by operation; those not measured are missing."},
    )


class ModelSchema(Schema):
    """A model of an AI provider that is set up here; what `sunset` and `replacement` say is the vendor's."""

    provider = fields.String(required=True)
    id = fields.String(required=True)
    aliases = fields.List(fields.String(), required=True)
    operations = fields.List(fields.String(), required=True)
    in_use_for = fields.List(fields.String(), required=True)
    available = fields.Boolean(required=True)
    valid_from = fields.Date(required=True)
    sunset = fields.Date(required=True, allow_none=True)
    replacement = fields.String(required=True, allow_none=True)
    health = fields.Nested(ModelHealthSchema, required=True)


class ModelsSchema(Schema):
    """Every model."""

    data = fields.List(fields.Nested(ModelSchema), required=True)


class HealthSchema(Schema):
    """Whether the process works; ``waiting_for`` names the checks that fail."""

    status = fields.String(required=True)
    waiting_for = fields.List(fields.String(), required=True)
