"""Uploads: the pictures that jobs are made from."""

from marshmallow import fields, validate

from shared.http import Schema

PURPOSES = ("room", "product", "inspiration", "face", "profile")


class WarningSchema(Schema):
    """Something worth knowing that is no error."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


class UploadQuery(Schema):
    """What the upload is for, which decides how long it is kept."""

    purpose = fields.String(load_default="room", validate=validate.OneOf(PURPOSES))
    keep_original = fields.Boolean(
        load_default=False,
        metadata={"description": "Keep a `face` beyond its 30 minutes, until you delete it."},
    )


class UploadSchema(Schema):
    """A stored input image."""

    id = fields.String(required=True)
    purpose = fields.String(required=True, validate=validate.OneOf(PURPOSES))
    content_type = fields.String(required=True)
    bytes = fields.Integer(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    delete_after = fields.DateTime(required=True, allow_none=True)
    warnings = fields.List(fields.Nested(WarningSchema), required=True)
