"""FAL: its queue. It is submitted, then polled; its webhook is only a hint.

The queue keeps no list of what it was asked, so that a lost answer cannot be looked up: its webhook alone tells of it.
https://docs.fal.ai/model-apis/model-endpoints/queue
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from services.generation.operations import (
    AfterLostAnswer,
    Answered,
    Found,
    Lost,
    Progress,
    Refused,
    Running,
    Submission,
    Submitted,
)
from services.generation.pricing import Usage
from services.generation.providers import Request
from services.generation.providers.accounts import Account, account
from services.generation.providers.refusals import is_id, is_success, refusal, retry_after_seconds
from services.generation.providers.results import content_type_of, fetched
from services.generation.providers.vendor import QUICK_SECONDS, Vendor, collected, data_url
from services.generation.providers.wire import Reply

SUBMIT_SECONDS: Final = 60.0
_PHASES: Final = {"IN_QUEUE": "queued", "IN_PROGRESS": "running"}
# Else it has another application do what this one cannot just now, and no answer says so. Two names are in use for it.
_THIS_MODEL: Final = {"X-Fal-Disable-Fallbacks": "true", "X-App-Fal-Disable-Fallback": "true"}
_ERROR_TYPES: Final = {
    "content_policy_violation": "moderation_input",
    "request_timeout": "provider_timeout",
    "startup_timeout": "provider_timeout",
    "runner_scheduling_failure": "capacity",
    "client_cancelled": "cancelled_running",
    "image_load_error": "invalid_input",
    "no_media_generated": "no_image",
}


class FalProvider(Vendor):
    """Puts operations into the queue of an application; the external id names both."""

    after_lost_answer: AfterLostAnswer = "give_up"
    calls_back = True

    def __init__(self, setup: Account) -> None:
        super().__init__(setup, headers={"Authorization": f"Key {setup.key}"})

    def submit(self, request: Request) -> Submission:
        """Put the operation into the queue, its source inside the request."""
        ready = _unfit(request) or self._ready(request)
        if isinstance(ready, Refused):
            return ready
        (source,) = ready.sources
        given: dict[str, Any] = {
            "prompt": request.prompt,
            "seed": request.seed,
            "num_images": 1,
            "output_format": "jpeg",
            "image_url": data_url(source),
        }
        if ratio := request.parameters.get("aspect_ratio"):
            given["aspect_ratio"] = ratio
        callback = self._callback(request)
        query = f"?{urlencode({'fal_webhook': callback})}" if callback else ""
        # It ends, unbilled, what it has not begun by then.
        limit = {"X-Fal-Request-Timeout": str(int(self.time_limit_seconds))}
        reply = self._asked(
            lambda: self._wire.send(
                "POST",
                f"{self._account.base_url}/{request.model}{query}",
                json=given,
                headers={**self._marked(request), **_THIS_MODEL, **limit},
                seconds=SUBMIT_SECONDS,
                billable=True,
            )
        )
        outcome = self._taken(reply, model=request.model)
        return replace(outcome, may_call_back=bool(callback)) if isinstance(outcome, Lost) else outcome

    def poll(self, external_id: str) -> Progress:
        """Ask for the state; where it is done, for the result."""
        reply = self._asked(lambda: self._get(external_id, "/status"))
        if not isinstance(reply, Reply):
            return Running(phase="running")
        if reply.status == HTTPStatus.NOT_FOUND:
            return Lost(detail="FAL no longer knows the request")
        content = reply.json()
        if not is_success(reply) or not isinstance(content, dict):
            return Running(phase="running", poll_after_seconds=retry_after_seconds(reply))
        if content.get("status") != "COMPLETED":
            place = content.get("queue_position")
            phase = _PHASES.get(str(content.get("status")), "running")
            return Running(phase=phase, queue_position=place if isinstance(place, int) else None)
        return self._understood(lambda: self._costed(self._result(external_id), external_id.partition(":")[0]))

    def find(self, _operation_id: str, *, sent_at: datetime) -> Found:  # noqa: ARG002  the protocol's signature
        """Tell that it cannot be told."""
        return Lost(detail="FAL's queue cannot be searched")

    def known_as(self, work_id: object, *, model: str) -> Submitted | None:
        """Return the application with the id of the request."""
        return Submitted(external_id=f"{model}:{work_id}") if is_id(work_id) else None

    def cancel(self, external_id: str) -> bool:
        """Take it out of the queue, or stop it; what is done already is refused and billed."""
        reply = self._asked(lambda: self._wire.send("PUT", self._place(external_id, "/cancel"), seconds=QUICK_SECONDS))
        return isinstance(reply, Reply) and is_success(reply)

    def _taken(self, reply: Reply | Refused | Lost, *, model: str) -> Submission:
        if not isinstance(reply, Reply):
            return reply
        content = reply.json()
        work_id = content.get("request_id") if is_success(reply) and isinstance(content, dict) else None
        return self.known_as(work_id, model=model) or refusal(reply, key=self._account.key, code_of=_code)

    def _result(self, external_id: str) -> Progress:
        reply = self._asked(lambda: self._get(external_id, ""))
        if not isinstance(reply, Reply):
            return Running(phase="collecting")
        if not is_success(reply):
            return _ended(refusal(reply, key=self._account.key, code_of=_code))
        content = reply.json()
        if not isinstance(content, dict):
            return Running(phase="collecting")
        if any(content.get("has_nsfw_concepts") or ()):
            return Refused(code="moderation_output", detail="has_nsfw_concepts", ran=True)
        images = collected([fetched(self._account.outside, url) for url in _addresses(content.get("images"))])
        if isinstance(images, Refused | Running):
            return images
        model = external_id.partition(":")[0]
        return Answered(
            images=images,
            model=model,
            cost_microusd=self._cost(model, Usage(images=max(1, len(images))), {}),
        )

    def _get(self, external_id: str, what: str) -> Reply:
        return self._wire.send("GET", self._place(external_id, what), seconds=QUICK_SECONDS)

    def _place(self, external_id: str, what: str) -> str:
        """Return a request's address: made by us, never taken from an answer."""
        application, _, request_id = external_id.partition(":")
        owner, name = application.split("/")[:2]
        return f"{self._account.base_url}/{owner}/{name}/requests/{request_id}{what}"


def create(environment: Mapping[str, str]) -> FalProvider | None:
    """Return the provider, or None without a key."""
    setup = account(
        environment,
        "fal",
        base_url="https://queue.fal.run",
        concurrency=300,
        requests_per_minute=None,
        time_limit_seconds=300,
    )
    return FalProvider(setup) if setup else None


def _unfit(request: Request) -> Refused | None:
    if len(request.sources) != 1 or content_type_of(request.sources[0]) is None:
        return Refused(code="invalid_input", detail=f"{request.model} works on one JPEG, PNG or WebP")
    return None


def _code(content: Any) -> str | None:
    """Return the code of an error in FAL's two formats: a flat one of the platform, a list of the model's."""
    detail = content.get("detail")
    types = [content.get("error_type")]
    if isinstance(detail, list):
        types += [each.get("type") for each in detail if isinstance(each, dict)]
    known = [_ERROR_TYPES[kind] for kind in types if kind in _ERROR_TYPES]
    if known:
        return known[0]
    return "auth_failed" if "exhausted balance" in str(detail).lower() else None


def _ended(outcome: Refused | Lost) -> Progress:
    """Return what an error means that stands where the result should: the model ran, unless it refused the input."""
    if isinstance(outcome, Lost) or outcome.code in {"auth_failed", "rate_limited"}:
        return Running(phase="collecting", poll_after_seconds=getattr(outcome, "retry_after_seconds", None))
    if outcome.code == "model_retired":
        return Refused(code="result_expired", detail=outcome.detail, ran=True)
    ran = outcome.code not in {"invalid_input", "moderation_input", "capacity"}
    return Refused(code=outcome.code, detail=outcome.detail, ran=ran)


def _addresses(images: Any) -> list[str]:
    found = images if isinstance(images, list) else []
    return [str(each["url"]) for each in found if isinstance(each, dict) and each.get("url")]
