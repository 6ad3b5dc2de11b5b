"""Webhooks of AI providers."""

from marshmallow import fields, validate

from shared.http import Schema
from shared.http_fields import id_of


class CallbackQuery(Schema):
    """The address a provider was given with an operation: which one, and our signature of that."""

    op = fields.String(required=True, validate=id_of("op", "an operation"))
    sig = fields.String(required=True, validate=validate.Length(1, 200))
