"""FAL's queue: submit, status, result, cancel. https://docs.fal.ai/model-apis/model-endpoints/queue."""

import re
import threading
import time
from typing import Any

from tools.hostile_providers.webhooks import Webhooks, webhook_of
from tools.hostile_providers.world import Answer, Asked, HangUp, World, as_json, html, spoiled

_REQUEST = re.compile(r"/([\w-]+/[\w.-]+)/requests/(\w+)(/status|/cancel)?")
_REFUSALS: dict[str, tuple[int, Any]] = {
    "wrong_key": (401, {"detail": "Authentication is required to access this application."}),
    "model_gone": (404, {"detail": "Application not found"}),
    "error_500": (500, {"detail": "Internal Server Error"}),
    "capacity": (503, {"detail": "No runner could be allocated", "error_type": "runner_scheduling_failure"}),
    "rate_limited": (429, {"detail": "Too many requests", "error_type": "rate_limited"}),
}
# Told with the result, by the model itself: the queue takes whatever looks like a request.
_MODEL_ERRORS: dict[str, tuple[int, Any]] = {
    "invalid": (422, {"detail": [{"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}]}),
    "prompt_blocked": (
        422,
        {"detail": [{"loc": ["body"], "msg": "flagged by a content checker", "type": "content_policy_violation"}]},
    ),
    "failed": (500, {"detail": "Internal Server Error", "error_type": "internal_error"}),
    "aborted": (504, {"detail": "Request timed out", "error_type": "request_timeout"}),
}


def answer(world: World, webhooks: Webhooks, asked: Asked, path: str) -> Answer:
    """Answer a request to ``path`` of the queue."""
    if path.startswith("/media/"):
        return _media(world, path.rpartition("/")[2])
    if not asked.headers.get("authorization", "").startswith("Key "):
        return _refused("wrong_key")
    found = _REQUEST.fullmatch(path)
    if not found:
        return _submitted(world, webhooks, asked, app=path.strip("/"))
    job = world.jobs.get(found[2])
    if job is None:
        return as_json({"detail": "Request not found"}, status=404)
    if found[3] == "/cancel":
        return _cancelled(job)
    return _status(job) if found[3] else _result(world, job, asked.address)


def _refused(script: str) -> Answer:
    status, content = _REFUSALS[script]
    more = {"Retry_After": "7"} if script == "rate_limited" else {}
    return as_json(content, status=status, **more)


def _submitted(world: World, webhooks: Webhooks, asked: Asked, *, app: str) -> Answer:
    given = asked.json()
    script = world.script_for("fal", given["prompt"])
    if script in _REFUSALS:
        return _refused(script)
    if script == "hang_up":
        raise HangUp
    request_id = world.new_id("req")
    world.jobs[request_id] = job = {
        "id": request_id,
        "script": script,
        "seed": (given.get("seed"), given["prompt"]),
        "done_at": world.done_at(script),
        "cancelled": False,
    }
    if script not in _MODEL_ERRORS:
        world.bill("fal", asked, model=app, images=1)
    place = f"{asked.address}/fal/{'/'.join(app.split('/')[:2])}/requests/{request_id}"
    taken = {
        "status": "IN_QUEUE",
        "request_id": request_id,
        "queue_position": 3,
        "response_url": place,
        "status_url": f"{place}/status",
        "cancel_url": f"{place}/cancel",
    }
    url = asked.query.get("fal_webhook")
    if url and webhook_of(script) != "webhook_missing":
        _announce(world, webhooks, url, job, asked.address)
    return html(200) if script == "html_200" else spoiled(world, as_json(taken), script=script, waits=False)


def _announce(world: World, webhooks: Webhooks, url: str, job: dict[str, Any], address: str) -> None:
    def send() -> None:
        payload = {
            "request_id": job["id"],
            "gateway_request_id": job["id"],
            "status": "OK",
            "payload": _payload(world, job, address),
        }
        webhooks.fal(url, job["id"], payload, script=webhook_of(job["script"]))

    if job["script"] == "webhook_early":
        job["done_at"] = 0
        send()
        return

    def later() -> None:
        time.sleep(max(0, job["done_at"] - time.monotonic()))
        send()

    threading.Thread(target=later, daemon=True).start()


def _status(job: dict[str, Any]) -> Answer:
    if job["script"] == "unknown_status":
        return as_json({"status": "HIBERNATING", "request_id": job["id"]})
    if job["cancelled"]:
        return as_json({"status": "COMPLETED", "request_id": job["id"], "error": "Request was cancelled"})
    if time.monotonic() < job["done_at"]:
        return as_json({"status": "IN_PROGRESS", "request_id": job["id"], "logs": None}, status=202)
    return as_json({"status": "COMPLETED", "request_id": job["id"], "metrics": {"inference_time": 1.5}})


def _result(world: World, job: dict[str, Any], address: str) -> Answer:
    if job["cancelled"]:
        return as_json({"detail": "Request was cancelled", "error_type": "client_cancelled"}, status=499)
    if time.monotonic() < job["done_at"]:
        return as_json({"detail": "Request is still in progress"}, status=400)
    if job["script"] in _MODEL_ERRORS:
        status, content = _MODEL_ERRORS[job["script"]]
        return as_json(content, status=status)
    return as_json(_payload(world, job, address))


def _payload(_world: World, job: dict[str, Any], address: str) -> dict[str, Any]:
    picture = {"url": f"{address}/fal/media/{job['id']}", "width": 96, "height": 64, "content_type": "image/jpeg"}
    return {
        "images": [] if job["script"] == "no_image" else [picture],
        "seed": job["seed"][0],
        "has_nsfw_concepts": [job["script"] in {"nsfw", "recitation"}],
        "prompt": job["seed"][1],
    }


def _media(world: World, request_id: str) -> Answer:
    job = world.jobs[request_id]
    if job["script"] == "expired_url":
        return Answer(status=403, body=b"<Error>AccessDenied</Error>", content_type="application/xml")
    picture = world.picture(job["seed"], script=job["script"])
    return Answer(body=picture, content_type="text/html" if job["script"] == "result_html" else "image/jpeg")


def _cancelled(job: dict[str, Any]) -> Answer:
    if time.monotonic() >= job["done_at"]:
        return as_json({"status": "ALREADY_COMPLETED"}, status=400)
    job["cancelled"] = True
    return as_json({"status": "CANCELLATION_REQUESTED"}, status=202)
