"""Webhooks of AI providers: who may send one, and what is made of it: a hint, told once, to ask the provider now.

Ours is the signature in the address, the vendor's that of the delivery; nothing is kept of one that lacks either. Of
what it says only that is read which the vendor calls the work.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from services.gateway.issuer_keys import IssuerKeys
from services.gateway.models import WebhookReceipt
from services.gateway.webhooks.deliveries import NotGenuine, Vendor
from services.gateway.webhooks.fal import FalWebhooks
from services.gateway.webhooks.replicate import ReplicateWebhooks
from shared.callbacks import Callbacks
from shared.config import Settings
from shared.database import Database
from shared.events import ProviderCallbackReceived
from shared.http import Auth, Principal, Request
from shared.http_problems import NO_ADDRESS
from shared.ids import is_id
from shared.outside import Outside
from shared.problems import NotFound, Unauthenticated

log = structlog.get_logger(__name__)

BODY_BYTES: Final = 1_000_000
# Vendors repeat what was not answered for two hours at most.
KEPT: Final = timedelta(days=1)


def vendors_of(settings: Settings) -> Mapping[str, Vendor]:
    """Return the vendors whose webhooks can be verified, by name: those whose secret, or keys, are set."""
    found: dict[str, Vendor] = {}
    if settings.replicate_webhook_secret:
        found["replicate"] = ReplicateWebhooks(settings.replicate_webhook_secret)
    if settings.fal_jwks_url:
        keys = IssuerKeys(settings.fal_jwks_url, listed_at=settings.fal_jwks_url, outside=Outside(anywhere=True))
        found["fal"] = FalWebhooks(keys)
    return found


@dataclass(frozen=True, kw_only=True)
class Hint:
    """That a vendor says it is done with an operation, which it calls ``work_id``."""

    provider: str
    operation_id: str
    delivery_id: str
    work_id: str | None = None


def receive(service: Any, request: Request, *, provider: str) -> None:
    """Take a webhook whose address is ours, if the vendor has sent it.

    Raises:
        Unauthenticated: it has not.
        Unavailable: that cannot be told just now; the vendor sends it again.
    """
    vendor: Vendor = service.vendors[provider]
    operation_id = request.query["op"]
    try:
        delivery_id = vendor.verify(request.headers, request.raw, now=time.time())
    except NotGenuine as error:
        log.warning("webhook_refused", provider=provider, operation_id=operation_id, reason=str(error))
        raise Unauthenticated("This is not signed by the provider, or was not signed just now.") from error
    hint = Hint(
        provider=provider, operation_id=operation_id, delivery_id=delivery_id, work_id=vendor.work_of(request.raw)
    )
    is_new = note(service.db, hint)
    log.info("webhook_taken", provider=provider, operation_id=operation_id, is_new=is_new)


def note(db: Database, hint: Hint) -> bool:
    """Hand a hint on; return False where it was handed on before, and nothing was done."""
    with db.transaction() as session:
        values = {name: value for name, value in vars(hint).items() if name != "work_id"}
        row = insert(WebhookReceipt).values(**values).on_conflict_do_nothing().returning(WebhookReceipt.provider)
        is_new = session.execute(row).scalar_one_or_none() is not None
        if is_new:
            db.publish(session, [ProviderCallbackReceived(**vars(hint))])
    return is_new


def prune(db: Database) -> None:
    """Forget deliveries that are repeated no more."""
    with db.transaction() as session:
        session.execute(sa.delete(WebhookReceipt).where(WebhookReceipt.received_at < sa.func.now() - KEPT))


def _check(service: Any, request: Request) -> Principal:
    """Return the provider that was given the address of a request.

    Raises:
        Unauthenticated: the address is none that we made.
        NotFound: nobody can verify webhooks of this provider here.
    """
    parameters = request.query_parameters()
    operation_id, signature = parameters.get("op", ""), parameters.get("sig", "")
    if not operation_id or not signature:
        raise Unauthenticated("This address is for providers that were given it whole.")
    provider = str(request.path_values["provider"])
    if provider not in service.vendors:
        raise NotFound(NO_ADDRESS)
    ours = Callbacks(public_url=service.settings.public_url, secret=service.settings.signing_secret)
    known = is_id(operation_id, prefix="op") and ours.fits(signature, provider=provider, operation_id=operation_id)
    if not known:
        raise Unauthenticated("This address is none of ours.")
    return Principal(kind="provider", id=provider, name=provider)


callback_address = Auth(
    scheme="callbackAddress",
    description="Our own signature of the operation `op`, in the address that the provider was given with its work. "
    "Besides it a delivery has to have the provider's own signature over its bytes, in the provider's own headers: "
    "of Replicate those of Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`), of FAL "
    "`X-Fal-Webhook-Request-Id`, `-User-Id`, `-Timestamp` and `-Signature`.",
    check=_check,
    sent_as={"type": "apiKey", "in": "query", "name": "sig"},
    problems=(Unauthenticated,),
    counted=False,
)
