"""GetImg: pictures out of pictures, answered in the same request. It knows no way to look a lost answer up.

https://docs.getimg.ai/reference
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from services.generation.operations import AfterLostAnswer, Answered, MadeImage, Outcome, Refused
from services.generation.pricing import Usage
from services.generation.providers import Request
from services.generation.providers.accounts import Account, account
from services.generation.providers.refusals import is_success, refusal
from services.generation.providers.results import decoded
from services.generation.providers.vendor import Vendor
from services.generation.providers.wire import Reply

# What the model was trained on; larger pictures are refused.
SIDE_MAX: Final = 1024
STRENGTH: Final = 0.55
_BLOCKED: Final = {"content_policy_violation": "moderation_input", "nsfw_content_detected": "moderation_output"}


class GetImgProvider(Vendor):
    """Sends the picture and the prompt, and waits."""

    after_lost_answer: AfterLostAnswer = "give_up"
    calls_back = False

    def __init__(self, setup: Account) -> None:
        super().__init__(setup, headers={"Authorization": f"Bearer {setup.key}"})

    def submit(self, request: Request) -> Outcome:
        """Make the picture; the answer says what it cost."""
        if len(request.sources) != 1:
            return Refused(code="invalid_input", detail=f"{request.model} works on one picture")
        # What it makes has the frame of what it is given.
        ratio = request.parameters.get("aspect_ratio") if request.name == "image.headshot" else None
        ready = self._ready(request, side=SIDE_MAX, aspect_ratio=ratio)
        if isinstance(ready, Refused):
            return ready
        given = {
            "model": request.model,
            "prompt": request.prompt,
            "image": base64.b64encode(ready.sources[0]).decode(),
            "strength": float(request.parameters.get("strength", STRENGTH)),
            "seed": request.seed,
            "output_format": "jpeg",
            "response_format": "b64",
        }
        reply = self._asked(
            lambda: self._wire.send(
                "POST",
                f"{self._account.base_url}/stable-diffusion-xl/image-to-image",
                json=given,
                headers=self._marked(request),
                seconds=self.time_limit_seconds,
                billable=True,
            )
        )
        if not isinstance(reply, Reply):
            return reply
        return self._understood(lambda: self._costed(self._read(reply, request), request.model, request.parameters))

    def _read(self, reply: Reply, request: Request) -> Outcome:
        content = reply.json()
        if not is_success(reply) or not isinstance(content, dict):
            outcome = refusal(reply, key=self._account.key, code_of=_code)
            withheld = isinstance(outcome, Refused) and outcome.code == "moderation_output"
            return Refused(code="moderation_output", detail=outcome.detail, ran=True) if withheld else outcome
        made = decoded(str(content["image"])) if content.get("image") else None
        if isinstance(made, Refused):
            return made
        return Answered(
            images=(made,) if isinstance(made, MadeImage) else (),
            model=request.model,
            cost_microusd=self._cost(request.model, _usage(content), request.parameters),
        )


def create(environment: Mapping[str, str]) -> GetImgProvider | None:
    """Return the provider, or None without a key."""
    setup = account(
        environment,
        "getimg",
        base_url="https://api.getimg.ai/v1",
        concurrency=20,
        requests_per_minute=60,
        time_limit_seconds=90,
    )
    return GetImgProvider(setup) if setup else None


def _code(content: Any) -> str | None:
    error = content.get("error")
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return "auth_failed" if code == "quota_exceeded" else _BLOCKED.get(code)


def _usage(content: Mapping[str, Any]) -> Usage:
    cost = content.get("cost")
    known = isinstance(cost, int | float) and cost > 0
    return Usage(images=1, reported_microusd=round(cost * 1_000_000) if known else None)  # type: ignore[operator]  # known
