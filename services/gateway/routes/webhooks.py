"""Routes of webhook endpoints: where an organization's events are sent to.

For owners: an endpoint carries everything that happens out of the organization, and goes on when who made it has left.
"""

from typing import Any

from services.gateway.authentication import api_key
from services.gateway.conditions import changed_as_seen
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.permissions import MANAGE
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.pages import PageQuery
from services.gateway.schemas.webhooks import (
    DeliveriesQuery,
    DeliveriesSchema,
    DeliverySchema,
    EndpointChangeRequest,
    EndpointRequest,
    EndpointSchema,
    EndpointsSchema,
    NewEndpointSchema,
    ReplayRequest,
    ReplaySchema,
    SecretRequest,
)
from shared.http import Answer, Request, route
from shared.ids import is_id
from shared.outside_urls import UrlRefused
from shared.problems import Conflict, Forbidden, LimitExceeded, NotFound

_TAGS = ("webhooks",)
_ONCE = {"Cache-Control": "no-store"}


def _endpoint(service: Any, request: Request, endpoint_id: str) -> dict[str, Any]:
    require_endpoint_id(endpoint_id)
    found: dict[str, Any] = service.notifications.endpoint(org_id=request.org_id, endpoint_id=endpoint_id)
    return found


def require_endpoint_id(endpoint_id: str) -> str:
    """Return what is the id of a webhook endpoint.

    Raises:
        NotFound: it is none.
    """
    if not is_id(endpoint_id, prefix="whe"):
        raise NotFound("There is no such webhook endpoint.")
    return endpoint_id


class WebhookRoutes(Wiring):
    """Where events are sent to."""

    @route(
        "POST",
        "/v1/webhook-endpoints",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="whe", keeps_answer=False),
        body=EndpointRequest,
        answers={201: NewEndpointSchema},
        problems=(Forbidden, UrlRefused, Conflict, LimitExceeded, RequestInProgress, IdempotencyKeyReused),
        summary="Have events sent to an address; its secret is shown this once",
        description="Signed after Standard Webhooks 1.0, at least once: go by `webhook-id`. What test keys have made "
        "comes too, with `livemode: false` in its `data`.",
        tags=_TAGS,
    )
    def create_webhook_endpoint(self, request: Request) -> Answer:
        """Make an endpoint; what is sent again is answered alike."""
        asker = request.asker
        made = self.notifications.create_endpoint(
            org_id=request.org_id,
            endpoint_id=request.claim.resource_id,
            created_by=asker.user_id or asker.id,
            **request.body,
        )
        return Answer(201, made, _ONCE)

    @route(
        "GET",
        "/v1/webhook-endpoints",
        auth=api_key,
        needs=MANAGE,
        query=PageQuery,
        answers={200: EndpointsSchema},
        problems=(Forbidden,),
        summary="List webhook endpoints, oldest first",
        tags=_TAGS,
    )
    def webhook_endpoints(self, request: Request) -> Answer:
        """Return a page of endpoints."""
        return Answer(200, self.notifications.endpoints(org_id=request.org_id, **request.query))

    @route(
        "GET",
        "/v1/webhook-endpoints/<endpoint_id>",
        auth=api_key,
        needs=MANAGE,
        answers={200: EndpointSchema},
        problems=(Forbidden,),
        summary="Look a webhook endpoint up",
        tags=_TAGS,
    )
    def webhook_endpoint(self, request: Request, endpoint_id: str) -> Answer:
        """Return one endpoint."""
        return Answer(200, _endpoint(self, request, endpoint_id))

    @route(
        "PATCH",
        "/v1/webhook-endpoints/<endpoint_id>",
        auth=api_key,
        needs=MANAGE,
        body=EndpointChangeRequest,
        current=(EndpointSchema, _endpoint),
        answers={200: EndpointSchema},
        problems=(Forbidden, UrlRefused),
        summary="Change a webhook endpoint, or disable or enable it",
        tags=_TAGS,
    )
    def change_webhook_endpoint(self, request: Request, endpoint_id: str) -> Answer:
        """Change what is given."""
        asked = {"org_id": request.org_id, "endpoint_id": require_endpoint_id(endpoint_id), **request.body}
        changed = changed_as_seen(
            request,
            EndpointSchema,
            lambda: _endpoint(self, request, endpoint_id),
            self.notifications.change_endpoint,
            asked,
        )
        return Answer(200, changed)

    @route(
        "DELETE",
        "/v1/webhook-endpoints/<endpoint_id>",
        auth=api_key,
        needs=MANAGE,
        current=(EndpointSchema, _endpoint),
        answers={204: None},
        problems=(Forbidden,),
        summary="Delete a webhook endpoint, with what is on its way",
        tags=_TAGS,
    )
    def delete_webhook_endpoint(self, request: Request, endpoint_id: str) -> Answer:
        """Delete it."""
        require_endpoint_id(endpoint_id)
        self.notifications.delete_endpoint(org_id=request.org_id, endpoint_id=endpoint_id)
        return Answer(204)

    @route(
        "POST",
        "/v1/webhook-endpoints/<endpoint_id>/test",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="tst"),
        answers={202: DeliverySchema},
        problems=(Forbidden, Conflict, LimitExceeded, RequestInProgress, IdempotencyKeyReused),
        summary="Send a webhook endpoint an event of the type WebhookTest",
        tags=_TAGS,
    )
    def test_webhook_endpoint(self, request: Request, endpoint_id: str) -> Answer:
        """Send a test."""
        require_endpoint_id(endpoint_id)
        return Answer(202, self.notifications.test_endpoint(org_id=request.org_id, endpoint_id=endpoint_id))

    @route(
        "POST",
        "/v1/webhook-endpoints/<endpoint_id>/rotate",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="rot", keeps_answer=False),
        body=SecretRequest,
        answers={200: NewEndpointSchema},
        problems=(Forbidden, Conflict, RequestInProgress, IdempotencyKeyReused),
        summary="Give a webhook endpoint another secret; for a while both sign",
        description="Shown this once. Of the secrets before only the last still signs, for `overlap_seconds`.",
        tags=_TAGS,
    )
    def rotate_webhook_secret(self, request: Request, endpoint_id: str) -> Answer:
        """Make another secret; what is sent again is answered alike."""
        require_endpoint_id(endpoint_id)
        rotated = self.notifications.rotate_endpoint_secret(
            org_id=request.org_id, endpoint_id=endpoint_id, rotation_id=request.claim.resource_id, **request.body
        )
        return Answer(200, rotated, _ONCE)

    @route(
        "POST",
        "/v1/webhook-endpoints/<endpoint_id>/replay",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="rpl"),
        body=ReplayRequest,
        answers={202: ReplaySchema},
        problems=(Forbidden, Conflict, LimitExceeded, RequestInProgress, IdempotencyKeyReused),
        summary="Send a webhook endpoint events of the log once more",
        tags=_TAGS,
    )
    def replay_webhooks(self, request: Request, endpoint_id: str) -> Answer:
        """Send them again, under their ids."""
        require_endpoint_id(endpoint_id)
        return Answer(202, self.notifications.replay(org_id=request.org_id, endpoint_id=endpoint_id, **request.body))

    @route(
        "GET",
        "/v1/webhook-endpoints/<endpoint_id>/deliveries",
        auth=api_key,
        needs=MANAGE,
        query=DeliveriesQuery,
        answers={200: DeliveriesSchema},
        problems=(Forbidden,),
        summary="What is or was on its way to a webhook endpoint, newest first, with each attempt",
        tags=_TAGS,
    )
    def webhook_deliveries(self, request: Request, endpoint_id: str) -> Answer:
        """Return a page of deliveries."""
        require_endpoint_id(endpoint_id)
        return Answer(
            200, self.notifications.deliveries(org_id=request.org_id, endpoint_id=endpoint_id, **request.query)
        )
