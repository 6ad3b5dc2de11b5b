"""The route for webhooks of AI providers."""

from services.gateway import callbacks
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.webhooks_in import CallbackQuery
from shared.http import Answer, Request, route


class WebhookInRoutes(Wiring):
    """What AI providers tell us."""

    @route(
        "POST",
        "/v1/webhooks-in/<provider>",
        auth=callbacks.callback_address,
        query=CallbackQuery,
        reads=("application/json",),
        max_body_bytes=callbacks.BODY_BYTES,
        answers={204: None},
        summary="For AI providers: tell that an operation is done",
        description="It is a hint, on which the provider is asked; what the body says is not believed. A delivery "
        "that comes again does nothing. One that is not signed by the provider, or was signed more than 300 s ago "
        "or ahead, is refused, and nothing is kept of it.",
        tags=("providers",),
    )
    def provider_webhook(self, request: Request, provider: str) -> Answer:
        """Verify a delivery and hand the hint on."""
        callbacks.receive(self, request, provider=provider)
        return Answer(204)
