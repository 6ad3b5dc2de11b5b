"""Saved styles: one of ours, with words and colours of an organization's own."""

from typing import Any

from marshmallow import fields, validate

from services.gateway import workflows
from services.gateway.schemas.pages import page_of
from shared.http import Schema
from shared.http_fields import said

NAME_MAX = 100
WORDS_MAX = 500
COLOURS_MAX = 4
_NAME: list[Any] = [validate.Length(1, NAME_MAX), said]
_WORDS: list[Any] = [validate.Length(0, WORDS_MAX)]
_BASE = validate.OneOf(workflows.contract("staging").choices["style"])


def _colours(**options: Any) -> fields.Field[Any]:
    colour = fields.String(validate=validate.Regexp(r"#[0-9a-fA-F]{6}\Z", error="write a colour as #rrggbb"))
    return fields.List(colour, validate=validate.Length(0, COLOURS_MAX), **options)


class StyleRequest(Schema):
    """A style to save: ``words`` are added to what a prompt says of the ``base``, ``colours`` are its accents."""

    name = fields.String(required=True, validate=_NAME, metadata={"examples": ["Our summer style"]})
    base = fields.String(required=True, validate=_BASE)
    words = fields.String(load_default="", validate=_WORDS, metadata={"examples": ["linen curtains, olive trees"]})
    colours = _colours(load_default=list, metadata={"examples": [["#1d8c3a"]]})


class StyleChange(Schema):
    """What to change; what is left out stays. What was asked for in the style before stays as it was."""

    name = fields.String(validate=_NAME, metadata={"examples": ["Our autumn style"]})
    base = fields.String(validate=_BASE)
    words = fields.String(validate=_WORDS)
    colours = _colours()


class StyleSchema(Schema):
    """A saved style; its ``id`` can be given wherever a style is asked for."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    base = fields.String(required=True)
    words = fields.String(required=True)
    colours = fields.List(fields.String(), required=True)
    livemode = fields.Boolean(required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


StylesSchema = page_of(StyleSchema, "Styles")
