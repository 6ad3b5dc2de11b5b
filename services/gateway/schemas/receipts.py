"""Receipts: what a job held, was charged and got back, line by line.

In every line and every sum, held = charged + refunded + returned + open.
"""

from marshmallow import fields

from services.gateway.schemas.pages import page_of
from shared.http import Schema


class ReceiptTotalSchema(Schema):
    """Sums of one unit: ``charged`` was paid, ``refunded`` never was, ``returned`` was given back after it had been."""

    held = fields.Integer(required=True)
    charged = fields.Integer(required=True)
    refunded = fields.Integer(required=True)
    returned = fields.Integer(required=True)
    open = fields.Integer(required=True)


class ReceiptReasonSchema(Schema):
    """What was not to be paid for one reason: a discount for a result that was there already, a refund, a return."""

    reason = fields.String(required=True)
    unit = fields.String(required=True)
    amount = fields.Integer(required=True)
    lines = fields.Integer(required=True)


class ReceiptGrantSchema(Schema):
    """What a line takes from one grant."""

    grant_id = fields.String(required=True)
    kind = fields.String(required=True)
    amount = fields.Integer(required=True)


class ReceiptLineSchema(Schema):
    """One generation's money."""

    generation_id = fields.String(required=True)
    sku = fields.String(required=True)
    unit = fields.String(required=True)
    price_version = fields.Integer(required=True)
    held = fields.Integer(required=True)
    charged = fields.Integer(required=True)
    refunded = fields.Integer(required=True)
    returned = fields.Integer(required=True)
    open = fields.Integer(required=True)
    reason = fields.String(required=True, allow_none=True)
    return_reason = fields.String(required=True, allow_none=True)
    status = fields.String(required=True)
    held_at = fields.DateTime(required=True)
    settled_at = fields.DateTime(required=True, allow_none=True)
    grants = fields.List(fields.Nested(ReceiptGrantSchema), required=True)


class ReceiptSchema(Schema):
    """A job's money. ``priced_at`` is the moment whose prices apply; ``closed`` says that nothing will be added."""

    job_id = fields.String(required=True)
    reservation_id = fields.String(required=True, allow_none=True)
    workflow = fields.String(required=True, allow_none=True)
    quote_id = fields.String(required=True, allow_none=True)
    priced_at = fields.DateTime(required=True, allow_none=True)
    held_at = fields.DateTime(required=True, allow_none=True)
    closed = fields.Boolean(required=True)
    totals = fields.Dict(keys=fields.String(), values=fields.Nested(ReceiptTotalSchema), required=True)
    discounts = fields.List(fields.Nested(ReceiptReasonSchema), required=True)
    refunds = fields.List(fields.Nested(ReceiptReasonSchema), required=True)
    returns = fields.List(fields.Nested(ReceiptReasonSchema), required=True)
    lines = fields.Nested(page_of(ReceiptLineSchema, "ReceiptLines"), required=True)
