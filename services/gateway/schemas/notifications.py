"""What people are told: their inbox, what they want to be told, and the tips of administrators."""

from marshmallow import fields, validate

from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.http_fields import Flag, id_of, said
from shared.pages import LARGEST_PAGE

FREQUENCIES = ("realtime", "daily_digest")
PARAGRAPHS_MAX = 20
TEXT_MAX = 2000
_TIME = validate.Regexp(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z", error="give hours and minutes, such as 22:00")


class MessagesQuery(PageQuery):
    """Which messages: all, or those that were not read."""

    unread = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})


class MessageSchema(Schema):
    """One message in somebody's inbox; ``read_at`` of null was not read yet.

    What is told of a session has one message, which another takes the place of, unread, when the session goes on.
    """

    id = fields.String(required=True, metadata={"examples": ["ntf_01kafv0s2bf4v8e6f6z5m4j0zt"]})
    kind = fields.String(required=True, metadata={"examples": ["generation_completed"]})
    text = fields.String(required=True, metadata={"examples": ["Your staging is complete! 2 of 2 images generated."]})
    job_id = fields.String(required=True, allow_none=True)
    session_id = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    read_at = fields.DateTime(required=True, allow_none=True)


class MessagesSchema(page_of(MessageSchema, "MessagesPage")):  # type: ignore[misc]  # made at run time
    """A page of somebody's messages, the newest first; ``unread`` counts all that were not read."""

    unread = fields.Integer(required=True)


class ReadRequest(Schema):
    """Which messages were read: those in ``ids``, or all up to ``up_to``, or all where neither is named."""

    ids = fields.List(
        fields.String(validate=id_of("ntf", "a message")),
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, LARGEST_PAGE),
    )
    up_to = fields.String(load_default=None, allow_none=True, validate=id_of("ntf", "a message"))


class ReadSchema(Schema):
    """How many messages were marked just now, and how many are unread still."""

    read = fields.Integer(required=True)
    unread = fields.Integer(required=True)


class EmailChoicesRequest(Schema):
    """Which mails to send."""

    generation_completed = Flag()
    generation_failed = Flag()
    weekly_usage_summary = Flag()
    tips_and_best_practices = Flag()


class BrowserChoicesRequest(Schema):
    """Which messages to put into the inbox."""

    generation_completed = Flag()
    low_quota_warning = Flag()


class QuietHoursSchema(Schema):
    """Between which hours of one's own day mails wait; they may go over midnight."""

    begin = fields.String(
        required=True, data_key="from", attribute="from", validate=_TIME, metadata={"examples": ["22:00"]}
    )
    until = fields.String(required=True, validate=_TIME, metadata={"examples": ["07:00"]})


class PreferencesRequest(Schema):
    """What to change of what one is told; what is left out stays as it is. Times are of the ``timezone``."""

    email = fields.Nested(EmailChoicesRequest)
    browser = fields.Nested(BrowserChoicesRequest)
    frequency = fields.String(validate=validate.OneOf(FREQUENCIES), metadata={"examples": ["daily_digest"]})
    timezone = fields.String(validate=validate.Length(1, 64), metadata={"examples": ["Europe/Berlin"]})
    quiet_hours = fields.Nested(QuietHoursSchema, allow_none=True)


class EmailChoicesSchema(Schema):
    """Which mails are sent."""

    generation_completed = fields.Boolean(required=True)
    generation_failed = fields.Boolean(required=True)
    weekly_usage_summary = fields.Boolean(required=True)
    tips_and_best_practices = fields.Boolean(required=True)


class BrowserChoicesSchema(Schema):
    """Which messages come into the inbox."""

    generation_completed = fields.Boolean(required=True)
    low_quota_warning = fields.Boolean(required=True)


class PreferencesSchema(Schema):
    """What somebody is told and how; ``version`` counts the changes."""

    email = fields.Nested(EmailChoicesSchema, required=True)
    browser = fields.Nested(BrowserChoicesSchema, required=True)
    frequency = fields.String(required=True, validate=validate.OneOf(FREQUENCIES))
    timezone = fields.String(required=True)
    quiet_hours = fields.Nested(QuietHoursSchema, required=True, allow_none=True)
    version = fields.Integer(required=True)


class UnsubscribeQuery(Schema):
    """The token of a link in a mail."""

    token = fields.String(required=True, validate=validate.Length(1, 200))


class TipRequest(Schema):
    """A tip for everybody who wants some."""

    subject = fields.String(
        required=True, validate=[validate.Length(1, 200), said], metadata={"examples": ["Rooms with large windows"]}
    )
    paragraphs = fields.List(
        fields.String(validate=[validate.Length(1, TEXT_MAX), said]),
        required=True,
        validate=validate.Length(1, PARAGRAPHS_MAX),
        metadata={"examples": [["Take the photo from a corner."]]},
    )


class TipSchema(Schema):
    """A tip that is on its way, and to how many."""

    id = fields.String(required=True, metadata={"examples": ["tip_01kafv0s2bf4v8e6f6z5m4j0zt"]})
    mails = fields.Integer(required=True)
