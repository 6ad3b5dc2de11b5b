"""Invitations, members and what people say of themselves."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from services.gateway.permissions import EDITOR, ROLES
from services.gateway.schemas.pages import page_of
from shared.http import Schema

TOKEN_MAX = 200
STATUSES = ("invited", "active", "removed")
INVITATION_STATUSES = ("open", "accepted", "revoked", "expired")


class EmailAddress(fields.Email):
    """An address, in lower case: one person does not have two accounts by two ways of writing it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"validate": validate.Length(max=254), **options})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> str:
        if isinstance(value, str) and not value.isascii():
            raise ValidationError("write the address in ASCII; a domain in its xn-- form")
        text: str = super()._deserialize(value, attr, data, **more)
        return text.lower()


class InvitationRequest(Schema):
    """Whom to invite, and as what."""

    email = EmailAddress(required=True)
    role = fields.String(load_default=EDITOR, validate=validate.OneOf(ROLES))


class InvitationSchema(Schema):
    """An invitation. ``token`` and ``url`` are only in the answer to whoever invites."""

    id = fields.String(required=True)
    user_id = fields.String(required=True)
    email = fields.String(required=True)
    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    status = fields.String(required=True, validate=validate.OneOf(INVITATION_STATUSES))
    invited_by = fields.String(required=True)
    inviter_name = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True)


class SentInvitationSchema(InvitationSchema):
    """An invitation; where no mail is set up, with its link, which is good once, for 7 days, for whoever has it."""

    token = fields.String()
    url = fields.String()


InvitationsSchema = page_of(InvitationSchema, "Invitations")


class TokenRequest(Schema):
    """The token of a link."""

    token = fields.String(required=True, validate=validate.Length(1, TOKEN_MAX))


class InvitedSchema(Schema):
    """What an invitation is for: who is invited by whom into what. The sign-up form begins with its address."""

    email = fields.String(required=True)
    role = fields.String(required=True)
    organization_name = fields.String(required=True)
    inviter_name = fields.String(required=True)
    expires_at = fields.DateTime(required=True)


class MemberSchema(Schema):
    """A member, or somebody who is invited to be one."""

    id = fields.String(required=True)
    email = fields.String(required=True, allow_none=True)
    name = fields.String(required=True, allow_none=True)
    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    photo_upload_id = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    joined_at = fields.DateTime(required=True, allow_none=True)
    version = fields.Integer(required=True)


MembersSchema = page_of(MemberSchema, "Members")


class MemberRequest(Schema):
    """Another role for a member."""

    role = fields.String(required=True, validate=validate.OneOf(ROLES))
