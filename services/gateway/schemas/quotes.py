"""Quotes: what a job would cost, promised for a while or only looked up."""

from typing import Any

from marshmallow import fields, validate

from services.gateway import workflows
from services.gateway.schemas.credits import BalanceSchema
from shared.http import Schema


class QuoteRequest(Schema):
    """What a job would be asked for with; see `POST /v1/jobs`."""

    workflow = fields.String(required=True, validate=validate.Length(1, 100))
    inputs = fields.Dict(keys=fields.String(), required=True)

    @staticmethod
    def described() -> dict[str, Any]:
        """Return what the document says beside the fields: what each workflow takes."""
        return workflows.described()


class EstimateLineSchema(Schema):
    """So many of one kind of work at one price."""

    sku = fields.String(required=True)
    unit = fields.String(required=True)
    count = fields.Integer(required=True)
    unit_amount = fields.Integer(required=True)
    amount = fields.Integer(required=True)


class QuoteLineSchema(EstimateLineSchema):
    """The same, by one row of the price book."""

    price_version = fields.Integer(required=True)


class EstimateSchema(Schema):
    """What a job costs at most: ``amount`` in all, ``totals`` by unit."""

    workflow = fields.String(required=True)
    amount = fields.Integer(required=True)
    totals = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    lines = fields.List(fields.Nested(EstimateLineSchema), required=True)
    images = fields.Integer(required=True)
    estimated_seconds = fields.Integer(required=True)


class QuoteSchema(EstimateSchema):
    """A price that holds until ``expires_at`` for one job with these inputs; a test key's job costs nothing anyway."""

    id = fields.String(required=True)
    livemode = fields.Boolean(required=True)
    lines = fields.List(fields.Nested(QuoteLineSchema), required=True)
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True)


class DryRunSchema(EstimateSchema):
    """What a job would have held; nothing was. ``shortfall`` says why not everything could be."""

    dry_run = fields.Boolean(required=True)
    balance = fields.Nested(BalanceSchema, required=True, allow_none=True)
    shortfall = fields.Dict(required=True, allow_none=True)
