"""Headshots: a person's photo, printed in a style; their history and what there is to count."""

from marshmallow import fields, validate

from services.gateway.schemas.images import ImageSchema
from services.gateway.schemas.jobs import GENERATION_STATUSES, FailureSchema, PaidRequest, StatusFilter
from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.ids import SUFFIX_PATTERN

_STYLE = validate.Length(1, 100)


class _Framed(PaidRequest):
    """What one headshot and a batch have in common."""

    upload_id = fields.String(
        required=True,
        metadata={
            "pattern": f"^ast_{SUFFIX_PATTERN}$",
            "description": "An upload with `purpose=face`: the original is deleted 30 minutes after it was sent.",
        },
    )
    aspect_ratio = fields.String(load_default="1:1", validate=validate.Length(3, 10), metadata={"examples": ["1:1"]})
    quality = fields.String(load_default="high", validate=validate.Length(1, 20), metadata={"examples": ["high"]})


class HeadshotRequest(_Framed):
    """One headshot: the short form of a job of the workflow `headshot`."""

    style = fields.String(required=True, validate=_STYLE, metadata={"examples": ["corporate"]})


class HeadshotBatchRequest(_Framed):
    """Headshots of one photo in several styles: one job, one hold; those that fail are given back."""

    styles = fields.List(
        fields.String(validate=_STYLE),
        required=True,
        validate=validate.Length(1, 50),
        metadata={"examples": [["corporate", "creative", "model"]]},
    )


class OriginalSchema(Schema):
    """What became of the photo; what is made of it, and comparisons, need it ``available``."""

    upload_id = fields.String(required=True)
    available = fields.Boolean(required=True)
    delete_after = fields.DateTime(required=True, allow_none=True)
    deleted_at = fields.DateTime(required=True, allow_none=True)
    reason = fields.String(
        required=True, allow_none=True, metadata={"description": "Why it was deleted: `retention` or `requested`."}
    )


class HeadshotMetadataSchema(Schema):
    """What it took: credits, milliseconds from beginning to end, and how often it was sent to an AI service."""

    cost = fields.Integer(required=True, allow_none=True, metadata={"description": "In credits, once it has ended."})
    processing_time_ms = fields.Integer(required=True, allow_none=True)
    provider = fields.String(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    prompt_version = fields.String(required=True, allow_none=True)
    quality = fields.String(required=True)
    attempts = fields.Integer(required=True)


class HeadshotSchema(Schema):
    """One headshot; its id is its generation's."""

    id = fields.String(required=True)
    job_id = fields.String(required=True)
    user_id = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(GENERATION_STATUSES))
    progress = fields.Integer(
        required=True, metadata={"description": "0 queued, 50 being made, 90 being stored, 100 ended."}
    )
    style = fields.String(required=True)
    aspect_ratio = fields.String(required=True)
    quality = fields.String(required=True)
    favorite = fields.Boolean(required=True)
    failure = fields.Nested(FailureSchema, required=True, allow_none=True)
    images = fields.List(fields.Nested(ImageSchema), required=True)
    original = fields.Nested(OriginalSchema, required=True)
    metadata = fields.Nested(HeadshotMetadataSchema, required=True)
    retry_of = fields.String(required=True, allow_none=True)
    retry_count = fields.Integer(required=True)
    charged = fields.Integer(required=True)
    entries_url = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)
    livemode = fields.Boolean(required=True)


class HeadshotsQuery(PageQuery):
    """Which headshots."""

    favorite = fields.Boolean(load_default=None, truthy={"true"}, falsy={"false"})
    style = fields.String(load_default=None, validate=_STYLE)
    status = StatusFilter(GENERATION_STATUSES)


class StyleCountSchema(Schema):
    """How many headshots of a style there are."""

    style = fields.String(required=True)
    generated = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class MineSchema(Schema):
    """What the person who asks has asked for."""

    generated = fields.Integer(required=True)
    credits_spent = fields.Integer(required=True)


class MilestoneSchema(Schema):
    """The last round number that was reached, and the next one."""

    reached = fields.Integer(required=True, allow_none=True)
    next = fields.Integer(required=True, allow_none=True)


class HeadshotStatsSchema(Schema):
    """What an organization has made, what was deleted since included; refunds by support are not taken off."""

    generated = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    open = fields.Integer(required=True)
    credits_spent = fields.Integer(required=True)
    favorites = fields.Integer(required=True)
    by_style = fields.List(fields.Nested(StyleCountSchema), required=True)
    mine = fields.Nested(MineSchema, required=True, allow_none=True)
    milestone = fields.Nested(MilestoneSchema, required=True)
    text = fields.String(required=True, metadata={"examples": ["You've generated 12 headshots"]})


HeadshotsSchema = page_of(HeadshotSchema, "Headshots")
