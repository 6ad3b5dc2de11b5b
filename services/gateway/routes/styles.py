"""Routes of saved styles: an organization's own, to be named wherever a style is asked for."""

from typing import Any

from services.gateway.authentication import api_key
from services.gateway.conditions import told_what_is, versions_seen
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.pages import PageQuery
from services.gateway.schemas.styles import StyleChange, StyleRequest, StyleSchema, StylesSchema
from shared.http import Answer, Request, route
from shared.ids import is_id
from shared.problems import Conflict, Forbidden, LimitExceeded, NotFound

_TAGS = ("styles",)


def _style(service: Any, request: Request, style_id: str) -> dict[str, Any]:
    _require_style_id(style_id)
    found: dict[str, Any] = service.generation.style(**request.owner, style_id=style_id)
    return found


class StyleRoutes(Wiring):
    """Styles of an organization's own."""

    @route(
        "POST",
        "/v1/styles",
        auth=api_key,
        guard=idempotent(prefix="sty"),
        body=StyleRequest,
        answers={201: StyleSchema},
        problems=(Forbidden, Conflict, LimitExceeded, RequestInProgress, IdempotencyKeyReused),
        summary="Save a style: one of ours, with words and colours of your own",
        tags=_TAGS,
    )
    def save_style(self, request: Request) -> Answer:
        """Save a style under the claim's id."""
        made = self.generation.save_style(
            **request.owner, **request.body, style_id=request.claim.resource_id, user_id=request.asker.user_id
        )
        return Answer(201, made, {"Location": f"/v1/styles/{made['id']}"})

    @route(
        "GET",
        "/v1/styles",
        auth=api_key,
        query=PageQuery,
        answers={200: StylesSchema},
        problems=(Forbidden,),
        summary="List saved styles, newest first; ours are the choices of `GET /v1/workflows`",
        tags=_TAGS,
    )
    def styles(self, request: Request) -> Answer:
        """Return a page of styles."""
        return Answer(200, self.generation.styles(**request.owner, **request.query))

    @route(
        "GET",
        "/v1/styles/<style_id>",
        auth=api_key,
        answers={200: StyleSchema},
        problems=(Forbidden,),
        summary="Look a saved style up",
        tags=_TAGS,
    )
    def style(self, request: Request, style_id: str) -> Answer:
        """Return one style."""
        return Answer(200, _style(self, request, style_id))

    @route(
        "PATCH",
        "/v1/styles/<style_id>",
        auth=api_key,
        body=StyleChange,
        current=(StyleSchema, _style),
        answers={200: StyleSchema},
        problems=(Forbidden, Conflict),
        summary="Change a saved style",
        tags=_TAGS,
    )
    def change_style(self, request: Request, style_id: str) -> Answer:
        """Change what is given."""
        _require_style_id(style_id)
        with told_what_is(request, StyleSchema, lambda: _style(self, request, style_id)):
            changed = self.generation.change_style(
                **request.owner, style_id=style_id, given=dict(request.body), only_versions=versions_seen(request)
            )
        return Answer(200, changed)

    @route(
        "DELETE",
        "/v1/styles/<style_id>",
        auth=api_key,
        current=(StyleSchema, _style),
        answers={204: None},
        problems=(Forbidden,),
        summary="Delete a saved style; what was made in it stays",
        tags=_TAGS,
    )
    def delete_style(self, request: Request, style_id: str) -> Answer:
        """Delete one style."""
        _require_style_id(style_id)
        with told_what_is(request, StyleSchema, lambda: _style(self, request, style_id)):
            self.generation.delete_style(**request.owner, style_id=style_id, only_versions=versions_seen(request))
        return Answer(204)


def _require_style_id(style_id: str) -> None:
    if not is_id(style_id, prefix="sty"):
        raise NotFound("There is no such saved style.")
