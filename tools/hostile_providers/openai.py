"""OpenAI's API: images made and edited, responses with a schema. https://developers.openai.com/api/reference."""

import base64
from typing import Any

from tools.hostile_providers.analyses import example_of
from tools.hostile_providers.webhooks import Webhooks
from tools.hostile_providers.world import Answer, Asked, HangUp, World, as_json, spoiled

_REFUSALS: dict[str, tuple[int, str, str]] = {
    "wrong_key": (401, "invalid_request_error", "invalid_api_key"),
    "model_gone": (404, "invalid_request_error", "model_not_found"),
    "invalid": (400, "invalid_request_error", "invalid_value"),
    "error_500": (500, "server_error", "server_error"),
    "failed": (500, "server_error", "server_error"),
    "capacity": (503, "server_error", "overloaded"),
    "rate_limited": (429, "requests", "rate_limit_exceeded"),
    "prompt_blocked": (400, "image_generation_user_error", "moderation_blocked"),
    "nsfw": (400, "image_generation_user_error", "moderation_blocked"),
    "recitation": (400, "image_generation_user_error", "moderation_blocked"),
}


def answer(world: World, _webhooks: Webhooks, asked: Asked, path: str) -> Answer:
    """Answer a request to ``path`` of the API."""
    if not asked.headers.get("authorization", "").startswith("Bearer "):
        return _refused("wrong_key")
    if path == "/v1/images/edits":
        return _pictured(world, asked, asked.form()[0])
    if path == "/v1/images/generations":
        return _pictured(world, asked, asked.json())
    if path == "/v1/responses":
        return _responded(world, asked)
    return _refused("model_gone")


def _refused(script: str) -> Answer:
    status, kind, code = _REFUSALS[script]
    more = {"Retry_After": "7"} if script == "rate_limited" else {}
    message = f"No: {code}. (safety_violations=[sexual])" if code == "moderation_blocked" else f"No: {code}."
    return as_json({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status, **more)


def _pictured(world: World, asked: Asked, given: dict[str, Any]) -> Answer:
    script = world.script_for("openai", given["prompt"])
    if script == "hang_up":
        raise HangUp
    if script in _REFUSALS:
        return _refused(script)
    world.bill("openai", asked, model=given["model"], images=1)
    picture = world.picture((asked.operation_id, given["prompt"]), script=script)
    data = [] if script in {"no_image", "expired_url"} else [{"b64_json": base64.b64encode(picture).decode()}]
    made = {
        "created": 1_790_000_000,
        "data": data,
        "output_format": "jpeg",
        "quality": given.get("quality", "medium"),
        "size": "1024x1024",
        "usage": {
            "input_tokens": 1600,
            "input_tokens_details": {"image_tokens": 1500, "text_tokens": 100},
            "output_tokens": 1770,
            "total_tokens": 3370,
        },
    }
    return spoiled(world, as_json(made), script=script)


def _responded(world: World, asked: Asked) -> Answer:
    given = asked.json()
    prompt = " ".join(part.get("text", "") for message in given["input"] for part in message["content"])
    script = world.script_for("openai", prompt)
    if script == "hang_up":
        raise HangUp
    if script in _REFUSALS and script not in {"nsfw", "recitation"}:
        return _refused(script)
    world.bill("openai", asked, model=given["model"], images=0)
    said: dict[str, Any] = {"type": "output_text", "text": example_of(given["text"]["format"]["schema"], script=script)}
    if script in {"nsfw", "recitation"}:
        said = {"type": "refusal", "refusal": "I cannot help with that."}
    made = {
        "id": world.new_id("resp_"),
        "object": "response",
        "status": "completed",
        "model": f"{given['model']}-lite" if script == "other_model" else given["model"],
        "output": [{"type": "message", "role": "assistant", "content": [said]}],
        "usage": {"input_tokens": 1800, "output_tokens": 200, "total_tokens": 2000},
    }
    return spoiled(world, as_json(made), script=script)
