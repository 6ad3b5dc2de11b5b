"""Routes of workflows and models: what can be asked for, and who does it."""

from services.gateway.authentication import api_key
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.service import ModelsSchema, WorkflowsSchema
from services.gateway.workflows import contracts
from shared.http import Answer, Request, route
from shared.problems import Forbidden


class WorkflowRoutes(Wiring):
    """The product lines."""

    @route(
        "GET",
        "/v1/workflows",
        auth=api_key,
        answers={200: WorkflowsSchema},
        problems=(Forbidden,),
        summary="Every workflow, what a job of it takes, and what may be chosen",
        tags=("workflows",),
    )
    def workflows(self, _request: Request) -> Answer:
        """Return what generation offers, with the schema of its inputs."""
        known = contracts()
        offered = [line for line in self.generation.workflows()["data"] if line["name"] in known]
        return Answer(200, {"data": [{**line, "inputs": known[line["name"]].inputs} for line in offered]})

    @route(
        "GET",
        "/v1/models",
        auth=api_key,
        answers={200: ModelsSchema},
        problems=(Forbidden,),
        summary="Every AI model in use, how it does just now, and when its vendor ends it",
        tags=("workflows",),
    )
    def models(self, _request: Request) -> Answer:
        """Return what generation knows of its models."""
        return Answer(200, self.generation.models())
