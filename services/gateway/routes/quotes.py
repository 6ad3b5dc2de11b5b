"""Routes of quotes: what a job will cost at most, before it is asked for."""

from services.gateway import orders, workflows
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.quotes import QuoteRequest, QuoteSchema
from shared.http import Answer, Request, route
from shared.problems import Conflict, LimitExceeded, NotFound, UnknownSku


class QuoteRoutes(Wiring):
    """Prices that are promised."""

    @route(
        "POST",
        "/v1/quotes",
        auth=api_key,
        guard=idempotent(prefix="quo"),
        body=QuoteRequest,
        answers={201: QuoteSchema},
        problems=(NotFound, Conflict, LimitExceeded, UnknownSku, RequestInProgress, IdempotencyKeyReused),
        summary="Have the price of a job promised for 15 minutes",
        description="Nothing is held. A job that names the quote as `quote_id` is never charged more.",
        tags=("credits",),
    )
    def create_quote(self, request: Request) -> Answer:
        """Plan the job and price it."""
        name, inputs = request.body["workflow"], request.body["inputs"]
        workflows.check(workflows.contract(name), inputs, at="/inputs")
        return Answer(201, orders.quoted(self, request, workflow=name, inputs=inputs))
