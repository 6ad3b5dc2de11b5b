"""What a person sees and says of themselves, and the first page after logging in."""

from marshmallow import fields, validate

from services.gateway.profiles import ASPECT_RATIOS, MOST_VARIETY, ONBOARDING
from services.gateway.schemas.accounts import NAME_MAX, OrganizationNameSchema
from services.gateway.schemas.credits import CreditsSchema
from services.gateway.schemas.jobs import JobAtWorkSchema
from services.gateway.schemas.people import MemberSchema
from services.gateway.schemas.staging_sessions import SessionSummarySchema
from shared.http import Schema
from shared.http_fields import id_of, said


class DefaultsSchema(Schema):
    """What a new session begins with."""

    aspect_ratio = fields.String(required=True, validate=validate.OneOf(ASPECT_RATIOS))
    variety_level = fields.Integer(required=True, strict=True, validate=validate.Range(1, MOST_VARIETY))


class MeSchema(MemberSchema):
    """Who asks, as what, and what is to be done next.

    ``onboarding_step`` and ``product_count`` are null where they cannot be known right now. ``scopes`` are those of an
    API key, and empty for a person.
    """

    organization = fields.Nested(OrganizationNameSchema, required=True)
    credential = fields.String(required=True, validate=validate.OneOf(["key", "session", "oidc"]))
    scopes = fields.List(fields.String(), required=True)
    livemode = fields.Boolean(required=True)
    terms_accepted_at = fields.DateTime(required=True, allow_none=True)
    terms_version = fields.String(required=True, allow_none=True)
    defaults = fields.Nested(DefaultsSchema, required=True)
    onboarding_step = fields.String(required=True, allow_none=True, validate=validate.OneOf(ONBOARDING))
    product_count = fields.Integer(required=True, allow_none=True)


class ProfileRequest(Schema):
    """What to change of oneself; what is left out stays. The photo is an upload for the purpose `profile`."""

    name = fields.String(validate=[validate.Length(1, NAME_MAX), said], metadata={"examples": ["Ada Byron"]})
    photo_upload_id = fields.String(allow_none=True, validate=id_of("ast", "an upload"))


class JobsAtWorkSchema(Schema):
    """The newest jobs that have not ended yet."""

    active = fields.Integer(required=True)
    data = fields.List(fields.Nested(JobAtWorkSchema), required=True)


class ProductsReadySchema(Schema):
    """How many products there are."""

    total = fields.Integer(required=True)


class DashboardSchema(Schema):
    """Everything the first page shows, in one answer."""

    organization = fields.Nested(OrganizationNameSchema, required=True)
    onboarding_step = fields.String(required=True, allow_none=True, validate=validate.OneOf(ONBOARDING))
    products = fields.Nested(ProductsReadySchema, required=True)
    sessions = fields.List(fields.Nested(SessionSummarySchema), required=True)
    jobs = fields.Nested(JobsAtWorkSchema, required=True)
    credits = fields.Nested(CreditsSchema, required=True)
