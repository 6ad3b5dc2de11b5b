"""API keys of organizations, and the keys of administrators."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from services.gateway import workflows
from services.gateway.keys import PREFIX_CHARACTERS
from services.gateway.permissions import SCOPES
from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.http_fields import Flag, Moment, said

NAME_MAX = 100
DAY_SECONDS = 86_400
LONGEST_OVERLAP_SECONDS = 7 * DAY_SECONDS
_NAME: list[Any] = [validate.Length(1, NAME_MAX), said]


def _known(names: Any) -> None:
    known = workflows.contracts()
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValidationError(f"there is no workflow {unknown[0]!r}; there are {', '.join(known)}")


def _each_once(names: Any) -> None:
    if len(set(names or ())) < len(names or ()):
        raise ValidationError("name each once")


class ApiKeyRequest(Schema):
    """A new key. What it may do: `read`, `write`, `spend` (ask for paid work) and `manage` (people, keys, the plan).

    It may never more than the member it stands for. `workflows` limits what it may ask for; null is no limit.
    """

    name = fields.String(required=True, validate=_NAME)
    livemode = Flag(load_default=True)
    scopes = fields.List(
        fields.String(validate=validate.OneOf(SCOPES)),
        load_default=["read", "write", "spend"],
        validate=[validate.Length(1, len(SCOPES)), _each_once],
    )
    workflows = fields.List(
        fields.String(validate=validate.Length(1, 100)),
        load_default=None,
        allow_none=True,
        validate=[validate.Length(1, 100), _each_once, _known],
    )
    expires_at = Moment(load_default=None, allow_none=True)


class RotationRequest(Schema):
    """For how long the old key goes on beside the new one."""

    overlap_seconds = fields.Integer(
        load_default=DAY_SECONDS, strict=True, validate=validate.Range(0, LONGEST_OVERLAP_SECONDS)
    )


class ApiKeySchema(Schema):
    """A key without its secret; `prefix` is how that begins."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    prefix = fields.String(required=True)
    user_id = fields.String(required=True)
    livemode = fields.Boolean(required=True)
    scopes = fields.List(fields.String(), required=True)
    workflows = fields.List(fields.String(), required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(["active", "expired", "revoked"]))
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    last_used_at = fields.DateTime(required=True, allow_none=True)
    rotated_from = fields.String(required=True, allow_none=True)


class NewApiKeySchema(ApiKeySchema):
    """A key with its secret, which is shown this once."""

    secret = fields.String(required=True)


ApiKeysSchema = page_of(ApiKeySchema, "ApiKeys")


class ApiKeysQuery(PageQuery):
    """Which keys: `prefix` is the beginning of one."""

    prefix = fields.String(load_default=None, validate=validate.Length(1, PREFIX_CHARACTERS))


class AdminKeyRequest(Schema):
    """A key for one administrator, under whose name everything done with it is recorded."""

    name = fields.String(
        required=True,
        validate=validate.Regexp(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}\Z"),
        metadata={"examples": ["ada.byron"]},
    )


class AdminKeySchema(Schema):
    """An administrator's key without its secret."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    prefix = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    last_used_at = fields.DateTime(required=True, allow_none=True)
    revoked_at = fields.DateTime(required=True, allow_none=True)


class NewAdminKeySchema(AdminKeySchema):
    """An administrator's key with its secret, which is shown this once."""

    secret = fields.String(required=True)


AdminKeysSchema = page_of(AdminKeySchema, "AdminKeys")
