"""Credits: the wallet, plans, prices, usage, and what administrators do to them."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from shared.http import Schema
from shared.http_fields import Moment, id_of, said

AMOUNT_MAX = 1_000_000_000
PRIORITY_MAX = 100
REASON_MAX = 500
UNITS = ("credits", "plan_generations")
GRANT_KINDS = ("purchased", "promotional", "compensation", "monthly")
PLANS = ("free", "pro", "team")
_DEFAULT_PRIORITY = "the default of its kind (monthly 10, promotional 20, compensation 30, purchased 40)"


class BalanceSchema(Schema):
    """A wallet after something happened to it; ``version`` grows with every change."""

    available = fields.Integer(required=True)
    held = fields.Integer(required=True)
    version = fields.Integer(required=True)


class QuotaSchema(Schema):
    """The plan's monthly allowance; a limit of null is none."""

    limit = fields.Integer(required=True, allow_none=True)
    used = fields.Integer(required=True)
    resets_at = fields.DateTime(required=True, allow_none=True)


class CountersSchema(Schema):
    """What the organization has made and spent since it began."""

    generations = fields.Integer(required=True)
    credits_spent = fields.Integer(required=True)


class CreditsSchema(BalanceSchema):
    """The organization's wallet and plan."""

    plan = fields.String(required=True)
    quota = fields.Nested(QuotaSchema, required=True)
    counters = fields.Nested(CountersSchema, required=True)


class PlanRequest(Schema):
    """Another plan; which there are, `GET /v1/plans` tells."""

    plan = fields.String(
        required=True,
        validate=validate.Regexp(r"[a-z][a-z0-9_]{0,49}\Z", error="the name of a plan"),
        metadata={"examples": ["pro"]},
    )


class PlanSchema(Schema):
    """A plan; ``monthly_generations`` of null are without limit."""

    name = fields.String(required=True)
    monthly_generations = fields.Integer(required=True, allow_none=True)
    price_usd_cents = fields.Integer(required=True)


class PlansSchema(Schema):
    """Every plan there is."""

    data = fields.List(fields.Nested(PlanSchema), required=True)


class PriceSchema(Schema):
    """What one unit of work costs, and from when until when it does."""

    sku = fields.String(required=True)
    unit = fields.String(required=True)
    amount = fields.Integer(required=True)
    product = fields.String(required=True)
    price_version = fields.Integer(required=True)
    valid_from = fields.DateTime(required=True)
    valid_to = fields.DateTime(required=True, allow_none=True)


class PricingSchema(Schema):
    """The price book: the prices in force, and those that are announced."""

    data = fields.List(fields.Nested(PriceSchema), required=True)
    upcoming = fields.List(fields.Nested(PriceSchema), required=True)


class PeriodQuery(Schema):
    """Which stretch of time; days are those of UTC."""

    since = Moment(load_default=None, metadata={"description": "From this moment on, or from this day on"})
    until = Moment(
        whole_day=True, load_default=None, metadata={"description": "Before this moment, or with this day as the last"}
    )

    @validates_schema
    def check_order(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a period that ends before it begins."""
        if data["since"] and data["until"] and data["until"] <= data["since"]:
            raise ValidationError("the period ends before it has begun: exchange since and until", "until")


class UsageTotalsSchema(Schema):
    """What was made and spent."""

    generations = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    credits = fields.Integer(required=True)
    plan_generations = fields.Integer(required=True)


class UsageDaySchema(UsageTotalsSchema):
    """One workflow on one day (UTC)."""

    day = fields.Date(required=True)
    workflow = fields.String(required=True)


class UsageSchema(Schema):
    """Use by day and workflow."""

    data = fields.List(fields.Nested(UsageDaySchema), required=True)
    totals = fields.Nested(UsageTotalsSchema, required=True)


def _ahead(moment: datetime) -> None:
    if moment <= datetime.now(UTC):
        raise ValidationError("this must be in the future")


def _reason() -> fields.String:
    return fields.String(required=True, validate=[validate.Length(1, REASON_MAX), said])


class GrantRequest(Schema):
    """Credits for an organization. The soonest-expiring are spent first, then those of lower ``priority``."""

    amount = fields.Integer(required=True, strict=True, validate=validate.Range(1, AMOUNT_MAX))
    kind = fields.String(required=True, validate=validate.OneOf(GRANT_KINDS))
    reason = _reason()
    expires_at = Moment(load_default=None, allow_none=True, validate=_ahead)
    priority = fields.Integer(
        load_default=None,
        allow_none=True,
        strict=True,
        validate=validate.Range(0, PRIORITY_MAX),
        metadata={"description": f"null: {_DEFAULT_PRIORITY}"},
    )


class GrantSchema(Schema):
    """A grant, and the balance after it."""

    id = fields.String(required=True)
    org_id = fields.String(required=True)
    amount = fields.Integer(required=True)
    kind = fields.String(required=True)
    reason = fields.String(required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    priority = fields.Integer(
        required=True, allow_none=True, metadata={"description": f"As it was asked for; null: {_DEFAULT_PRIORITY}"}
    )
    balance = fields.Nested(BalanceSchema, required=True)


class AdjustmentRequest(Schema):
    """A correction of what is available: a negative amount takes away."""

    amount = fields.Integer(
        required=True,
        strict=True,
        validate=[
            validate.Range(-AMOUNT_MAX, AMOUNT_MAX),
            validate.NoneOf([0], error="an adjustment of nothing is none"),
        ],
    )
    unit = fields.String(load_default="credits", validate=validate.OneOf(UNITS))
    reason = _reason()


class AdjustmentSchema(Schema):
    """A correction, and the balance after it."""

    id = fields.String(required=True)
    org_id = fields.String(required=True)
    amount = fields.Integer(required=True)
    unit = fields.String(required=True)
    reason = fields.String(required=True)
    balance = fields.Nested(BalanceSchema, required=True)


class RefundRequest(Schema):
    """Which generation of a job to give back, all of them where none is named; and why."""

    generation_id = fields.String(load_default=None, allow_none=True, validate=id_of("gen", "a generation"))
    reason = _reason()


class RefundedSchema(Schema):
    """What one generation's refund gives back."""

    generation_id = fields.String(required=True)
    unit = fields.String(required=True)
    amount = fields.Integer(required=True)


class RefundSchema(Schema):
    """What is given back after it had been charged; asking again gives nothing more."""

    job_id = fields.String(required=True)
    org_id = fields.String(required=True)
    amount = fields.Integer(required=True)
    refunded = fields.List(fields.Nested(RefundedSchema), required=True)
