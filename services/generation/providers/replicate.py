"""Replicate: predictions of models by name. It is submitted, then polled; its webhook is only a hint.

The SDK writes the requests. The answers are read here: its own models fail on statuses younger than themselves.
https://replicate.com/docs/reference/http
"""

import io
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import httpx
import structlog
from replicate.client import Client

from services.generation.operations import (
    Absent,
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
from services.generation.providers.searches import Window, pages
from services.generation.providers.vendor import QUICK_SECONDS, Vendor, collected
from services.generation.providers.wire import Reply

log = structlog.get_logger(__name__)

SUBMIT_SECONDS: Final = 60.0
_WITHHELD: Final = re.compile(r"nsfw|sensitive|flagged|safety|moderat|E005", re.IGNORECASE)
_PHASES: Final = {"starting": "queued", "processing": "running"}
# Pictures are prepared and uploaded in so much time, or the prediction is not asked for.
_READY_WITHIN_SECONDS: Final = 60.0
# A lost request arrived, if it did, within these of when it was written down as sent, by their clock and ours.
_SKEW: Final = timedelta(seconds=60)
# No prediction of ours needs its source for longer; by itself a file goes after a day.
_SOURCE_NEEDED_FOR: Final = timedelta(minutes=15)
_SOURCE_LIVES_FOR: Final = timedelta(hours=25)
_ARRIVED_WITHIN: Final = timedelta(seconds=10 + _READY_WITHIN_SECONDS + SUBMIT_SECONDS) + _SKEW


class ReplicateProvider(Vendor):
    """Submits a prediction with its webhook, where there is an address for one."""

    after_lost_answer: AfterLostAnswer = "lookup"
    calls_back = True

    def __init__(self, setup: Account) -> None:
        key = {"Authorization": f"Bearer {setup.key}"}
        super().__init__(setup, headers=key)
        # It ends, unbilled, what it has not begun by then.
        limit = {"Cancel-After": f"{int(setup.time_limit_seconds)}s"}
        self._sdk = Client(
            api_token=setup.key,
            base_url=setup.base_url,
            headers=limit,
            transport=self._wire.transport(httpx),
        )

    def submit(self, request: Request) -> Submission:
        """Upload the source, then ask for the prediction: the first costs nothing and is repeated at will."""
        began = time.monotonic()
        ready = _too_many_sources(request) or self._ready(request)
        if isinstance(ready, Refused):
            return ready
        given: dict[str, Any] = {
            "prompt": request.prompt,
            "seed": request.seed,
            "output_format": "jpg",
            "aspect_ratio": request.parameters.get("aspect_ratio")
            or ("match_input_image" if request.sources else "1:1"),
        }
        for source in ready.sources:
            uploaded = self._uploaded(source, request)
            if not isinstance(uploaded, str):
                return uploaded
            given["input_image"] = uploaded
        if time.monotonic() - began > _READY_WITHIN_SECONDS:
            # Later than this, whoever looks for it may have found that it is certainly not there.
            self._forget_source(given)
            return Refused(code="connect_failed", detail="the source was not uploaded in time")
        more: dict[str, Any] = {}
        if callback := self._callback(request):
            more = {"webhook": callback, "webhook_events_filter": ["completed"]}
        reply = self._asked(
            lambda: self._wire.through(
                lambda: self._sdk.models.predictions.create(model=request.model, input=given, **more),
                seconds=SUBMIT_SECONDS,
                billable=True,
                headers=self._marked(request),
            )
        )
        taken = self._taken(reply, model=request.model)
        if isinstance(taken, Refused):
            self._forget_source(given)
        return taken

    def poll(self, external_id: str) -> Progress:
        """Ask how the prediction is doing, and bring its image home; with its end our copy of the source goes."""
        prediction_id, _, model = external_id.partition(":")
        reply = self._asked(
            lambda: self._wire.through(lambda: self._sdk.predictions.get(prediction_id), seconds=QUICK_SECONDS)
        )
        if not isinstance(reply, Reply):
            return Running(phase="running")
        if reply.status == HTTPStatus.NOT_FOUND:
            return Lost(detail="Replicate no longer knows the prediction")
        prediction = reply.json()
        if not is_success(reply) or not isinstance(prediction, dict):
            return Running(phase="running", poll_after_seconds=retry_after_seconds(reply))
        progress = self._understood(lambda: self._costed(self._progress(prediction, model=model), model))
        if not isinstance(progress, Running):
            self._forget_source(_input_of(prediction))
        return progress

    def find(self, operation_id: str, *, sent_at: datetime) -> Found:
        """Look through the predictions of that time for one with our webhook, or with a source that we uploaded for it.

        A file carries the operation's id; so it is found whether or not there was a webhook.
        """
        window = Window(since=sent_at - _SKEW, until=sent_at + _ARRIVED_WITHIN)
        may_still_come = datetime.now(UTC) < window.until
        listed = pages(self._wire, f"{self._account.base_url}/v1/predictions", window=window)
        if listed is None:
            return Lost(detail="Replicate's list of predictions could not be read")
        unsure = False
        for prediction in listed:
            whose = self._is_of(prediction, operation_id)
            if whose and is_id(prediction.get("id")):
                return Submitted(external_id=f"{prediction['id']}:{prediction.get('model') or ''}")
            unsure = unsure or whose is None
        if unsure:
            return Lost(detail="a source of a prediction could not be looked up")
        if may_still_come:
            return Lost(detail="too early to tell: the request may still be on its way")
        return Absent(detail=f"none of {len(listed)} predictions of that time is the operation's")

    def known_as(self, work_id: object, *, model: str) -> Submitted | None:
        """Return the id of the prediction with the model."""
        return Submitted(external_id=f"{work_id}:{model}") if is_id(work_id) else None

    def cancel(self, external_id: str) -> bool:
        """Cancel the prediction; what it has begun is billed."""
        prediction_id = external_id.partition(":")[0]
        reply = self._asked(
            lambda: self._wire.through(lambda: self._sdk.predictions.cancel(prediction_id), seconds=QUICK_SECONDS)
        )
        content = reply.json() if isinstance(reply, Reply) and is_success(reply) else None
        if not isinstance(content, dict) or content.get("status") not in {"canceled", "aborted"}:
            return False
        self._forget_source(_input_of(content))
        return True

    def forget_old_sources(self) -> None:
        """Delete the copies of sources that a crash or a lost answer has left there: nobody comes back to them."""
        now = datetime.now(UTC)
        window = Window(since=now - _SOURCE_LIVES_FOR, until=now - _SOURCE_NEEDED_FOR)
        listed = pages(self._wire, f"{self._account.base_url}/v1/files", window=window)
        if listed is None:
            log.warning("sources_at_provider_not_listed", provider="replicate")
        for file in listed or ():
            operation_id = _object(file.get("metadata")).get("operation_id")
            if str(operation_id).startswith("op_"):
                log.info("source_found_at_provider", provider="replicate", operation_id=operation_id)
                self._forget_source({"input_image": _object(file.get("urls")).get("get")})

    def _uploaded(self, source: bytes, request: Request) -> str | Refused | Lost:
        """Return the address of a source at Replicate, where it lives for a day unless it is deleted."""
        kind = content_type_of(source) or "application/octet-stream"
        reply = self._asked(
            lambda: self._wire.through(
                lambda: self._sdk.files.create(
                    io.BytesIO(source), content_type=kind, metadata={"operation_id": request.operation_id}
                ),
                seconds=SUBMIT_SECONDS,
            )
        )
        if isinstance(reply, Lost):
            return Refused(code="connect_failed", detail=f"upload of the source: {reply.detail}")
        if isinstance(reply, Refused):
            return reply
        content = reply.json()
        urls = content.get("urls") if isinstance(content, dict) else None
        if is_success(reply) and isinstance(urls, dict) and urls.get("get"):
            return str(urls["get"])
        outcome = refusal(reply, key=self._account.key)
        return Refused(code="provider_error", detail=outcome.detail) if isinstance(outcome, Lost) else outcome

    def _taken(self, reply: Reply | Refused | Lost, *, model: str) -> Submission:
        if not isinstance(reply, Reply):
            return reply
        content = reply.json()
        work_id = content.get("id") if is_success(reply) and isinstance(content, dict) else None
        return self.known_as(work_id, model=model) or refusal(reply, key=self._account.key, code_of=_code)

    def _progress(self, prediction: Mapping[str, Any], *, model: str) -> Progress:
        status = prediction.get("status")
        if status == "succeeded":
            return self._result(prediction, model=model)
        if status == "failed":
            error = str(prediction.get("error") or "")
            code = "moderation_output" if _WITHHELD.search(error) else "provider_error"
            return Refused(code=code, detail=f"failed: {error[:300]}", ran=True)
        if status == "canceled":
            return Refused(code="cancelled_running", detail="the prediction was cancelled", ran=True)
        if status == "aborted":
            return Refused(code="deadline_exceeded", detail="Replicate gave it up before it began")
        return Running(phase=_PHASES.get(str(status), "running"))

    def _result(self, prediction: Mapping[str, Any], *, model: str) -> Progress:
        if prediction.get("data_removed"):
            return Refused(code="result_expired", detail="Replicate has removed the result", ran=True)
        images = collected([fetched(self._account.outside, url) for url in _addresses(prediction.get("output"))])
        if isinstance(images, Refused | Running):
            return images
        said = str(prediction.get("model") or model)
        return Answered(
            images=images,
            model=said,
            cost_microusd=self._cost(self._billed_as(said, asked=model), Usage(images=max(1, len(images))), {}),
        )

    def _is_of(self, prediction: Mapping[str, Any], operation_id: str) -> bool | None:
        """Return whether a prediction is the operation's; None where that cannot be told just now."""
        if f"op={operation_id}" in str(prediction.get("webhook") or ""):
            return True
        address = self._source_of(_input_of(prediction))
        return self._was_uploaded_for(address, operation_id) if address else False

    def _source_of(self, given: Mapping[str, Any]) -> str | None:
        """Return the address of the source that we have uploaded, out of a prediction's input."""
        address = str(given.get("input_image") or "")
        ours = re.fullmatch(rf"{re.escape(self._account.base_url)}/v1/files/[\w-]+", address)
        return address if ours else None

    def _forget_source(self, given: Mapping[str, Any]) -> None:
        """Delete the copy of a source that nobody needs any more; where that fails `forget_old_sources` comes by."""
        address = self._source_of(given)
        if address is None:
            return
        reply = self._asked(lambda: self._wire.send("DELETE", address, seconds=QUICK_SECONDS))
        gone_before = isinstance(reply, Reply) and reply.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
        if not isinstance(reply, Reply) or not (is_success(reply) or gone_before):
            log.warning("source_left_at_provider", provider="replicate")

    def _was_uploaded_for(self, address: str, operation_id: str) -> bool | None:
        reply = self._asked(lambda: self._wire.send("GET", address, seconds=QUICK_SECONDS))
        content = reply.json() if isinstance(reply, Reply) else None
        if not isinstance(reply, Reply) or not isinstance(content, dict):
            return None
        if is_success(reply):
            return bool((content.get("metadata") or {}).get("operation_id") == operation_id)
        return False if reply.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE} else None


def _input_of(prediction: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(prediction.get("input"))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def create(environment: Mapping[str, str]) -> ReplicateProvider | None:
    """Return the provider, or None without a key."""
    setup = account(
        environment,
        "replicate",
        base_url="https://api.replicate.com",
        concurrency=300,
        requests_per_minute=600,
        time_limit_seconds=300,
    )
    return ReplicateProvider(setup) if setup else None


def _too_many_sources(request: Request) -> Refused | None:
    if len(request.sources) > 1:
        return Refused(code="invalid_input", detail=f"{request.model} works on one picture")
    return None


def _code(content: Any) -> str | None:
    detail = str(content.get("detail") or "")
    return "moderation_input" if _WITHHELD.search(detail) else None


def _addresses(output: Any) -> list[str]:
    """Return the addresses in a prediction's output: it is one, or a list of them."""
    found = output if isinstance(output, list) else [output]
    return [each for each in found if isinstance(each, str) and each]
