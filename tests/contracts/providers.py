"""The vendors as their adapters meet them: a hostile server, dummy keys, and requests for every operation."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import PIL.Image

from services.generation.providers import Provider, Request, available
from shared.ids import new_id
from tools.hostile_providers.server import BASE_PATHS, HostileProviders

VENDORS = tuple(sorted(BASE_PATHS))
KEYS = {name: f"key-of-{name}-0123456789" for name in VENDORS}


@contextmanager
def hostile_vendors(
    *, time_scale: float = 0.01, **settings: str
) -> Iterator[tuple[HostileProviders, dict[str, Provider]]]:
    """Give the server and the providers set up for it; ``settings`` are variables besides keys and addresses."""
    with HostileProviders(time_scale=time_scale).running() as server:
        yield server, available({**environment_of(server), **settings})


def environment_of(server: HostileProviders) -> dict[str, str]:
    """Return the variables that lead every vendor's adapter to the server, and by which its webhooks are verified."""
    variables = {
        "OUTSIDE_ALLOWED": server.address.removeprefix("http://"),
        "PROVIDER_REPLICATE_WEBHOOK_SECRET": server.webhooks.replicate_secret,
        "PROVIDER_FAL_JWKS_URL": f"{server.address}/.well-known/jwks.json",
    }
    for name, key in KEYS.items():
        variables |= {
            f"PROVIDER_{name.upper()}_API_KEY": key,
            f"PROVIDER_{name.upper()}_BASE_URL": server.base_url(name),
        }
    return variables


def a_photo() -> bytes:
    """Return a JPEG of 128 x 96 pixels."""
    output = io.BytesIO()
    PIL.Image.new("RGB", (128, 96), "tan").save(output, "JPEG")
    return output.getvalue()


def a_request(provider: Provider, operation: str, **changes: Any) -> Request:
    """Return a request for the operation, with one photo unless it works on text."""
    fields: dict[str, Any] = {
        "operation_id": new_id("op"),
        "name": operation,
        "prompt": f"Please: {operation}.",
        "model": provider.model_for(operation),
        "seed": 7,
        "sources": () if operation.startswith("text.") else (a_photo(),),
    }
    return Request(**{**fields, **changes})


def keys_in(text: str) -> list[str]:
    """Return the keys that ``text`` holds, plain or in base 64."""
    return [key for key in KEYS.values() if key in text or base64.b64encode(key.encode()).decode() in text]
