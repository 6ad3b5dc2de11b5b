"""Routes of analytics: what clients tell of people, and what administrators read of headshots and sessions."""

from typing import Any

from services.gateway import workflows
from services.gateway.authentication import admin_key, api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.permissions import READ
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.analytics import (
    AnalyticsQuery,
    BehaviourRequest,
    BehaviourSchema,
    HeadshotAnalyticsSchema,
    StagingAnalyticsSchema,
)
from shared.events import BehaviourTracked
from shared.http import Answer, Request, route
from shared.problems import Forbidden, NotFound

_TAGS = ("headshots",)
_WORKFLOW = "headshot"


class AnalyticsRoutes(Wiring):
    """How headshots and staging sessions are used."""

    @route(
        "POST",
        "/v1/analytics/events",
        auth=api_key,
        needs=READ,
        guard=idempotent(prefix="bhv"),
        body=BehaviourRequest,
        answers={201: BehaviourSchema},
        problems=(Forbidden, NotFound, RequestInProgress, IdempotencyKeyReused),
        summary="Tell that somebody selected a style, downloaded or shared a headshot, or looked at the history",
        description="Sent again with its Idempotency-Key it is counted once. That headshots were begun, made or failed "
        "is known already.",
        tags=_TAGS,
    )
    def track_behaviour(self, request: Request) -> Answer:
        """Tell everybody who counts."""
        told = dict(request.body)
        if told["headshot_id"]:
            told["style"] = self.generation.headshot(**request.owner, headshot_id=told["headshot_id"])["style"]
        elif told["style"]:
            workflows.check_some(workflows.contract(_WORKFLOW), {"style": told["style"]})
        behaviour_id = request.claim.resource_id
        tracked = BehaviourTracked(behaviour_id=behaviour_id, **request.owner, user_id=request.asker.user_id, **told)
        with self.db.transaction() as session:
            self.db.publish(session, [tracked])
        return Answer(201, {"id": behaviour_id, **told})

    @route(
        "GET",
        "/v1/admin/analytics/headshots",
        auth=admin_key,
        query=AnalyticsQuery,
        answers={200: HeadshotAnalyticsSchema},
        problems=(Forbidden,),
        summary="How headshots do: by day and style, the busiest hours, people who come back, why some fail",
        tags=("admin",),
    )
    def headshot_analytics(self, request: Request) -> Answer:
        """Return the statistics."""
        return Answer(200, self.notifications.headshot_analytics(**_days(request)))

    @route(
        "GET",
        "/v1/admin/analytics/staging",
        auth=admin_key,
        query=AnalyticsQuery,
        answers={200: StagingAnalyticsSchema},
        problems=(Forbidden,),
        summary="How staging sessions do: how many are completed, how long that takes, retries, who comes back",
        tags=("admin",),
    )
    def staging_analytics(self, request: Request) -> Answer:
        """Return the statistics."""
        return Answer(200, self.notifications.staging_analytics(**_days(request)))


def _days(request: Request) -> dict[str, Any]:
    days = {name: request.query[name] and request.query[name].isoformat() for name in ("first", "last")}
    return {**days, "livemode": request.query["livemode"]}
