"""Analytics: what clients tell of people, and what administrators read of headshots and staging sessions."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from shared.http import Schema
from shared.http_fields import id_of

BEHAVIOURS = ("style_selected", "headshot_downloaded", "user_shared", "history_viewed")
_OF_A_HEADSHOT = ("headshot_downloaded", "user_shared")


class BehaviourRequest(Schema):
    """Something a person did that only the client sees; what the server sees itself is not to be told."""

    name = fields.String(required=True, validate=validate.OneOf(BEHAVIOURS))
    headshot_id = fields.String(
        load_default=None,
        validate=id_of("gen", "a headshot"),
        metadata={"description": "Needed where it was downloaded or shared."},
    )
    style = fields.String(
        load_default=None,
        validate=validate.Length(1, 100),
        metadata={"description": "Needed where a style was selected.", "examples": ["corporate"]},
    )

    @validates_schema
    def _complete(self, data: dict[str, Any], **_: Any) -> None:
        if data["name"] in _OF_A_HEADSHOT and not data["headshot_id"]:
            raise ValidationError("say which headshot", field_name="headshot_id")
        if data["name"] == "style_selected" and not data["style"]:
            raise ValidationError("say which style", field_name="style")


class BehaviourSchema(Schema):
    """What was told."""

    id = fields.String(required=True)
    name = fields.String(required=True, validate=validate.OneOf(BEHAVIOURS))
    headshot_id = fields.String(required=True, allow_none=True)
    style = fields.String(required=True, allow_none=True)


class AnalyticsQuery(Schema):
    """Which days, in UTC; 30 days to today unless told."""

    first = fields.Date(load_default=None, metadata={"examples": ["2026-01-01"]})
    last = fields.Date(load_default=None, metadata={"examples": ["2026-01-31"]})
    livemode = fields.Boolean(load_default=True, truthy={"true"}, falsy={"false"})


class StyleStatisticsSchema(Schema):
    """What there was of a style; rates are percent. Those that were cancelled are no failures."""

    style = fields.String(required=True)
    started = fields.Integer(required=True)
    total_generations = fields.Integer(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    credits = fields.Integer(required=True)
    success_rate = fields.Float(required=True, allow_none=True)
    avg_processing_time_ms = fields.Integer(required=True, allow_none=True)
    favorites = fields.Integer(required=True)
    selected = fields.Integer(required=True)
    downloaded = fields.Integer(required=True)
    shared = fields.Integer(required=True)


class DayStatisticsSchema(StyleStatisticsSchema):
    """What there was of a style on a day, which is that of the event itself, in UTC."""

    date = fields.Date(required=True)
    users = fields.Integer(required=True)


class HourSchema(Schema):
    """How many were begun in an hour of the day, in UTC."""

    hour = fields.Integer(required=True, validate=validate.Range(0, 23))
    started = fields.Integer(required=True)


class UsersSchema(Schema):
    """The people behind it; who asked for more than one job is a repeat user."""

    active = fields.Integer(required=True)
    repeat = fields.Integer(required=True)
    repeat_rate = fields.Float(required=True, allow_none=True)
    headshots_per_user = fields.Float(required=True, allow_none=True)
    history_viewers = fields.Integer(required=True)
    history_view_rate = fields.Float(required=True, allow_none=True)


class FailureCountSchema(Schema):
    """How often something was the reason of a failure."""

    reason = fields.String(required=True)
    count = fields.Integer(required=True)


class HeadshotAnalyticsSchema(Schema):
    """The statistics of headshots, of all organizations; the busiest hours come first."""

    first = fields.Date(required=True)
    last = fields.Date(required=True)
    days = fields.List(fields.Nested(DayStatisticsSchema), required=True)
    styles = fields.List(fields.Nested(StyleStatisticsSchema), required=True)
    peak_hours = fields.List(fields.Nested(HourSchema), required=True)
    users = fields.Nested(UsersSchema, required=True)
    failures = fields.List(fields.Nested(FailureCountSchema), required=True)
    favorite_rate = fields.Float(required=True, allow_none=True)


class SessionStatisticsSchema(Schema):
    """What became of the sessions that were begun; rates are percent.

    One is completed by its first staged variant. Where nothing happened for half an hour before that, it was either
    taken up again or left behind: of these ``recovery_rate`` were taken up.
    """

    begun = fields.Integer(required=True)
    completed = fields.Integer(required=True)
    completion_rate = fields.Float(required=True, allow_none=True)
    avg_seconds_to_complete = fields.Integer(required=True, allow_none=True)
    retries_per_session = fields.Float(
        required=True, allow_none=True, metadata={"description": "Per session with an empty room."}
    )
    taken_up_again = fields.Integer(required=True)
    left_behind = fields.Integer(required=True)
    recovery_rate = fields.Float(required=True, allow_none=True)


class StagingJobsSchema(Schema):
    """How stagings were asked for: as a step of a session, or without one."""

    in_sessions = fields.Integer(required=True)
    without_session = fields.Integer(required=True)
    session_rate = fields.Float(required=True, allow_none=True)


class StagingAnalyticsSchema(Schema):
    """The statistics of staging sessions, of all organizations, as far back as the log of events is kept."""

    first = fields.Date(required=True)
    last = fields.Date(required=True)
    sessions = fields.Nested(SessionStatisticsSchema, required=True)
    stagings = fields.Nested(StagingJobsSchema, required=True)
