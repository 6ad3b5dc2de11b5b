"""Routes of headshots: asking for one or for several styles, their history, favorites, and what there is to count."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPMethod
from typing import Any

from services.gateway import jobs, workflows
from services.gateway.authentication import api_key
from services.gateway.routes.jobs import PAID_ANSWERS, PAID_PROBLEMS
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.headshots import (
    HeadshotBatchRequest,
    HeadshotRequest,
    HeadshotSchema,
    HeadshotsQuery,
    HeadshotsSchema,
    HeadshotStatsSchema,
)
from services.gateway.schemas.jobs import GENERATION_STATUSES
from shared.events import BehaviourTracked
from shared.http import Alias, Answer, Request, route
from shared.ids import is_id
from shared.problems import Conflict, Forbidden, NotFound

_TAGS = ("headshots",)
_WORKFLOW = "headshot"
_FRAMED = ("upload_id", "aspect_ratio", "quality")
_ENDS = GENERATION_STATUSES[-2:]


def _headshot(service: Any, request: Request, headshot_id: str) -> dict[str, Any]:
    return links_now(service).generation(_found(service, request, headshot_id))


def _found(service: Any, request: Request, headshot_id: str) -> dict[str, Any]:
    _require_headshot_id(headshot_id)
    found: dict[str, Any] = service.generation.headshot(**request.owner, headshot_id=headshot_id)
    return found


class HeadshotRoutes(Wiring):
    """A photo of a person, printed in a style."""

    @route(
        "POST",
        "/v1/headshots",
        aliases=(Alias("POST", "/api/headshots/generate"),),
        auth=api_key,
        guard=jobs.patient(links_now),
        money=True,
        holds=True,
        body=HeadshotRequest,
        answers=PAID_ANSWERS,
        problems=PAID_PROBLEMS,
        summary="Have a headshot made of an uploaded face, in one style",
        tags=_TAGS,
    )
    def create_headshot(self, request: Request) -> Answer:
        """Hand a job of one headshot over."""
        return _accepted(self, request, {"style": request.body["style"]})

    @route(
        "POST",
        "/v1/headshots/batches",
        aliases=(Alias("POST", "/api/headshots/batch"),),
        auth=api_key,
        guard=jobs.patient(links_now),
        money=True,
        holds=True,
        body=HeadshotBatchRequest,
        answers=PAID_ANSWERS,
        problems=PAID_PROBLEMS,
        summary="Have headshots made of one uploaded face in several styles, by one job",
        description="One hold for all; a style that fails is given back, and the others are kept.",
        tags=_TAGS,
    )
    def create_headshots(self, request: Request) -> Answer:
        """Hand a job of several headshots over."""
        return _accepted(self, request, {"styles": request.body["styles"]})

    @route(
        "GET",
        "/v1/headshots",
        aliases=(
            Alias("GET", "/api/headshots/history"),
            Alias("GET", "/api/headshots/favorites", given={"favorite": "true"}),
        ),
        auth=api_key,
        query=HeadshotsQuery,
        answers={200: HeadshotsSchema},
        problems=(Forbidden,),
        summary="List headshots, newest first, failed ones included",
        tags=_TAGS,
    )
    def headshots(self, request: Request) -> Answer:
        """Return a page of headshots."""
        page = self.generation.headshots(**request.owner, **request.query)
        return Answer(200, {**page, "data": [links_now(self).generation(one) for one in page["data"]]})

    @route(
        "GET",
        "/v1/headshots/stats",
        auth=api_key,
        answers={200: HeadshotStatsSchema},
        problems=(Forbidden,),
        summary="How many headshots were made, of which styles, and what they cost",
        tags=_TAGS,
    )
    def headshot_stats(self, request: Request) -> Answer:
        """Return the counts."""
        return Answer(200, self.generation.headshot_stats(**request.owner, user_id=request.asker.user_id))

    @route(
        "GET",
        "/v1/headshots/<headshot_id>",
        aliases=(Alias("GET", "/api/headshots/history/<headshot_id>"),),
        auth=api_key,
        answers={200: HeadshotSchema},
        problems=(Forbidden,),
        summary="Look a headshot up; ask again after Retry-After until it has ended",
        tags=_TAGS,
    )
    def headshot(self, request: Request, headshot_id: str) -> Answer:
        """Return one headshot."""
        shown = _headshot(self, request, headshot_id)
        headers = {} if shown["status"] in _ENDS else {"Retry-After": str(jobs.POLL_SECONDS)}
        return Answer(200, shown, headers)

    @route(
        "DELETE",
        "/v1/headshots/<headshot_id>",
        aliases=(Alias("DELETE", "/api/headshots/history/<headshot_id>"),),
        auth=api_key,
        answers={204: None},
        problems=(Forbidden, Conflict),
        summary="Delete a headshot and its bytes for good; what it cost stays on record",
        tags=_TAGS,
    )
    def delete_headshot(self, request: Request, headshot_id: str) -> Answer:
        """Delete one headshot."""
        _require_headshot_id(headshot_id)
        self.generation.delete_headshot(**request.owner, headshot_id=headshot_id, user_id=request.asker.user_id)
        return Answer(204)

    @route(
        "PUT",
        "/v1/headshots/<headshot_id>/favorite",
        aliases=(Alias("POST", "/api/headshots/<headshot_id>/favorite"),),
        auth=api_key,
        answers={200: HeadshotSchema},
        problems=(Forbidden, Conflict),
        summary="Mark a headshot as a favorite",
        tags=_TAGS,
    )
    def mark_headshot(self, request: Request, headshot_id: str) -> Answer:
        """Mark one headshot."""
        return _marked(self, request, headshot_id, favorite=True)

    @route(
        "DELETE",
        "/v1/headshots/<headshot_id>/favorite",
        aliases=(Alias("DELETE", "/api/headshots/<headshot_id>/favorite"),),
        auth=api_key,
        answers={200: HeadshotSchema},
        problems=(Forbidden,),
        summary="Take the mark of a favorite off a headshot",
        tags=_TAGS,
    )
    def unmark_headshot(self, request: Request, headshot_id: str) -> Answer:
        """Unmark one headshot."""
        return _marked(self, request, headshot_id, favorite=False)

    @route(
        "GET",
        "/v1/headshots/<headshot_id>/download",
        auth=api_key,
        answers={303: None},
        problems=(Forbidden, Conflict),
        summary="Save a headshot as a file: leads to its signed address, and counts as a download",
        description="Who saves it again within the hour is counted once. Clients need not tell of it.",
        tags=_TAGS,
    )
    def download_headshot(self, request: Request, headshot_id: str) -> Answer:
        """Lead to one headshot's file, and tell everybody who counts."""
        found = _found(self, request, headshot_id)
        if not found["images"]:
            raise Conflict("This headshot has no image: only one that succeeded can be saved.")
        if request.method == HTTPMethod.GET:
            with self.db.transaction() as session:
                self.db.publish(session, [_downloaded(request, found)])
        saved = links_now(self).to_save(found["images"][0]["key"], name=f"headshot-{found['style']}")
        return Answer(303, None, {"Location": saved, "Cache-Control": "no-store"})


def _downloaded(request: Request, headshot: Mapping[str, Any]) -> BehaviourTracked:
    """Return what tells of a download; the same for all of somebody's within an hour."""
    hour = datetime.now(UTC).strftime("%Y%m%d%H")
    return BehaviourTracked(
        behaviour_id=f"download:{headshot['id']}:{request.asker.id}:{hour}",
        **request.owner,
        user_id=request.asker.user_id,
        name="headshot_downloaded",
        headshot_id=headshot["id"],
        style=headshot["style"],
    )


def _accepted(service: Any, request: Request, styled: Mapping[str, Any]) -> Answer:
    inputs = {**{name: request.body[name] for name in _FRAMED}, **styled}
    workflows.check(workflows.contract(_WORKFLOW), inputs, at="")
    return jobs.accept(service, request, links_now(service), workflow=_WORKFLOW, inputs=inputs)


def _marked(service: Any, request: Request, headshot_id: str, *, favorite: bool) -> Answer:
    _require_headshot_id(headshot_id)
    marked = service.generation.mark_headshot(
        **request.owner, headshot_id=headshot_id, user_id=request.asker.user_id, favorite=favorite
    )
    return Answer(200, links_now(service).generation(marked))


def _require_headshot_id(headshot_id: str) -> None:
    if not is_id(headshot_id, prefix="gen"):
        raise NotFound("There is no such headshot.")
