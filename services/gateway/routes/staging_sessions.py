"""Routes of staging sessions: each step of a room's way, and all there is to restore one."""

from collections.abc import Mapping
from typing import Any

from services.gateway import jobs, orders, workflows
from services.gateway.authentication import api_key
from services.gateway.conditions import told_what_is, versions_seen
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.permissions import OWN
from services.gateway.routes.paid_steps import paid_step
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.staging_sessions import (
    EmptyRoomRequest,
    LockRequest,
    SelectionRequest,
    SessionChange,
    SessionRequest,
    SessionsQuery,
    SessionStagingRequest,
    StagingSessionSchema,
    StagingSessionsSchema,
)
from shared.http import Alias, Answer, Request, route
from shared.ids import is_id
from shared.problems import Forbidden, NotFound, SourceGone, StepNotAllowed

_TAGS = ("staging",)
# Where steps were before, a session's id stood in the body.
_OF_SESSION = {"sessionId": "staging_session_id"}
_AT_WORK = ("generating", "staging")
_STYLED = ("style", "room_type", "variants")


def _session(service: Any, request: Request, staging_session_id: str) -> dict[str, Any]:
    _require_session_id(staging_session_id)
    found = service.generation.staging_session(**request.owner, session_id=staging_session_id)
    return links_now(service).staging_session(found)


class StagingSessionRoutes(Wiring):
    """A room, from its photo to staged variants, step by step."""

    @route(
        "POST",
        "/v1/staging-sessions",
        aliases=(Alias("POST", "/api/sessions"),),
        auth=api_key,
        guard=idempotent(prefix="ses"),
        body=SessionRequest,
        answers={201: StagingSessionSchema},
        problems=(Forbidden, NotFound, RequestInProgress, IdempotencyKeyReused),
        summary="Begin a staging session on an upload",
        description="`next_actions` of every answer says what may be done next, and how it is asked for.",
        tags=_TAGS,
    )
    def create_staging_session(self, request: Request) -> Answer:
        """Begin a session under the claim's id."""
        _check_styling(request.body)
        upload_id = request.body["upload_id"]
        assets = self.catalog.resolve(**request.owner, asset_ids=[upload_id])
        given = {name: value for name, value in request.body.items() if name != "upload_id"}
        made = self.generation.create_staging_session(
            **request.owner,
            **given,
            session_id=request.claim.resource_id,
            user_id=request.asker.user_id,
            asset=assets[upload_id],
        )
        where = {"Location": f"/v1/staging-sessions/{made['id']}"}
        return Answer(201, links_now(self).staging_session(made), where)

    @route(
        "GET",
        "/v1/staging-sessions",
        aliases=(Alias("GET", "/api/sessions"),),
        auth=api_key,
        query=SessionsQuery,
        answers={200: StagingSessionsSchema},
        problems=(Forbidden,),
        summary="List staging sessions, newest first",
        tags=_TAGS,
    )
    def staging_sessions(self, request: Request) -> Answer:
        """Return a page of sessions."""
        page = self.generation.staging_sessions(**request.owner, **request.query)
        return Answer(200, {**page, "data": [links_now(self).staging_session(one) for one in page["data"]]})

    @route(
        "GET",
        "/v1/staging-sessions/<staging_session_id>",
        auth=api_key,
        answers={200: StagingSessionSchema},
        problems=(Forbidden,),
        summary="Restore a staging session: its step, selection, every attempt, and what comes next",
        tags=_TAGS,
    )
    def staging_session(self, request: Request, staging_session_id: str) -> Answer:
        """Return one session."""
        shown = _session(self, request, staging_session_id)
        return Answer(200, shown, {"Retry-After": str(jobs.POLL_SECONDS)} if shown["status"] in _AT_WORK else {})

    @route(
        "PATCH",
        "/v1/staging-sessions/<staging_session_id>",
        auth=api_key,
        body=SessionChange,
        current=(StagingSessionSchema, _session),
        answers={200: StagingSessionSchema},
        problems=(Forbidden, StepNotAllowed),
        summary="Name a staging session, keep its draft style, choose the room state before the first generation",
        tags=_TAGS,
    )
    def change_staging_session(self, request: Request, staging_session_id: str) -> Answer:
        """Change what is given."""
        _check_styling(request.body)
        return self._changed(request, staging_session_id, "change_staging_session", given=dict(request.body))

    @route(
        "DELETE",
        "/v1/staging-sessions/<staging_session_id>",
        auth=api_key,
        needs=OWN,
        current=(StagingSessionSchema, _session),
        answers={204: None},
        problems=(Forbidden,),
        summary="Delete a staging session and cancel what it has at work; its images stay",
        tags=_TAGS,
    )
    def delete_staging_session(self, request: Request, staging_session_id: str) -> Answer:
        """Delete one session."""
        _require_session_id(staging_session_id)
        with told_what_is(request, StagingSessionSchema, lambda: _session(self, request, staging_session_id)):
            self.generation.delete_staging_session(
                **request.owner, session_id=staging_session_id, only_versions=versions_seen(request)
            )
        return Answer(204)

    @paid_step(
        "/v1/staging-sessions/<staging_session_id>/empty-rooms",
        aliases=(Alias("POST", "/api/empty-room", renamed={**_OF_SESSION, "retryNumber": "retry_number"}),),
        body=EmptyRoomRequest,
        problems=(SourceGone,),
        summary="Generate the empty room of a session: the first is paid for, retries 1 and 2 are free",
        description="`retry_number` is one more than that of the last attempt that succeeded; 409 says which is next.",
        tags=_TAGS,
    )
    def generate_empty_room(self, request: Request, staging_session_id: str) -> Answer:
        """Hand the session's next attempt over."""
        what = {"session_id": staging_session_id, "retry_number": request.body["retry_number"]}
        return self._step(request, staging_session_id, "empty_room", method="generate_empty_room", what=what)

    @route(
        "PUT",
        "/v1/staging-sessions/<staging_session_id>/selection",
        auth=api_key,
        body=SelectionRequest,
        current=(StagingSessionSchema, _session),
        answers={200: StagingSessionSchema},
        problems=(Forbidden, StepNotAllowed),
        summary="Select the empty room to stage, among all versions of the session",
        tags=_TAGS,
    )
    def select_empty_room(self, request: Request, staging_session_id: str) -> Answer:
        """Select one."""
        return self._changed(request, staging_session_id, "select_empty_room", image_id=request.body["image_id"])

    @route(
        "POST",
        "/v1/staging-sessions/<staging_session_id>/lock",
        auth=api_key,
        guard=idempotent(prefix="ses"),
        body=LockRequest,
        current=(StagingSessionSchema, _session),
        answers={200: StagingSessionSchema},
        problems=(Forbidden, StepNotAllowed, RequestInProgress, IdempotencyKeyReused),
        summary="Lock the selected empty room for staging; no further ones are made",
        tags=_TAGS,
    )
    def lock_empty_room(self, request: Request, staging_session_id: str) -> Answer:
        """Lock what is selected; locking again changes nothing."""
        return self._changed(request, staging_session_id, "lock_empty_room")

    @paid_step(
        "/v1/staging-sessions/<staging_session_id>/stagings",
        aliases=(Alias("POST", "/api/stage", renamed={**_OF_SESSION, "roomType": "room_type"}),),
        body=SessionStagingRequest,
        problems=(SourceGone,),
        summary="Stage the room of a session: the locked empty room, or the photo of one that was empty already",
        description="As often as wanted; the variants are numbered from 1, as they succeed.",
        tags=_TAGS,
    )
    def stage_session(self, request: Request, staging_session_id: str) -> Answer:
        """Hand a staging of the session over."""
        inputs = {name: request.body[name] for name in _STYLED}
        _check_styling(inputs)
        what = {"session_id": staging_session_id, "inputs": inputs}
        return self._step(request, staging_session_id, "staging", method="stage_session", what=what)

    def _step(
        self, request: Request, session_id: str, workflow: str, *, method: str, what: Mapping[str, Any]
    ) -> Answer:
        _require_session_id(session_id)
        return jobs.accept_step(
            self,
            request,
            links_now(self),
            workflow=workflow,
            order=lambda: orders.step(self, request, method, **what),
        )

    def _changed(self, request: Request, session_id: str, method: str, **change: Any) -> Answer:
        """Have generation change a session, if it is as the client saw it, and return it."""
        _require_session_id(session_id)
        with told_what_is(request, StagingSessionSchema, lambda: _session(self, request, session_id)):
            changed = getattr(self.generation, method)(
                **request.owner, **change, session_id=session_id, only_versions=versions_seen(request)
            )
        return Answer(200, links_now(self).staging_session(changed))


def _check_styling(given: Mapping[str, Any]) -> None:
    """Refuse a style or a room type that stagings do not take; null is none."""
    styling = {name: given[name] for name in _STYLED if given.get(name) is not None}
    workflows.check_some(workflows.contract("staging"), styling)


def _require_session_id(session_id: str) -> None:
    if not is_id(session_id, prefix="ses"):
        raise NotFound("There is no such staging session.")
