"""Signing up, logging in, sessions and passwords."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from services.gateway.passwords import LONGEST, SHORTEST
from services.gateway.schemas.pages import page_of
from services.gateway.schemas.people import TOKEN_MAX, EmailAddress, MemberSchema
from shared.http import Schema
from shared.http_fields import Flag, said

NAME_MAX = 100
_NEW_PASSWORD = validate.Length(SHORTEST, LONGEST, error=f"a password has {SHORTEST} to {LONGEST} characters")
_ANY_PASSWORD = validate.Length(1, LONGEST)


def _agreed(value: Any) -> None:
    if value is not True:
        raise ValidationError("the terms have to be accepted")


class SignUpRequest(Schema):
    """What somebody who was invited says; the address is the invitation's, and may be left out."""

    token = fields.String(required=True, validate=validate.Length(1, TOKEN_MAX))
    email = EmailAddress(load_default=None)
    name = fields.String(required=True, validate=[validate.Length(1, NAME_MAX), said])
    password = fields.String(required=True, validate=_NEW_PASSWORD)
    terms_accepted = Flag(required=True, validate=_agreed, metadata={"examples": [True]})


class LogInRequest(Schema):
    """Who somebody says they are, and the proof."""

    email = EmailAddress(required=True)
    password = fields.String(required=True, validate=_ANY_PASSWORD)


class PasswordRequest(Schema):
    """Another password."""

    current_password = fields.String(required=True, validate=_ANY_PASSWORD)
    new_password = fields.String(required=True, validate=_NEW_PASSWORD)


class ResetRequest(Schema):
    """Whose password was forgotten."""

    email = EmailAddress(required=True)


class ResetRequestedSchema(Schema):
    """The same whether or not there is such an account."""

    detail = fields.String(required=True)


class NewPasswordRequest(Schema):
    """A new password, by the token of the link that came by mail."""

    token = fields.String(required=True, validate=validate.Length(1, TOKEN_MAX))
    password = fields.String(required=True, validate=_NEW_PASSWORD)


class BegunSessionSchema(Schema):
    """A session that has just begun."""

    id = fields.String(required=True)
    expires_at = fields.DateTime(required=True)


class OrganizationNameSchema(Schema):
    """An organization, as its members see it."""

    id = fields.String(required=True)
    name = fields.String(required=True)


class SignedInSchema(Schema):
    """Somebody is logged in: ``session_token`` is sent as `Authorization: Bearer …` and is shown this once."""

    session_token = fields.String(required=True)
    session = fields.Nested(BegunSessionSchema, required=True)
    member = fields.Nested(MemberSchema, required=True)
    organization = fields.Nested(OrganizationNameSchema, required=True)


class SessionSchema(BegunSessionSchema):
    """Where somebody is logged in; ``current`` is the session that asks."""

    created_at = fields.DateTime(required=True)
    last_seen_at = fields.DateTime(required=True)
    address = fields.String(required=True, allow_none=True)
    user_agent = fields.String(required=True, allow_none=True)
    current = fields.Boolean(required=True)


SessionsSchema = page_of(SessionSchema, "Sessions")
