"""Answers of the gateway that several tests of its client need."""

import hashlib
from typing import Any

from tests.fakes import Scripted

TIME = "2026-01-01T00:00:00Z"
BALANCE = {"available": 80, "held": 20, "version": 3}
WALLET = {
    **BALANCE,
    "plan": "pro",
    "quota": {"limit": None, "used": 3, "resets_at": TIME},
    "counters": {"generations": 3, "credits_spent": 20},
}
UPLOAD = {
    "id": "ast_1",
    "purpose": "room",
    "content_type": "image/jpeg",
    "bytes": 10,
    "width": 4,
    "height": 3,
    "sha256": "0" * 64,
    "created_at": TIME,
    "delete_after": None,
    "warnings": [],
}


def a_job(status: str = "queued", **more: Any) -> dict[str, Any]:
    ended = status not in {"queued", "running", "paused"}
    return {
        "id": "job_1",
        "workflow": "staging",
        "status": status,
        "progress": 100 if ended else 0,
        "counts": {"total": 1, "queued": 1, "running": 0, "succeeded": 0, "failed": 0},
        "charged": 0,
        "refunded": 0,
        "reserved": 10,
        "generations": [],
        "created_at": TIME,
        "finished_at": TIME if ended else None,
        "deadline_at": TIME,
        "livemode": True,
        **more,
    }


def an_image(content: bytes, *, url: str) -> dict[str, Any]:
    return {
        "id": "img_1",
        "url": url,
        "thumbnail_url": None,
        "width": 4,
        "height": 3,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "image/jpeg",
        "job_id": "job_1",
        "generation_id": "gen_1",
        "created_at": TIME,
    }


def a_page(*items: Any, after: str | None = None) -> Scripted:
    return Scripted(body={"data": list(items), "has_more": after is not None, "next_cursor": after})


def a_problem(status: int, code: str, *, headers: dict[str, str] | None = None, **more: Any) -> Scripted:
    problem = {"status": status, "code": code, "detail": "No.", "request_id": "req_1", "errors": [], "retryable": False}
    return Scripted(status=status, body={**problem, **more}, headers=headers or {})
