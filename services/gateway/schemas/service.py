"""The service itself: health, and the product lines it offers."""

from marshmallow import fields

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


class HealthSchema(Schema):
    """Whether the process works; ``waiting_for`` names the checks that fail."""

    status = fields.String(required=True)
    waiting_for = fields.List(fields.String(), required=True)
