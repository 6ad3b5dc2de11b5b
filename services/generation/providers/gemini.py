"""Gemini: pictures made and edited, and analyses with a schema; answered in the same request.

The SDK writes the requests; answers are read as they came, since finish reasons are younger than any SDK. A lost
answer cannot be looked up. https://ai.google.dev/api/generate-content
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx2
from google import genai
from google.genai import types

from services.generation import analyses
from services.generation.operations import AfterLostAnswer, Answered, Lost, Outcome, Refused, Running
from services.generation.pricing import Usage
from services.generation.providers import Request
from services.generation.providers.accounts import Account, account
from services.generation.providers.refusals import RETRY_AFTER_MAX_SECONDS, is_success, refusal
from services.generation.providers.results import content_type_of, decoded
from services.generation.providers.vendor import Vendor, collected
from services.generation.providers.wire import Reply

_RATIOS: Final = frozenset({"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"})
_FINISHES: Final = {
    "IMAGE_SAFETY": "moderation_output",
    "IMAGE_PROHIBITED_CONTENT": "moderation_output",
    "SAFETY": "moderation_output",
    "PROHIBITED_CONTENT": "moderation_output",
    "BLOCKLIST": "moderation_output",
    "SPII": "moderation_output",
    "IMAGE_RECITATION": "recitation",
    "RECITATION": "recitation",
    "NO_IMAGE": "no_image",
    "IMAGE_OTHER": "no_image",
}
_DONE: Final = frozenset({"STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED", ""})
_CODES: Final = {
    "RESOURCE_EXHAUSTED": "rate_limited",
    "UNAVAILABLE": "capacity",
    "DEADLINE_EXCEEDED": "provider_timeout",
}
_DELAY: Final = re.compile(r"([0-9]{1,5}(?:\.[0-9]+)?)s", re.ASCII)


class GeminiProvider(Vendor):
    """One `generateContent` an operation."""

    after_lost_answer: AfterLostAnswer = "give_up"
    calls_back = False

    def __init__(self, setup: Account) -> None:
        super().__init__(setup)
        options = types.HttpOptions(
            base_url=setup.base_url,
            api_version="v1beta",
            httpx_client=httpx2.Client(transport=self._wire.transport(httpx2), trust_env=False),
        )
        self._sdk = genai.Client(api_key=str(setup.key), vertexai=False, http_options=options)

    def submit(self, request: Request) -> Outcome:
        """Make the picture, or the analysis."""
        ready = self._ready(request)
        if isinstance(ready, Refused):
            return ready
        pictured = ready.name.startswith("image.")
        contents: Any = [ready.prompt, *(_part(source) for source in ready.sources)]
        config = _picture_config(ready) if pictured else _analysis_config(ready)
        reply = self._asked(
            lambda: self._wire.through(
                lambda: self._sdk.models.generate_content(model=ready.model, contents=contents, config=config),
                seconds=self.time_limit_seconds,
                billable=True,
                headers=self._marked(ready),
            )
        )
        if not isinstance(reply, Reply):
            return reply
        content = reply.json()
        if not is_success(reply) or not isinstance(content, dict):
            return _with_delay(refusal(reply, key=self._account.key, code_of=_code), content)
        return self._understood(
            lambda: self._costed(self._read(content, ready, pictured=pictured), ready.model, ready.parameters)
        )

    def _read(self, content: Mapping[str, Any], request: Request, *, pictured: bool) -> Outcome:
        blocked = (content.get("promptFeedback") or {}).get("blockReason")
        if blocked:
            return Refused(code="moderation_input", detail=f"prompt blocked: {blocked}")
        candidate: Mapping[str, Any] = next(iter(content.get("candidates") or ()), {})
        parts = (candidate.get("content") or {}).get("parts") or []
        reason = str(candidate.get("finishReason") or "")
        if reason in _FINISHES or (reason not in _DONE and not parts):
            detail = f"{reason}: {str(candidate.get('finishMessage') or '')[:200]}"
            return Refused(
                code=_FINISHES.get(reason, "no_image" if pictured else "result_corrupt"), detail=detail, ran=True
            )
        return self._pictured(content, parts, request) if pictured else self._analysed(content, parts, request)

    def _pictured(self, content: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], request: Request) -> Outcome:
        data = [part["inlineData"]["data"] for part in parts if part.get("inlineData") and not part.get("thought")]
        images = collected([decoded(str(each)) for each in data])
        if isinstance(images, Refused | Running):
            return Refused(code="result_corrupt", detail=getattr(images, "detail", ""), ran=True)
        return Answered(images=images, **self._took(content, request))

    def _analysed(self, content: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], request: Request) -> Outcome:
        text = "".join(str(part.get("text") or "") for part in parts if not part.get("thought"))
        try:
            result = analyses.read(text, analyses.schema_for(request.name, request.parameters))
        except ValueError as error:
            return Refused(code="result_corrupt", detail=str(error), ran=True)
        return Answered(result=result, **self._took(content, request))

    def _took(self, content: Mapping[str, Any], request: Request) -> dict[str, Any]:
        """Return model, cost and tokens of an answer."""
        counted = content.get("usageMetadata")
        usage = _usage(counted if isinstance(counted, dict) else {})
        said = str(content.get("modelVersion") or request.model)
        return {
            "model": said,
            "cost_microusd": self._cost(self._billed_as(said, asked=request.model), usage, request.parameters),
            "prompt_tokens": (counted or {}).get("promptTokenCount"),
            "completion_tokens": usage.text_output_tokens + usage.image_output_tokens if counted else None,
        }


def create(environment: Mapping[str, str]) -> GeminiProvider | None:
    """Return the provider, or None without a key."""
    setup = account(
        environment,
        "gemini",
        base_url="https://generativelanguage.googleapis.com",
        concurrency=100,
        requests_per_minute=300,
        time_limit_seconds=120,
    )
    return GeminiProvider(setup) if setup else None


def _part(source: bytes) -> types.Part:
    return types.Part.from_bytes(data=source, mime_type=content_type_of(source) or "application/octet-stream")


def _picture_config(request: Request) -> types.GenerateContentConfig:
    ratio = request.parameters.get("aspect_ratio")
    return types.GenerateContentConfig(
        response_modalities=["IMAGE"],
        seed=request.seed,
        image_config=types.ImageConfig(aspect_ratio=ratio) if ratio in _RATIOS else None,
    )


def _analysis_config(request: Request) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(
        response_mime_type="application/json",
        response_json_schema=analyses.schema_for(request.name, request.parameters),
        temperature=0,
        seed=request.seed,
    )


def _code(content: Any) -> str | None:
    error = content.get("error")
    if not isinstance(error, dict):
        return None
    reasons = {str(each.get("reason")) for each in error.get("details") or () if isinstance(each, dict)}
    if reasons & {"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED"}:
        return "auth_failed"
    if "MODEL_CAPACITY_EXHAUSTED" in reasons:
        return "capacity"
    return _CODES.get(str(error.get("status")))


def _with_delay(outcome: Refused | Lost, content: Any) -> Outcome:
    """Add for how long Google wants to be left alone: it says so in the body."""
    if isinstance(outcome, Lost) or outcome.retry_after_seconds is not None:
        return outcome
    error = content.get("error") if isinstance(content, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    said = [each.get("retryDelay") for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    delays = [float(found[1]) for each in said if (found := _DELAY.fullmatch(str(each)))]
    return replace(outcome, retry_after_seconds=min(delays[0], RETRY_AFTER_MAX_SECONDS) if delays else None)


def _usage(counted: Mapping[str, Any]) -> Usage:
    """Return the tokens by kind; what the model thought is billed as text it wrote."""
    read, written = _by_kind(counted, "promptTokensDetails"), _by_kind(counted, "candidatesTokensDetails")
    prompt, candidates = counted.get("promptTokenCount"), int(counted.get("candidatesTokenCount") or 0)
    images_read, images_made = read.get("IMAGE", 0), written.get("IMAGE", 0)
    return Usage(
        text_input_tokens=prompt - images_read if isinstance(prompt, int) else None,
        image_input_tokens=images_read,
        text_output_tokens=candidates - images_made + int(counted.get("thoughtsTokenCount") or 0),
        image_output_tokens=images_made,
    )


def _by_kind(counted: Mapping[str, Any], name: str) -> dict[str, int]:
    return {str(each.get("modality")): int(each.get("tokenCount") or 0) for each in counted.get(name) or ()}
