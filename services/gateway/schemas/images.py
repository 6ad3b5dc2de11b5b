"""Images: the stored results."""

from typing import Any

from marshmallow import fields, validate

from services.gateway.labels import LABELS
from services.gateway.schemas.pages import CURSOR, PageQuery, page_of
from services.gateway.schemas.uploads import ConsentSchema
from shared.http import Schema
from shared.http_schemas import SignedAddress

_TRUE_OR_FALSE: Any = {"truthy": {"true"}, "falsy": {"false"}}


class ProvenanceSchema(Schema):
    """Where an image comes from."""

    provider = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    prompt_version = fields.String(allow_none=True)
    digital_source_type = fields.String(allow_none=True)
    livemode = fields.Boolean(metadata={"description": "False for what was made for a test key."})


class ImageSchema(Schema):
    """A stored result. The addresses are good for an hour; ask again, without If-None-Match, for fresh ones."""

    id = fields.String(required=True)
    url = SignedAddress(required=True)
    thumbnail_url = SignedAddress(required=True, allow_none=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    content_type = fields.String(required=True)
    seed = fields.Integer(allow_none=True)
    style = fields.String(allow_none=True)
    room_type = fields.String(allow_none=True)
    product_id = fields.String(allow_none=True)
    settings = fields.Dict(allow_none=True)
    pinned = fields.Boolean()
    favorite = fields.Boolean()
    parent_id = fields.String(allow_none=True)
    job_id = fields.String(required=True)
    generation_id = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    livemode = fields.Boolean(required=True)
    provenance = fields.Nested(ProvenanceSchema, allow_none=True)


class ContentQuery(Schema):
    """How an image is to be shown."""

    label = fields.String(
        load_default=None,
        validate=validate.OneOf(tuple(LABELS)),
        metadata={"description": "Write it on the picture, for places where people have to be told by eye."},
    )


class OriginSchema(Schema):
    """An image, or an upload (which has `id` and `kind` only), that had part in an image."""

    id = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(("image", "upload")))
    made_of = fields.List(
        fields.String(), metadata={"description": "Ids of uploads and images, the one it shows first."}
    )
    workflow = fields.String()
    style = fields.String(allow_none=True)
    room_type = fields.String(allow_none=True)
    seed = fields.Integer(allow_none=True)
    sha256 = fields.String()
    job_id = fields.String()
    generation_id = fields.String()
    created_at = fields.DateTime()
    deleted = fields.Boolean(metadata={"description": "It can be looked up no more."})
    provider = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    prompt_version = fields.String(allow_none=True)
    digital_source_type = fields.String(allow_none=True)
    livemode = fields.Boolean()


class LineageSchema(Schema):
    """Where an image comes from."""

    image_id = fields.String(required=True)
    line = fields.List(
        fields.Nested(OriginSchema),
        required=True,
        metadata={"description": "The image first, then all it comes from, the youngest first, the uploads last."},
    )


class BeforeSchema(Schema):
    """The upload an image was made of. Its address is good for an hour."""

    upload_id = fields.String(required=True)
    url = SignedAddress(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    content_type = fields.String(required=True)
    consent = fields.Nested(ConsentSchema, required=True, allow_none=True)


class ComparisonSchema(Schema):
    """An image beside what it was made of."""

    before = fields.Nested(BeforeSchema, required=True)
    after = fields.Nested(ImageSchema, required=True)


class ImagesQuery(PageQuery):
    """Which images."""

    job_id = fields.String(load_default=None, validate=CURSOR)
    workflow = fields.String(load_default=None, validate=validate.Length(1, 100))
    session_id = fields.String(load_default=None, validate=CURSOR)
    product_id = fields.String(load_default=None, validate=CURSOR)
    style = fields.String(load_default=None, validate=validate.Length(1, 100))
    room_type = fields.String(load_default=None, validate=validate.Length(1, 100))
    pinned = fields.Boolean(load_default=None, **_TRUE_OR_FALSE)
    favorite = fields.Boolean(load_default=None, **_TRUE_OR_FALSE)
    created_since = fields.AwareDateTime(
        load_default=None, metadata={"description": "Made at this time or later.", "examples": ["2026-01-31T12:00:00Z"]}
    )
    created_before = fields.AwareDateTime(
        load_default=None, metadata={"description": "Made before this time.", "examples": ["2026-02-01T12:00:00Z"]}
    )


ImagesSchema = page_of(ImageSchema, "Images")
