"""GetImg's API, as far as it makes pictures out of pictures. https://docs.getimg.ai/reference."""

import base64
from typing import Any

from tools.hostile_providers.webhooks import Webhooks
from tools.hostile_providers.world import Answer, Asked, HangUp, World, as_json, spoiled

_REFUSALS: dict[str, tuple[int, str, str]] = {
    "wrong_key": (401, "authentication_error", "invalid_api_key"),
    "model_gone": (404, "invalid_request_error", "model_not_found"),
    "invalid": (400, "invalid_request_error", "parameter_invalid"),
    "error_500": (500, "api_error", "internal_error"),
    "failed": (500, "api_error", "inference_failed"),
    "capacity": (503, "api_error", "overloaded"),
    "rate_limited": (429, "rate_limit_error", "too_many_requests"),
    "prompt_blocked": (400, "invalid_request_error", "content_policy_violation"),
    "nsfw": (400, "invalid_request_error", "nsfw_content_detected"),
    "recitation": (400, "invalid_request_error", "nsfw_content_detected"),
}
_BILLED_REFUSALS = {"nsfw", "recitation"}


def answer(world: World, _webhooks: Webhooks, asked: Asked, path: str) -> Answer:
    """Answer a request to ``path`` of the API."""
    if not asked.headers.get("authorization", "").startswith("Bearer "):
        return _refused("wrong_key")
    if path != "/v1/stable-diffusion-xl/image-to-image" or asked.method != "POST":
        return _refused("model_gone")
    given = asked.json()
    script = world.script_for("getimg", given["prompt"])
    if script == "hang_up":
        raise HangUp
    if script not in _REFUSALS or script in _BILLED_REFUSALS:
        world.bill("getimg", asked, model=given["model"], images=1)
    if script in _REFUSALS:
        return _refused(script)
    picture = world.picture((given.get("seed"), given["prompt"]), script=script)
    made: dict[str, Any] = {"seed": given.get("seed"), "cost": 0.0215}
    if script not in {"no_image", "expired_url"}:
        made["image"] = base64.b64encode(picture).decode()
    return spoiled(world, as_json(made), script=script)


def _refused(script: str) -> Answer:
    status, kind, code = _REFUSALS[script]
    more = {"Retry_After": "7"} if script == "rate_limited" else {}
    return as_json({"error": {"type": kind, "code": code, "message": "No."}}, status=status, **more)
