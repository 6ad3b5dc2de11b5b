"""Routes of administrators about the engine: the AI operation log, the providers, the shares of organizations."""

import structlog

from services.gateway import queries
from services.gateway.authentication import admin_key
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.engine import (
    OperationsQuery,
    OperationsSchema,
    ProvidersSchema,
    ShareRequest,
    ShareSchema,
)
from shared.http import Answer, Request, route
from shared.http_fields import rfc3339
from shared.problems import Forbidden

log = structlog.get_logger(__name__)

_TAGS = ("admin",)


class AdminEngineRoutes(Wiring):
    """What an administrator may see of AI providers, and settle for an organization."""

    @route(
        "GET",
        "/v1/admin/operations",
        auth=admin_key,
        query=OperationsQuery,
        answers={200: OperationsSchema},
        problems=(Forbidden,),
        summary="The AI operation log: every request to an AI provider, failures included, newest first",
        tags=_TAGS,
    )
    def operations(self, request: Request) -> Answer:
        """Return a page of the log."""
        filters = dict(request.query)
        after, since = filters.pop("after"), filters.pop("since")
        page = self.generation.operation_log(**filters, before=after, since=rfc3339(since) if since else None)
        return Answer(200, page)

    @route(
        "GET",
        "/v1/admin/providers",
        auth=admin_key,
        answers={200: ProvidersSchema},
        problems=(Forbidden,),
        summary="Every AI provider that is set up: its limits, its load, the circuits and pace of its models",
        tags=_TAGS,
    )
    def providers(self, _request: Request) -> Answer:
        """Return how the providers do."""
        return Answer(200, self.generation.providers())

    @route(
        "PUT",
        "/v1/admin/organizations/<org_id>/share",
        auth=admin_key,
        body=ShareRequest,
        answers={200: ShareSchema},
        problems=(Forbidden,),
        summary="Give an organization a share of its own: more turns, or other limits",
        tags=_TAGS,
    )
    def give_share(self, request: Request, org_id: str) -> Answer:
        """Write the share, in place of the one it had."""
        with self.db.transaction() as session:
            queries.require_organization(session, org_id=org_id)
        share = self.generation.give_share(org_id=org_id, **request.body)
        log.info("share_given", actor=request.asker.name, **share)
        return Answer(200, share)
