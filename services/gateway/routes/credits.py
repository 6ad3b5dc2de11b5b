"""Routes of credits: the wallet, its history, the prices."""

from services.gateway.authentication import api_key
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas import CreditsSchema, EntriesQuery, EntriesSchema, PricingSchema
from shared.http import Answer, Request, route
from shared.problems import Forbidden

_TAGS = ("credits",)


class CreditRoutes(Wiring):
    """What an organization has, had, and pays."""

    @route(
        "GET",
        "/v1/credits",
        auth=api_key,
        answers={200: CreditsSchema},
        problems=(Forbidden,),
        summary="The balance, what is held, and the plan's allowance",
        tags=_TAGS,
    )
    def balance(self, request: Request) -> Answer:
        """Return the wallet."""
        return Answer(200, self.credits.balance(org_id=request.org_id))

    @route(
        "GET",
        "/v1/credits/entries",
        auth=api_key,
        query=EntriesQuery,
        answers={200: EntriesSchema},
        problems=(Forbidden,),
        summary="Every movement of credits, newest first",
        tags=_TAGS,
    )
    def entries(self, request: Request) -> Answer:
        """Return a page of the history."""
        return Answer(200, self.credits.entries(org_id=request.org_id, **request.query))

    @route(
        "GET",
        "/v1/pricing",
        auth=api_key,
        answers={200: PricingSchema},
        problems=(Forbidden,),
        summary="What everything costs",
        tags=_TAGS,
    )
    def pricing(self, _request: Request) -> Answer:
        """Return the price book."""
        return Answer(200, self.credits.pricing())
