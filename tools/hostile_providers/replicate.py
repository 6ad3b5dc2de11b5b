"""Replicate's HTTP API: files, predictions of named models, polling, cancelling.

https://replicate.com/docs/reference/http
"""

import hashlib
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.hostile_providers.webhooks import Webhooks, webhook_of
from tools.hostile_providers.world import Answer, Asked, HangUp, World, as_json, html, spoiled

_CREATE = re.compile(r"/v1/models/([\w-]+/[\w.-]+)/predictions")
_ONE = re.compile(r"/v1/predictions/(\w+)(/cancel)?")
_REFUSALS = {
    "wrong_key": (401, "Unauthenticated", "You did not pass a valid authentication token"),
    "model_gone": (404, "Not found", "The requested resource could not be found."),
    "invalid": (422, "Input validation failed", "- input.prompt: expected string"),
    "error_500": (500, "Internal server error", "Something went wrong."),
    "capacity": (503, "Service unavailable", "The service is overloaded."),
    "rate_limited": (429, "Too many requests", "Request was throttled."),
    "prompt_blocked": (422, "Input validation failed", "The input was flagged as sensitive. (E005)"),
}
_ENDINGS = {
    "failed": ("failed", "Prediction failed: CUDA out of memory"),
    "nsfw": ("failed", "NSFW content detected. Try running it again, or try a different prompt."),
    "recitation": ("failed", "The output was flagged as sensitive. (E005)"),
    "aborted": ("aborted", "Prediction was aborted before it started"),
    "unknown_status": ("hibernating", None),
}


def answer(world: World, webhooks: Webhooks, asked: Asked, path: str) -> Answer:
    """Answer a request to ``path`` of the API."""
    if path.startswith("/delivery/"):
        return _delivered(world, path.rpartition("/")[2])
    if not asked.headers.get("authorization", "").startswith("Bearer "):
        return _refused("wrong_key")
    if found := _CREATE.fullmatch(path):
        return _create(world, webhooks, asked, model=found[1])
    if path == "/v1/files":
        return _file(world, asked) if asked.method == "POST" else _listed(list(world.files.values()))
    if path.startswith("/v1/files/"):
        return _file_of(world, asked, path.rpartition("/")[2])
    return _prediction(world, path)


def _prediction(world: World, path: str) -> Answer:
    if path == "/v1/predictions":
        return _listed([_now(world, job) for job in world.jobs.values() if "prediction" in job])
    found = _ONE.fullmatch(path)
    if not found or found[1] not in world.jobs:
        return _refused("model_gone")
    return _cancelled(world, found[1]) if found[2] else as_json(_now(world, world.jobs[found[1]]))


def _listed(things: list[dict[str, Any]]) -> Answer:
    return as_json({"previous": None, "next": None, "results": things[::-1]})


def _file_of(world: World, asked: Asked, file_id: str) -> Answer:
    if file_id not in world.files:
        return _refused("model_gone")
    if asked.method == "DELETE":
        del world.files[file_id]
        return Answer(status=204)
    return as_json(world.files[file_id])


def _refused(script: str) -> Answer:
    status, title, detail = _REFUSALS[script]
    more = {"Retry_After": "7"} if script == "rate_limited" else {}
    return as_json({"title": title, "detail": detail, "status": status}, status=status, **more)


def _file(world: World, asked: Asked) -> Answer:
    fields, ((_, content, kind), *_) = asked.form()
    file_id = world.new_id("file")
    world.files[file_id] = {
        "id": file_id,
        "name": "file",
        "content_type": kind,
        "size": len(content),
        "etag": file_id,
        "checksums": {"sha256": hashlib.sha256(content).hexdigest()},
        "metadata": json.loads(fields.get("metadata", "{}")),
        "created_at": datetime.now(UTC).isoformat(),
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        "urls": {"get": f"{asked.address}/replicate/v1/files/{file_id}"},
    }
    return as_json(world.files[file_id], status=201)


def _create(world: World, webhooks: Webhooks, asked: Asked, *, model: str) -> Answer:
    content = asked.json()
    given = content["input"]
    script = world.script_for("replicate", given["prompt"])
    if script in _REFUSALS:
        return _refused(script)
    if script == "hang_up":
        raise HangUp
    prediction_id = world.new_id("pred")
    job = {
        "prediction": {
            "id": prediction_id,
            "model": f"{model}-lite" if script == "other_model" else model,
            "version": "hidden",
            "input": given,
            "logs": "",
            "output": None,
            "error": None,
            "status": "starting",
            "created_at": datetime.now(UTC).isoformat(),
            "urls": {"get": f"{asked.address}/replicate/v1/predictions/{prediction_id}"},
        },
        "address": asked.address,
        "script": script,
        "seed": (given.get("seed"), given["prompt"]),
        "done_at": world.done_at(script),
    }
    world.jobs[prediction_id] = job
    if script not in {"failed", "aborted"}:
        world.bill("replicate", asked, model=model, images=1)
    first = as_json(job["prediction"], status=201)
    if content.get("webhook") and webhook_of(script) != "webhook_missing":
        _announce(world, webhooks, content["webhook"], job)
    return html(200) if script == "html_200" else spoiled(world, first, script=script, waits=False)


def _announce(world: World, webhooks: Webhooks, url: str, job: dict[str, Any]) -> None:
    if job["script"] == "webhook_early":
        job["done_at"] = 0
        webhooks.replicate(url, _now(world, job), script=webhook_of(job["script"]))
        return

    def later() -> None:
        time.sleep(max(0, job["done_at"] - time.monotonic()))
        webhooks.replicate(url, _now(world, job), script=webhook_of(job["script"]))

    threading.Thread(target=later, daemon=True).start()


def _now(world: World, job: dict[str, Any]) -> dict[str, Any]:
    """Return the prediction as it is by now."""
    prediction: dict[str, Any] = job["prediction"]
    if prediction["status"] in {"starting", "processing"} and time.monotonic() >= job["done_at"]:
        prediction["status"], prediction["error"] = _ENDINGS.get(job["script"], ("succeeded", None))
        if prediction["status"] == "succeeded":
            prediction["output"] = _output(world, job)
            prediction["metrics"] = {"predict_time": 1.5, "image_count": 1}
    elif prediction["status"] == "starting":
        prediction["status"] = "processing"
    return dict(prediction)


def _output(_world: World, job: dict[str, Any]) -> Any:
    if job["script"] == "no_image":
        return []
    return f"{job['address']}/replicate/delivery/{job['prediction']['id']}"


def _delivered(world: World, prediction_id: str) -> Answer:
    job = world.jobs[prediction_id]
    if job["script"] == "expired_url":
        return Answer(status=404, body=b"<Error>NoSuchKey</Error>", content_type="application/xml")
    picture = world.picture(job["seed"], script=job["script"])
    return Answer(body=picture, content_type="text/html" if job["script"] == "result_html" else "image/jpeg")


def _cancelled(world: World, prediction_id: str) -> Answer:
    prediction = _now(world, world.jobs[prediction_id])
    if prediction["status"] in {"starting", "processing"}:
        world.jobs[prediction_id]["prediction"]["status"] = "canceled"
    return as_json(world.jobs[prediction_id]["prediction"])
