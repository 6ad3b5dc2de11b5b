"""Routes of credits: the wallet, its plan and its history, the prices."""

from typing import Any

from services.gateway import history
from services.gateway.authentication import api_key
from services.gateway.flags import flag
from services.gateway.permissions import PAY
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.credits import (
    CreditsSchema,
    PeriodQuery,
    PlanRequest,
    PlansSchema,
    PricingSchema,
    UsageSchema,
)
from services.gateway.schemas.history import ChosenEntriesQuery, EntriesQuery, EntriesSchema
from shared.http import Answer, Request, Stream, route
from shared.problems import Forbidden, NotFound

_TAGS = ("credits",)


def _wallet(service: Any, request: Request) -> dict[str, Any]:
    wallet: dict[str, Any] = service.credits.balance(org_id=request.org_id)
    return wallet


class CreditRoutes(Wiring):
    """What an organization has, had, and pays."""

    @route(
        "GET",
        "/v1/credits",
        auth=api_key,
        answers={200: CreditsSchema},
        problems=(Forbidden, NotFound),
        summary="The balance, what is held, the plan's allowance, and what was made so far",
        tags=_TAGS,
    )
    def balance(self, request: Request) -> Answer:
        """Return the wallet."""
        return Answer(200, _wallet(self, request))

    @route(
        "GET",
        "/v1/credits/entries",
        auth=api_key,
        query=EntriesQuery,
        answers={200: EntriesSchema},
        problems=(Forbidden, NotFound),
        summary="Every movement of credits, newest first",
        tags=_TAGS,
    )
    def entries(self, request: Request) -> Answer:
        """Return a page of the history."""
        filters = history.chosen(self, request.query, request.owner)
        return Answer(200, history.entries(self, filters, request.owner))

    @route(
        "GET",
        "/v1/credits/entries.csv",
        auth=api_key,
        query=ChosenEntriesQuery,
        flag=flag("csv_export"),
        answers={200: "text/csv"},
        problems=(Forbidden, NotFound),
        summary="Every movement of credits as a CSV file, newest first",
        description="A cell of text that a spreadsheet would take for a formula begins with an apostrophe. "
        "A file that cannot be completed ends with the connection broken.",
        tags=_TAGS,
    )
    def entries_as_csv(self, request: Request) -> Answer:
        """Return the whole history, made while it is sent."""
        filters = history.chosen(self, request.query, request.owner)
        file = history.as_csv(history.pages_of(self, filters, request.owner))
        return Answer(
            200,
            Stream(pieces=file),
            {
                "Content-Type": "text/csv; charset=utf-8; header=present",
                "Content-Disposition": 'attachment; filename="credits-entries.csv"',
            },
        )

    @route(
        "GET",
        "/v1/usage",
        auth=api_key,
        query=PeriodQuery,
        flag=flag("usage_report"),
        answers={200: UsageSchema},
        problems=(Forbidden, NotFound),
        summary="What was made and spent, by day and workflow",
        tags=_TAGS,
    )
    def usage(self, request: Request) -> Answer:
        """Return the use within a period."""
        return Answer(200, self.credits.usage(org_id=request.org_id, **history.period(request.query)))

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

    @route(
        "GET",
        "/v1/plans",
        auth=api_key,
        answers={200: PlansSchema},
        problems=(Forbidden,),
        summary="Which plans there are",
        tags=_TAGS,
    )
    def plans(self, _request: Request) -> Answer:
        """Return the plans."""
        return Answer(200, self.credits.plans())

    @route(
        "PUT",
        "/v1/plan",
        auth=api_key,
        needs=PAY,
        body=PlanRequest,
        current=(CreditsSchema, _wallet),
        answers={200: CreditsSchema},
        problems=(Forbidden, NotFound),
        summary="Go on another plan; jobs that wait for its allowance go on by themselves",
        tags=_TAGS,
    )
    def change_plan(self, request: Request) -> Answer:
        """Change the organization's own plan."""
        asker, plan = request.asker, request.body["plan"]
        wallet = self.credits.change_plan(org_id=request.org_id, plan=plan, actor=asker.user_id or asker.id)
        return Answer(200, wallet)
