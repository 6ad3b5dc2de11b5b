"""The history of a wallet: its entries, and which of them are asked for."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from services.gateway.schemas.credits import UNITS, PeriodQuery
from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema

ENTRY_KINDS = ("hold", "capture", "refund", "return", "grant", "expiry", "adjustment", "allowance")
_ID = validate.Regexp(r"[A-Za-z0-9_/-]{1,200}\Z", error="this is no id")


class ChosenEntriesQuery(PeriodQuery):
    """Which entries of the history."""

    product = fields.String(load_default=None, validate=validate.Length(1, 100))
    job = fields.String(load_default=None, validate=_ID)
    generation = fields.String(load_default=None, validate=_ID)
    image = fields.String(load_default=None, metadata={"description": "Those of the generation the image is of"})
    session = fields.String(load_default=None, validate=_ID)
    kind = fields.String(load_default=None, validate=validate.OneOf(ENTRY_KINDS))
    unit = fields.String(load_default=None, validate=validate.OneOf(UNITS))

    @validates_schema
    def check_one_generation(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse two ways to name the generation."""
        if data["image"] and data["generation"]:
            raise ValidationError("give either image or generation", "image")


class EntriesQuery(ChosenEntriesQuery, PageQuery):
    """Which entries of the history, and which part of the list."""


class EntrySchema(Schema):
    """One movement: ``amount`` changes what is available, ``held`` what is held; ``cause`` is what asked for it."""

    id = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(ENTRY_KINDS))
    unit = fields.String(required=True)
    amount = fields.Integer(required=True)
    held = fields.Integer(required=True)
    available_before = fields.Integer(required=True, allow_none=True)
    available_after = fields.Integer(required=True, allow_none=True)
    version = fields.Integer(required=True, allow_none=True)
    job_id = fields.String(allow_none=True)
    generation_id = fields.String(allow_none=True)
    session_id = fields.String(allow_none=True)
    grant_id = fields.String(allow_none=True)
    sku = fields.String(allow_none=True)
    product = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    cause = fields.String(allow_none=True)
    created_at = fields.DateTime(required=True)


EntriesSchema = page_of(EntrySchema, "Entries")
