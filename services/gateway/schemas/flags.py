"""Feature flags of an organization."""

from marshmallow import fields, validate

from services.gateway.flags import DEFAULTS
from shared.http import Schema
from shared.http_fields import Flag


class FlagRequest(Schema):
    """A flag, and whether it is on; null leaves that to the default."""

    name = fields.String(required=True, validate=validate.OneOf(sorted(DEFAULTS)))
    enabled = Flag(required=True, allow_none=True)


class FlagSchema(Schema):
    """Whether a flag is on for the organization, and for those nobody has switched it for."""

    name = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    default = fields.Boolean(required=True)


class FlagsSchema(Schema):
    """Every flag there is."""

    data = fields.List(fields.Nested(FlagSchema), required=True)
