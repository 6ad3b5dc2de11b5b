"""Technical packs: what is asked for each part of one, and the pack put together."""

from marshmallow import fields, validate

from services.gateway.schemas.images import ImageSchema
from services.gateway.schemas.jobs import JOB_STATUSES, PaidRequest
from services.gateway.schemas.products import ProductSchema, RevisionSchema
from shared.http import Schema
from shared.http_fields import id_of

VIEWS_MAX = 5
SHOTS_MIN, SHOTS_MAX = 6, 10
CATEGORY_MAX = 100
PATH_MAX = 200
PROMPT_MAX = 1000
STATUSES = ("no_views", "not_analyzed", "analyzed", "complete")
ACTIONS = (
    "add_view",
    "detect_category",
    "analyze_base_views",
    "generate_close_ups",
    "generate_sketches",
    "edit_field",
    "regenerate",
)
SIDES = ("front", "back", "side")
BASES = ("stated", "measured", "estimated", "assumed")
_CATEGORY = {
    "description": "What kind of thing it is; the product's own category, or the one detected last, unless given.",
    "examples": ["cup"],
}


class CategoryRequest(PaidRequest):
    """Nothing more to say: the product's first view is looked at."""


class BaseViewsRequest(PaidRequest):
    """Which views; the product's current ones, five at most and the front first, unless given."""

    revision_ids = fields.List(
        fields.String(validate=id_of("rev", "a view of a product")),
        validate=validate.Length(1, VIEWS_MAX),
        metadata={"uniqueItems": True},
    )
    category = fields.String(validate=validate.Length(1, CATEGORY_MAX), metadata=_CATEGORY)


class CloseUpsRequest(PaidRequest):
    """How many close-ups."""

    category = fields.String(validate=validate.Length(1, CATEGORY_MAX), metadata=_CATEGORY)
    count = fields.Integer(load_default=8, strict=True, validate=validate.Range(SHOTS_MIN, SHOTS_MAX))


class SketchesRequest(PaidRequest):
    """Front, back and side."""

    category = fields.String(validate=validate.Length(1, CATEGORY_MAX), metadata=_CATEGORY)


class EditRequest(PaidRequest):
    """One field, and how it is to be changed."""

    field_path = fields.String(
        required=True,
        validate=validate.Length(1, PATH_MAX),
        metadata={
            "description": "Names and places joined by dots; what stands in a list by its place, or its name.",
            "examples": ["materials.0.finish"],
        },
    )
    prompt = fields.String(
        required=True, validate=validate.Length(1, PROMPT_MAX), metadata={"examples": ["Set it to semi-matt."]}
    )


class RegenerationRequest(PaidRequest):
    """What is to be different, in words; nothing need be said."""

    prompt = fields.String(validate=validate.Length(1, PROMPT_MAX), metadata={"examples": ["Lit from the left."]})


class PartRegenerationRequest(RegenerationRequest):
    """Which close-up or sketch, by its image."""

    image_id = fields.String(required=True, validate=id_of("img", "an image"))


class DetectedCategorySchema(Schema):
    """What kind of thing the product is."""

    category = fields.String(required=True)
    subcategory = fields.String(required=True)
    confidence = fields.Float(required=True)


class AnalysisProvenanceSchema(Schema):
    """Who has found it out."""

    provider = fields.String(required=True)
    model = fields.String(required=True)
    prompt_version = fields.String(required=True)


class BaseViewSchema(Schema):
    """A current view with its analysis, edits included; `version` rises with each change of it, 0 before the first."""

    revision = fields.Nested(RevisionSchema, required=True)
    analysis = fields.Dict(required=True, allow_none=True)
    confidence = fields.Float(required=True, allow_none=True)
    version = fields.Integer(required=True)
    generation_id = fields.String(required=True, allow_none=True)
    provenance = fields.Nested(AnalysisProvenanceSchema, required=True, allow_none=True)


class CloseUpSchema(Schema):
    """A close-up of a detail, and what it shows; `seen_from` is the view of the photo it was made of."""

    order = fields.Integer(required=True)
    title = fields.String(required=True)
    view = fields.String(required=True)
    instruction = fields.String(required=True)
    reason = fields.String(required=True)
    seen_from = fields.String(required=True)
    analysis = fields.Dict(required=True)
    confidence = fields.Float(required=True)
    image = fields.Nested(ImageSchema, required=True)
    revision_id = fields.String(required=True, allow_none=True)
    set_id = fields.String(required=True, metadata={"description": "The generation that has made the set."})


class CalloutSchema(Schema):
    """A place worth pointing at: shares of the box around the product, from its upper left."""

    number = fields.Integer(required=True)
    label = fields.String(required=True)
    note = fields.String(required=True)
    x = fields.Float(required=True)
    y = fields.Float(required=True)


class MeasurementSchema(Schema):
    """A length between two places; without a stated size of the product it is percent of its height."""

    code = fields.String(required=True)
    name = fields.String(required=True)
    value = fields.Float(required=True)
    unit = fields.String(required=True)
    basis = fields.String(required=True, validate=validate.OneOf(BASES))
    x1 = fields.Float(required=True)
    y1 = fields.Float(required=True)
    x2 = fields.Float(required=True)
    y2 = fields.Float(required=True)


class SketchSchema(Schema):
    """A line drawing; `seen_from` is the view of the photo it was made of."""

    view_type = fields.String(required=True, validate=validate.OneOf(SIDES))
    seen_from = fields.String(required=True)
    callouts = fields.List(fields.Nested(CalloutSchema), required=True)
    measurements = fields.List(fields.Nested(MeasurementSchema), required=True)
    confidence = fields.Float(required=True)
    image = fields.Nested(ImageSchema, required=True)
    revision_id = fields.String(required=True, allow_none=True)
    set_id = fields.String(required=True, metadata={"description": "The generation that has made the set."})


class FieldEditSchema(Schema):
    """An edit of one field: what it said before and after; the analysis became `version` by it."""

    view_type = fields.String(required=True)
    field_path = fields.String(required=True)
    prompt = fields.String(required=True)
    before = fields.Raw(required=True, allow_none=True)
    after = fields.Raw(required=True, allow_none=True)
    version = fields.Integer(required=True)
    generation_id = fields.String(required=True)
    user_id = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)


class PackJobSchema(Schema):
    """A job of the pack that has not ended."""

    job_id = fields.String(required=True)
    workflow = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(JOB_STATUSES))


class PackActionSchema(Schema):
    """What may be done next, as it is asked for; null in `body` is what you have to choose."""

    action = fields.String(required=True, validate=validate.OneOf(ACTIONS))
    method = fields.String(required=True)
    path = fields.String(required=True)
    body = fields.Dict(required=True)


class TechPackSchema(Schema):
    """A technical pack put together: the product, its analysed views, close-ups, sketches, and what comes next."""

    product_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    product = fields.Nested(ProductSchema, required=True)
    category = fields.Nested(DetectedCategorySchema, required=True, allow_none=True)
    base_views = fields.List(fields.Nested(BaseViewSchema), required=True)
    close_ups = fields.List(fields.Nested(CloseUpSchema), required=True)
    sketches = fields.List(fields.Nested(SketchSchema), required=True)
    edits = fields.List(fields.Nested(FieldEditSchema), required=True)
    at_work = fields.List(fields.Nested(PackJobSchema), required=True)
    charged = fields.Integer(required=True, metadata={"description": "The credits all of it has cost."})
    next_actions = fields.List(fields.Nested(PackActionSchema), required=True)
