"""The AI vendors of a stack that is started with `make up PROVIDERS=hostile`: a server of our own that misbehaves.

`bin/darkroom hostile-providers` describes it. The keys are made up, and worth nothing anywhere else.
"""

import base64
import hashlib
import json

HOSTILE = "hostile-providers"
PORT = "hostile_providers"
# Where the server has each vendor's API.
BASE_PATHS = {
    "replicate": "/replicate",
    "fal": "/fal",
    "openai": "/openai/v1",
    "gemini": "/gemini",
    "getimg": "/getimg/v1",
}
# Every vendor has something to do, and some have another to fall back to.
ROUTES = {
    "image.stage": ["replicate", "fal"],
    "image.empty_room": ["gemini", "openai"],
    "image.product_scene": ["fal", "replicate"],
    "image.headshot": ["getimg"],
    "image.close_up": ["gemini"],
    "image.sketch": ["openai"],
    "image.edit": ["openai", "gemini"],
    "vision.analyze": ["gemini", "local"],
    "vision.category": ["openai", "local"],
    "vision.edit": ["openai", "local"],
    "vision.measure": ["openai", "local"],
    "vision.plan": ["gemini", "local"],
    "vision.product": ["openai", "local"],
    "text.analyze": ["openai", "local"],
}

NAMES = frozenset(
    {
        "PROVIDER_ROUTES",
        "OUTSIDE_ALLOWED",
        "PROVIDER_FAL_JWKS_URL",
        "PROVIDER_REPLICATE_WEBHOOK_SECRET",
        *(f"PROVIDER_{name.upper()}_{what}" for name in BASE_PATHS for what in ("API_KEY", "BASE_URL")),
    }
)


def variables(*, port: int, secret: str) -> dict[str, str]:
    """The variables that lead every vendor's adapter to the server at ``port``; ``secret`` is what keys are made of."""
    place = f"127.0.0.1:{port}"
    found = {"PROVIDER_ROUTES": json.dumps(ROUTES), "OUTSIDE_ALLOWED": place, "HOSTILE_PROVIDERS_PORT": str(port)}
    for name, path in BASE_PATHS.items():
        found[f"PROVIDER_{name.upper()}_API_KEY"] = _derived(secret, name).hex()[:32]
        found[f"PROVIDER_{name.upper()}_BASE_URL"] = f"http://{place}{path}"
    webhook_key = base64.b64encode(_derived(secret, "webhook")[:24]).decode()
    signed_with = {"PROVIDER_REPLICATE_WEBHOOK_SECRET": f"whsec_{webhook_key}"}
    return {**found, **signed_with, "PROVIDER_FAL_JWKS_URL": f"http://{place}/.well-known/jwks.json"}


def _derived(secret: str, purpose: str) -> bytes:
    return hashlib.sha256(f"{purpose}:{secret}".encode()).digest()
