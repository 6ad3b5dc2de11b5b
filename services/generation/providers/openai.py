"""OpenAI: pictures made and edited, and analyses with a schema; answered in the same request.

The SDK writes the requests and its retries are off; answers are read as they came. A response that was lost cannot be
looked up without its id. https://developers.openai.com/api/reference
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
from openai import OpenAI

from services.generation import analyses
from services.generation.operations import AfterLostAnswer, Answered, Outcome, Refused, Running
from services.generation.pricing import Usage
from services.generation.providers import Request
from services.generation.providers.accounts import Account, account
from services.generation.providers.refusals import is_success, refusal
from services.generation.providers.results import content_type_of, decoded
from services.generation.providers.vendor import Vendor, collected, data_url
from services.generation.providers.wire import Reply

_SIZES: Final = {"1:1": "1024x1024"}
_QUALITIES: Final = frozenset({"low", "medium", "high"})
_CODES: Final = {
    "moderation_blocked": "moderation_input",
    "content_policy_violation": "moderation_input",
    "insufficient_quota": "auth_failed",
    "billing_hard_limit_reached": "auth_failed",
    "model_not_found": "model_retired",
    "rate_limit_exceeded": "rate_limited",
}


class OpenAIProvider(Vendor):
    """Edits where there are sources, generates where there are none; everything else is an analysis."""

    after_lost_answer: AfterLostAnswer = "give_up"
    calls_back = False

    def __init__(self, setup: Account) -> None:
        super().__init__(setup)
        self._sdk = OpenAI(
            api_key=setup.key,
            base_url=setup.base_url,
            max_retries=0,
            organization=None,
            project=None,
            http_client=httpx2.Client(transport=self._wire.transport(httpx2), trust_env=False),
        )

    def submit(self, request: Request) -> Outcome:
        """Make the picture, or the analysis."""
        ready = self._ready(request)
        if isinstance(ready, Refused):
            return ready
        pictured = ready.name.startswith("image.")
        ask = self._picture if pictured else self._analysis
        reply = self._asked(
            lambda: self._wire.through(
                lambda: ask(ready),
                seconds=self.time_limit_seconds,
                billable=True,
                headers=self._marked(ready),
            )
        )
        if not isinstance(reply, Reply):
            return reply
        content = reply.json()
        if not is_success(reply) or not isinstance(content, dict):
            return refusal(reply, key=self._account.key, code_of=_code)
        read = self._pictured if pictured else self._analysed
        return self._understood(lambda: self._costed(read(content, ready), ready.model, ready.parameters))

    def _picture(self, request: Request) -> object:
        quality = request.parameters.get("quality")
        given: dict[str, Any] = {
            "model": request.model,
            "prompt": request.prompt,
            "n": 1,
            "size": _size(request.parameters.get("aspect_ratio")),
            "quality": quality if quality in _QUALITIES else "medium",
            "output_format": "jpeg",
        }
        if not request.sources:
            return self._sdk.images.with_raw_response.generate(**given)
        files = [
            (f"source{number}", source, content_type_of(source) or "application/octet-stream")
            for number, source in enumerate(request.sources)
        ]
        return self._sdk.images.with_raw_response.edit(image=files, **given)

    def _analysis(self, request: Request) -> object:
        content: list[dict[str, Any]] = [{"type": "input_text", "text": request.prompt}]
        content += [
            {"type": "input_image", "image_url": data_url(source), "detail": "auto"} for source in request.sources
        ]
        schema = analyses.schema_for(request.name, request.parameters)
        form = {"type": "json_schema", "name": "analysis", "schema": schema, "strict": True}
        inputs: Any = [{"role": "user", "content": content}]
        text: Any = {"format": form}
        return self._sdk.responses.with_raw_response.create(model=request.model, input=inputs, text=text, store=False)

    def _pictured(self, content: Mapping[str, Any], request: Request) -> Outcome:
        data = [each for each in content.get("data") or () if isinstance(each, dict) and each.get("b64_json")]
        images = collected([decoded(str(each["b64_json"])) for each in data])
        if isinstance(images, Refused | Running):
            return Refused(code="result_corrupt", detail=getattr(images, "detail", ""), ran=True)
        usage = _image_usage(content.get("usage"))
        return Answered(
            images=images,
            model=request.model,
            cost_microusd=self._cost(request.model, usage, request.parameters),
            prompt_tokens=_whole(content.get("usage"), "input_tokens"),
            completion_tokens=_whole(content.get("usage"), "output_tokens"),
        )

    def _analysed(self, content: Mapping[str, Any], request: Request) -> Outcome:
        parts = [
            part
            for item in content.get("output") or ()
            if item.get("type") == "message"
            for part in item.get("content") or ()
        ]
        refused = [part for part in parts if part.get("type") == "refusal"]
        if refused or (content.get("incomplete_details") or {}).get("reason") == "content_filter":
            return Refused(code="moderation_output", detail="the model refused", ran=True)
        text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text")
        try:
            result = analyses.read(text, analyses.schema_for(request.name, request.parameters))
        except ValueError as error:
            return Refused(code="result_corrupt", detail=str(error), ran=True)
        usage = content.get("usage")
        read, written = _whole(usage, "input_tokens"), _whole(usage, "output_tokens")
        took = Usage(text_input_tokens=read, text_output_tokens=written or 0)
        said = str(content.get("model") or request.model)
        return Answered(
            result=result,
            model=said,
            cost_microusd=self._cost(self._billed_as(said, asked=request.model), took, request.parameters),
            prompt_tokens=read,
            completion_tokens=written,
        )


def create(environment: Mapping[str, str]) -> OpenAIProvider | None:
    """Return the provider, or None without a key."""
    setup = account(
        environment,
        "openai",
        base_url="https://api.openai.com/v1",
        concurrency=50,
        requests_per_minute=100,
        time_limit_seconds=120,
    )
    return OpenAIProvider(setup) if setup else None


def _size(aspect_ratio: Any) -> str:
    """Return the nearest of the sizes every model makes; without a wish, what fits the source."""
    if not aspect_ratio:
        return "auto"
    width, _, height = str(aspect_ratio).partition(":")
    if not (width.isdigit() and height.isdigit() and int(height)) or width == height:
        return _SIZES["1:1"]
    return "1536x1024" if int(width) > int(height) else "1024x1536"


def _code(content: Any) -> str | None:
    error = content.get("error")
    return _CODES.get(str(error.get("code"))) if isinstance(error, dict) else None


def _image_usage(usage: Any) -> Usage:
    """Return the tokens by kind; output without details is all image."""
    if not isinstance(usage, dict):
        return Usage()
    inputs, outputs = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    written = int(outputs.get("text_tokens") or 0)
    images = outputs.get("image_tokens")
    return Usage(
        text_input_tokens=_whole(inputs, "text_tokens"),
        image_input_tokens=int(inputs.get("image_tokens") or 0),
        text_output_tokens=written,
        image_output_tokens=int(images if images is not None else usage.get("output_tokens") or 0),
    )


def _whole(usage: Any, name: str) -> int | None:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) else None
