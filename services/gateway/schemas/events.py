"""The log of events, and the story that is told of it."""

from typing import Any

from marshmallow import ValidationError, fields, validate

from services.gateway.schemas.pages import PageQuery, page_of
from shared import events
from shared.http import Schema
from shared.http_fields import id_of
from shared.pages import LARGEST_PAGE, PAGE

TYPES = tuple(sorted(cls.__name__ for cls in events.logged()))
NUMBER = validate.Regexp(r"[0-9]{1,18}\Z", error="give the id of an event in the list, such as 42; 0 is the beginning")
_SESSION_MAX = 100


class TypesOfEvents(fields.Field[list[str]]):
    """Types of events with commas in between, as a query has them."""

    def __init__(self, **options: Any) -> None:
        described = {"type": "string", "examples": ["JobFinished,GenerationFailed"]}
        super().__init__(**{**options, "metadata": {**described, **options.get("metadata", {})}})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> list[str]:
        del attr, data
        wanted = sorted({name.strip() for name in str(value).split(",")})
        known_types(wanted)
        return wanted


def known_types(names: Any) -> None:
    """Refuse types of events that there are not.

    Raises:
        ValidationError: one of them is none.
    """
    unknown = [name for name in names if name not in TYPES]
    if unknown:
        raise ValidationError(f"there are no events of the type {unknown[0][:50]!r}; there are {', '.join(TYPES)}")


class FollowQuery(Schema):
    """Which events: of these types, of one session, of one job; all, where nothing is said."""

    after = fields.String(load_default=None, validate=NUMBER)
    types = TypesOfEvents(load_default=None)
    session = fields.String(load_default=None, validate=validate.Length(1, _SESSION_MAX))
    job = fields.String(load_default=None, validate=id_of("job", "a job"))


class EventsQuery(FollowQuery):
    """Which part of the log; ``after=0``, which is the default, begins with the oldest event that is kept."""

    after = fields.String(load_default="0", validate=NUMBER)
    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, LARGEST_PAGE))


class LoggedEventSchema(Schema):
    """One event: ``id`` is its number in the log, ``event`` the CloudEvent, as streams and webhooks have it."""

    id = fields.String(required=True, metadata={"examples": ["42"]})
    type = fields.String(required=True, metadata={"examples": ["JobFinished"]})
    time = fields.DateTime(required=True)
    event = fields.Dict(required=True)


class EventsSchema(Schema):
    """A page of the log, the oldest first.

    ``last`` is the number up to which this answer knows the log, whatever was left out: whoever has read to the end
    (``has_more`` is false) goes on after that. ``oldest`` is the first that is kept. ``resync`` says that events after
    the cursor are kept no longer, or that it is of no event of this log: look at everything anew, and go on after
    ``last``.
    """

    data = fields.List(fields.Nested(LoggedEventSchema), required=True)
    has_more = fields.Boolean(required=True)
    next_cursor = fields.String(required=True, allow_none=True, metadata={"examples": ["42"]})
    oldest = fields.String(required=True, metadata={"examples": ["1"]})
    last = fields.String(required=True, metadata={"examples": ["42"]})
    resync = fields.Boolean(required=True)


class ActivityQuery(PageQuery):
    """Whose activity, and by which clock."""

    after = fields.String(load_default=None, validate=NUMBER)
    session = fields.String(load_default=None, validate=validate.Length(1, _SESSION_MAX))
    job = fields.String(load_default=None, validate=id_of("job", "a job"))
    timezone = fields.String(load_default="UTC", validate=validate.Length(1, 64))


class ActivitySchema(Schema):
    """Something that happened, in a sentence; ``count`` is how many events it tells."""

    id = fields.String(required=True, metadata={"examples": ["42"]})
    time = fields.DateTime(required=True)
    type = fields.String(required=True, metadata={"examples": ["ProductChanged"]})
    text = fields.String(required=True, metadata={"examples": ["Sarah added 10 products at 2:30 PM"]})
    count = fields.Integer(required=True)
    actor_id = fields.String(required=True, allow_none=True)
    job_id = fields.String(required=True, allow_none=True)
    session_id = fields.String(required=True, allow_none=True)


ActivitiesSchema = page_of(ActivitySchema, "Activities")
