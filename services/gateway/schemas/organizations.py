"""Organizations, and the proof that the ledger adds up: what only administrators ask for."""

from marshmallow import fields, validate

from services.gateway.schemas.credits import AMOUNT_MAX, PLANS, BalanceSchema
from services.gateway.schemas.people import EmailAddress, SentInvitationSchema
from shared.http import Schema


class OrganizationRequest(Schema):
    """A new organization. ``credits`` are granted to it at once."""

    name = fields.String(required=True, validate=validate.Length(1, 200))
    owner_email = EmailAddress(load_default=None)
    amount = fields.Integer(data_key="credits", load_default=None, strict=True, validate=validate.Range(0, AMOUNT_MAX))
    plan = fields.String(load_default="pro", validate=validate.OneOf(PLANS))


class OrganizationSchema(Schema):
    """A new organization, ready to use. ``api_key`` is its owner's and is shown this once.

    ``invitation`` is the owner's, whose address is known: with the link they are sent the owner signs up.
    """

    id = fields.String(required=True)
    name = fields.String(required=True)
    owner_id = fields.String(required=True)
    owner_email = fields.String(required=True, allow_none=True)
    plan = fields.String(required=True)
    api_key = fields.String(required=True)
    balance = fields.Nested(BalanceSchema, required=True)
    invitation = fields.Nested(SentInvitationSchema, required=True, allow_none=True)


class ViolationSchema(Schema):
    """One thing in the ledger that does not add up."""

    invariant = fields.String(required=True)
    subject = fields.Raw(required=True)
    expected = fields.Raw(required=True, allow_none=True)
    found = fields.Raw(required=True, allow_none=True)


class ChainSchema(Schema):
    """The hash chain over the entries: how many are sealed, by which last hash, and how many are not yet."""

    sealed = fields.Integer(required=True)
    head = fields.String(required=True, allow_none=True)
    unsealed = fields.Integer(required=True)


class InvariantsSchema(Schema):
    """The result of recomputing the whole ledger."""

    checked_at = fields.DateTime(required=True)
    accounts = fields.Integer(required=True)
    entries = fields.Integer(required=True)
    violations = fields.List(fields.Nested(ViolationSchema), required=True)
    chain = fields.Nested(ChainSchema, required=True)
