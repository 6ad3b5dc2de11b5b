"""What every mix-in of routes may reach for: the gateway's dependencies, by the names its class gives them."""

import time
from collections.abc import Mapping
from typing import Any

from services.gateway.authentication import KnownKeys
from services.gateway.failed_sign_ups import FailedSignUps
from services.gateway.identity_provider import IdentityProvider
from services.gateway.links import Links
from services.gateway.streams import Streams
from services.gateway.turns import Turns
from services.gateway.webhooks.deliveries import Vendor
from shared.config import Settings
from shared.database import Database
from shared.health import Health
from shared.line import Line
from shared.outside import Outside
from shared.storage import ObjectStore


class Wiring:
    """The attributes of the gateway that its routes use; the other services are called by method name."""

    db: Database
    settings: Settings
    store: ObjectStore
    health: Health
    known_keys: KnownKeys
    outside: Outside
    identity_provider: IdentityProvider | None
    vendors: Mapping[str, Vendor]
    turns: Turns
    streams: Streams
    failed_sign_ups: FailedSignUps
    image_line: Line
    credits: Any
    catalog: Any
    generation: Any
    notifications: Any


def links_now(service: Any) -> Links:
    """Return the signer of addresses for an answer made now."""
    settings: Settings = service.settings
    return Links(secret=settings.signing_secret, files_url=settings.files_public_url, now=time.time())
