"""Staging sessions: a room on its way from a photo to staged variants."""

from typing import Any

from marshmallow import fields, validate

from services.gateway.schemas.headshots import OriginalSchema
from services.gateway.schemas.images import ImageSchema
from services.gateway.schemas.jobs import GENERATION_STATUSES, FailureSchema, PaidRequest
from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.http_fields import id_of, said
from shared.http_schemas import SignedAddress

NAME_MAX = 200
ROOM_STATES = ("already_empty", "generate_empty")
STATUSES = ("draft", "generating", "selecting", "locked", "staging", "completed")
ACTIONS = ("choose_room_state", "generate_empty_room", "select_empty_room", "lock_empty_room", "stage")
HIGHEST_RETRY_NUMBER = 1_000
_NAME: list[Any] = [validate.Length(1, NAME_MAX), said]
_SLUG = validate.Length(1, 100)
_STYLE = "A style of `GET /v1/workflows`, or the id of a saved one (`GET /v1/styles`)."


class SessionRequest(Schema):
    """A new session. ``room_state``: is the room on the photo empty already, or is an empty one to be generated?"""

    upload_id = fields.String(required=True, validate=id_of("ast", "an upload"))
    room_state = fields.String(required=True, validate=validate.OneOf(ROOM_STATES))
    name = fields.String(load_default=None, allow_none=True, validate=_NAME, metadata={"examples": ["Elm Street 4"]})
    style = fields.String(load_default=None, allow_none=True, validate=_SLUG, metadata={"description": _STYLE})
    room_type = fields.String(load_default=None, allow_none=True, validate=_SLUG)


class SessionChange(Schema):
    """What to change; what is left out stays. ``room_state`` can be changed until the first generation."""

    name = fields.String(allow_none=True, validate=_NAME, metadata={"examples": ["Oak Lane 2"]})
    style = fields.String(allow_none=True, validate=_SLUG, metadata={"description": _STYLE})
    room_type = fields.String(allow_none=True, validate=_SLUG)
    room_state = fields.String(validate=validate.OneOf(ROOM_STATES))


class EmptyRoomRequest(PaidRequest):
    """An attempt at the empty room: 0 is the first, 1 and 2 are free, from 3 on they are paid for again."""

    retry_number = fields.Integer(
        required=True, strict=True, validate=validate.Range(0, HIGHEST_RETRY_NUMBER), metadata={"examples": [0]}
    )


class SelectionRequest(Schema):
    """Which of the session's empty rooms is to be staged."""

    image_id = fields.String(required=True, validate=id_of("img", "an image"))


class LockRequest(Schema):
    """Nothing more to say."""


class SessionStagingRequest(PaidRequest):
    """Variants of the session's room, furnished."""

    style = fields.String(required=True, validate=_SLUG, metadata={"description": _STYLE, "examples": ["modern"]})
    room_type = fields.String(required=True, validate=_SLUG, metadata={"examples": ["living_room"]})
    variants = fields.Integer(load_default=2, strict=True, validate=validate.Range(1, 8))


class AttemptSchema(Schema):
    """One generation of a session."""

    id = fields.String(required=True)
    job_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(GENERATION_STATUSES))
    failure = fields.Nested(FailureSchema, required=True, allow_none=True)
    seed = fields.Integer(allow_none=True)
    images = fields.List(fields.Nested(ImageSchema), required=True)
    charged = fields.Integer(required=True)
    entries_url = fields.String()


class EmptyRoomSchema(AttemptSchema):
    """An attempt at the empty room; what fails does not count, so that its number comes again."""

    retry_number = fields.Integer(required=True)


class StagedVariantSchema(AttemptSchema):
    """A staged variant; ``number`` counts those that succeeded, from 1, without gaps."""

    number = fields.Integer(required=True, allow_none=True)
    style = fields.String(allow_none=True)
    room_type = fields.String(allow_none=True)


class NextActionSchema(Schema):
    """What may be done next, as it is asked for; ``body`` has a proposal of what is to be chosen, or null."""

    action = fields.String(required=True, validate=validate.OneOf(ACTIONS))
    method = fields.String(required=True)
    path = fields.String(required=True)
    body = fields.Dict(required=True)
    free = fields.Boolean(required=True, metadata={"description": "True where a paid step costs nothing this time."})


class SessionCountsSchema(Schema):
    """How many there are that succeeded."""

    empty_rooms = fields.Integer(required=True)
    stagings = fields.Integer(required=True)


class SessionSummarySchema(Schema):
    """A session, without what was made in it."""

    id = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    room_state = fields.String(required=True, validate=validate.OneOf(ROOM_STATES))
    upload_id = fields.String(required=True)
    style = fields.String(required=True, allow_none=True)
    room_type = fields.String(required=True, allow_none=True)
    selected_image_id = fields.String(required=True, allow_none=True)
    locked_at = fields.DateTime(required=True, allow_none=True)
    next_retry_number = fields.Integer(required=True)
    free_retries_left = fields.Integer(required=True)
    counts = fields.Nested(SessionCountsSchema, required=True)
    next_actions = fields.List(fields.Nested(NextActionSchema), required=True)
    user_id = fields.String(required=True, allow_none=True)
    livemode = fields.Boolean(required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class StagingSessionSchema(SessionSummarySchema):
    """A session with all that was made in it, oldest first; in a list with the newest 8 attempts of each kind."""

    original_url = SignedAddress(required=True)
    original = fields.Nested(OriginalSchema, required=True)
    empty_rooms = fields.List(fields.Nested(EmptyRoomSchema), required=True)
    stagings = fields.List(fields.Nested(StagedVariantSchema), required=True)


class SessionsQuery(PageQuery):
    """Which sessions."""

    status = fields.String(load_default=None, validate=validate.OneOf(STATUSES))


StagingSessionsSchema = page_of(StagingSessionSchema, "StagingSessions")
