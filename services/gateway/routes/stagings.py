"""Routes of virtual staging: thin mappings on to jobs."""

from services.gateway import jobs, workflows
from services.gateway.authentication import api_key
from services.gateway.routes.jobs import PAID_ANSWERS, PAID_PROBLEMS
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.jobs import StagingRequest
from shared.http import Answer, Request, route

_WORKFLOW = "staging"
_INPUTS = ("upload_id", "style", "room_type", "variants")


class StagingRoutes(Wiring):
    """A room on a photo, furnished in a style."""

    @route(
        "POST",
        "/v1/stagings",
        auth=api_key,
        guard=jobs.patient(links_now),
        money=True,
        holds=True,
        body=StagingRequest,
        answers=PAID_ANSWERS,
        problems=PAID_PROBLEMS,
        summary="Stage a room: the short form of a job of the workflow `staging`",
        tags=("staging",),
    )
    def create_staging(self, request: Request) -> Answer:
        """Hand a staging job over."""
        inputs = {name: request.body[name] for name in _INPUTS}
        workflows.check(workflows.contract(_WORKFLOW), inputs, at="")
        return jobs.accept(self, request, links_now(self), workflow=_WORKFLOW, inputs=inputs)
