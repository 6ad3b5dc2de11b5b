"""Uploads: the pictures that jobs are made from."""

from typing import Any

from marshmallow import fields, validate

from shared.http import Schema
from shared.http_fields import Flag

CONTENT_TYPES = ("image/jpeg", "image/png", "image/webp")
PURPOSES = ("room", "product", "inspiration", "face", "profile")


class WarningSchema(Schema):
    """Something worth knowing that is no error."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


_KEEP_ORIGINAL: Any = {
    "load_default": False,
    "metadata": {"description": "Keep a `face` beyond its 30 minutes, until you delete it."},
}


class UploadQuery(Schema):
    """What the upload is for, which decides how long it is kept."""

    purpose = fields.String(load_default="room", validate=validate.OneOf(PURPOSES))
    keep_original = fields.Boolean(**_KEEP_ORIGINAL)


class ConsentSchema(Schema):
    """That a face is kept: when that was agreed to, and by whom; null where a key without a person asked."""

    given_at = fields.DateTime(required=True)
    given_by = fields.String(required=True, allow_none=True)


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
    consent = fields.Nested(
        ConsentSchema,
        allow_none=True,
        metadata={"description": "Of a `face` with `keep_original`; deleting the upload withdraws it."},
    )
    livemode = fields.Boolean(required=True)
    warnings = fields.List(fields.Nested(WarningSchema), required=True)


class FromUrlRequest(UploadQuery):
    """Where the picture is, and what it is for."""

    keep_original = Flag(**_KEEP_ORIGINAL)
    url = fields.String(
        required=True,
        validate=validate.Length(min=1, max=2048),
        metadata={"description": "A public http or https address", "example": "https://example.com/room.jpg"},
    )


class PresignRequest(UploadQuery):
    """What is going to be sent."""

    keep_original = Flag(**_KEEP_ORIGINAL)
    content_type = fields.String(required=True, validate=validate.OneOf(CONTENT_TYPES))
    bytes = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(min=1, max=1 << 40),
        metadata={"description": "Its exact size, at most 10 MB", "example": 2_400_000},
    )
    sha256 = fields.String(
        validate=validate.Regexp(r"[0-9a-f]{64}\Z", error="64 hexadecimal digits in lower case"),
        metadata={"description": "Checked when the upload is completed"},
    )


class PresignSchema(Schema):
    """The request that sends the bytes. With `fields`: a form of them, then the part `file`."""

    upload_id = fields.String(required=True)
    method = fields.String(required=True, validate=validate.OneOf(["POST", "PUT"]))
    url = fields.String(required=True)
    fields_ = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        data_key="fields",
        metadata={"description": "With POST: the form's fields, before the part `file`"},
    )
    headers = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata={"description": "With PUT: the headers to send"}
    )
    expires_at = fields.DateTime(required=True)


class DeletionReceiptSchema(Schema):
    """That an upload's bytes are gone, as the store was found to have them no more; ``receipt`` has it signed."""

    upload_id = fields.String(required=True)
    purpose = fields.String(required=True, validate=validate.OneOf(PURPOSES))
    sha256 = fields.String(required=True)
    uploaded_at = fields.DateTime(required=True)
    delete_after = fields.DateTime(required=True, allow_none=True)
    deleted_at = fields.DateTime(required=True)
    reason = fields.String(required=True, validate=validate.OneOf(["requested", "retention"]))
    consent = fields.Nested(ConsentSchema, required=True, allow_none=True)
    livemode = fields.Boolean(required=True)
    receipt = fields.String(
        required=True,
        metadata={"description": "A JWT (EdDSA) of all this; check it with `GET /v1/deletion-receipts/keys`."},
    )


class ReceiptKeySchema(Schema):
    """A public key, as RFC 8037 writes it."""

    kty = fields.String(required=True)
    crv = fields.String(required=True)
    x = fields.String(required=True)
    kid = fields.String(required=True)
    alg = fields.String(required=True)
    use = fields.String(required=True)


class ReceiptKeysSchema(Schema):
    """The public keys that deletion receipts are checked with (RFC 7517)."""

    keys = fields.List(fields.Nested(ReceiptKeySchema), required=True)
