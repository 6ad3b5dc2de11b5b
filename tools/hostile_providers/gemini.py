"""Gemini's generateContent, for pictures and for answers with a schema. https://ai.google.dev/api/generate-content."""

import base64
import re
from typing import Any

from tools.hostile_providers.analyses import example_of
from tools.hostile_providers.webhooks import Webhooks
from tools.hostile_providers.world import Answer, Asked, HangUp, World, as_json, spoiled

_GENERATE = re.compile(r"/v1beta/models/([\w.-]+):generateContent")
_REFUSALS: dict[str, tuple[int, str, str]] = {
    "wrong_key": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "model_gone": (404, "NOT_FOUND", "models/x is not found for API version v1beta"),
    "invalid": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "error_500": (500, "INTERNAL", "An internal error has occurred."),
    "failed": (500, "INTERNAL", "An internal error has occurred."),
    "capacity": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "rate_limited": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 7s."),
}
_FINISHES = {
    "nsfw": "IMAGE_SAFETY",
    "recitation": "IMAGE_RECITATION",
    "no_image": "NO_IMAGE",
    "expired_url": "IMAGE_OTHER",
    "unknown_status": "FINISH_REASON_OF_TOMORROW",
}


def answer(world: World, _webhooks: Webhooks, asked: Asked, path: str) -> Answer:
    """Answer a request to ``path`` of the API."""
    found = _GENERATE.fullmatch(path)
    if not asked.headers.get("x-goog-api-key"):
        return _refused("wrong_key")
    if not found:
        return _refused("model_gone")
    given = asked.json()
    prompt = " ".join(part.get("text", "") for content in given["contents"] for part in content["parts"])
    script = world.script_for("gemini", prompt)
    if script == "hang_up":
        raise HangUp
    if script in _REFUSALS:
        return _refused(script)
    if script == "prompt_blocked":
        blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": found[1]}
        return as_json({**blocked, "usageMetadata": {"promptTokenCount": 100, "totalTokenCount": 100}})
    config = given.get("generationConfig", {})
    pictured = "IMAGE" in config.get("responseModalities", [])
    world.bill("gemini", asked, model=found[1], images=int(pictured))
    made = _candidate(world, config, prompt, script=script, pictured=pictured)
    did_it = f"{found[1]}-lite" if script == "other_model" else found[1]
    content = {"candidates": [made], "usageMetadata": _usage(pictured=pictured), "modelVersion": did_it}
    return spoiled(world, as_json(content), script=script)


def _refused(script: str) -> Answer:
    status, name, message = _REFUSALS[script]
    details: list[dict[str, Any]] = []
    if script == "rate_limited":
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    if script == "wrong_key":
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    return as_json({"error": {"code": status, "message": message, "status": name, "details": details}}, status=status)


def _candidate(world: World, config: dict[str, Any], prompt: str, *, script: str, pictured: bool) -> dict[str, Any]:
    if script in _FINISHES and (pictured or script not in {"no_image", "expired_url"}):
        reason = _FINISHES[script] if pictured else _FINISHES[script].removeprefix("IMAGE_")
        return {"finishReason": reason, "finishMessage": "Withheld.", "index": 0}
    if pictured:
        picture = base64.b64encode(world.picture((config.get("seed"), prompt), script=script)).decode()
        part: dict[str, Any] = {"inlineData": {"mimeType": "image/jpeg", "data": picture}}
    else:
        part = {"text": example_of(config["responseJsonSchema"], script=script)}
    return {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}


def _usage(*, pictured: bool) -> dict[str, Any]:
    made = 1120 if pictured else 200
    return {
        "promptTokenCount": 1200,
        "candidatesTokenCount": made,
        "totalTokenCount": 1200 + made,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 100},
            {"modality": "IMAGE", "tokenCount": 1100},
        ],
        "candidatesTokensDetails": [{"modality": "IMAGE" if pictured else "TEXT", "tokenCount": made}],
    }
