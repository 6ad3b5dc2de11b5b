"""Routes of workflows: what can be asked for."""

from services.gateway.authentication import api_key
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.service import WorkflowsSchema
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
