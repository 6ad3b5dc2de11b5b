"""Routes of what happened: the log of events, the stream of it, and the story that is told of it."""

from typing import Any

from services.gateway import following
from services.gateway.authentication import api_key, claimed_by, fresh_key
from services.gateway.passing import Wanted
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.events import (
    ActivitiesSchema,
    ActivityQuery,
    EventsQuery,
    EventsSchema,
    FollowQuery,
)
from services.gateway.streams import TooManyStreams
from shared.http import Answer, Request, Stream, route
from shared.http_problems import ReducedCapacity
from shared.problems import Forbidden

_TAGS = ("events",)
_MODES = "A test key sees what test keys have made, and everybody else sees everything else."


class EventRoutes(Wiring):
    """One log of everything, in its order."""

    @route(
        "GET",
        "/v1/events",
        auth=api_key,
        query=EventsQuery,
        answers={200: EventsSchema},
        problems=(Forbidden,),
        summary="What happened, in the order of the log",
        description=f"Ask again with the id of the last event as `after`, or with `last`. {_MODES}",
        tags=_TAGS,
    )
    def events(self, request: Request) -> Answer:
        """Return a page of the log."""
        query = request.query
        page = self.notifications.events(
            **request.owner, **_chosen(query), types=query["types"], after=query["after"], limit=query["limit"]
        )
        return Answer(200, page)

    @route(
        "GET",
        "/v1/events/stream",
        auth=fresh_key,
        query=FollowQuery,
        answers={200: "text/event-stream"},
        problems=(Forbidden, TooManyStreams, ReducedCapacity),
        summary="Events as they happen (server-sent events)",
        description="`id` is that of `GET /v1/events`, `event` the type, `data` the CloudEvent. A client that comes "
        "back sends the last id as `Last-Event-ID`, or as `after`: it gets what it missed, and then goes on, with no "
        "gap and nothing twice. Without either it begins now. Where what it missed is kept no longer there is an event "
        "`resync`: look at everything anew. A comment comes at least every 15 s. A client that does not read "
        f"what it is sent, or whose credential ends, is sent away. {_MODES}",
        tags=_TAGS,
    )
    def follow_events(self, request: Request) -> Answer:
        """Stream the log."""
        cursor = following.cursor_of(request.headers.get("Last-Event-ID"), request.query["after"])
        chosen = {**_chosen(request.query), "types": request.query["types"]}
        wanted = Wanted(
            asker=request.asker,
            org_id=request.org_id,
            after=cursor,
            chosen=chosen,
            claimed=claimed_by(self, request),
        )
        stream = self.streams.open(wanted)
        return Answer(
            200,
            Stream(
                pieces=following.follow(stream, self.notifications),
                piece_seconds=following.PIECE_SECONDS,
                leave=stream.close,
                sent_over=stream.sent_over,
            ),
            {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @route(
        "GET",
        "/v1/activity",
        auth=api_key,
        query=ActivityQuery,
        answers={200: ActivitiesSchema},
        problems=(Forbidden,),
        summary="What happened, in sentences, newest first",
        description=f"Of everything, or of one session or job. {_MODES}",
        tags=_TAGS,
    )
    def activity(self, request: Request) -> Answer:
        """Return a page of the story."""
        query = request.query
        more = {name: query[name] for name in ("limit", "after", "timezone")}
        return Answer(200, self.notifications.activity(**request.owner, **_chosen(query), **more))


def _chosen(query: dict[str, Any]) -> dict[str, Any]:
    return {"session_id": query["session"], "job_id": query["job"]}
