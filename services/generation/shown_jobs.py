"""How a job is shown, from its row and what was found out about it. Reads nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.generation import places
from services.generation.failures import reason
from services.generation.jobs import JOB_ENDS, STALLED_AFTER, progress
from services.generation.models import Job
from services.generation.places import Place
from shared.times import rfc3339

_PHASES = {
    "awaiting_credit": "Holding the credits",
    "queued": "Waiting for a free worker",
    "running": "Making the images",
    "paused": "Waiting until the rest can be paid for",
    "cancelling": "Cancelling",
    "succeeded": "Done",
    "partially_succeeded": "Done, with failures",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "expired": "Ended at its deadline",
    "rejected": "Not started",
}


def job_as_dict(
    row: Job, totals: Mapping[str, Any], first: list[dict[str, Any]], *, now: datetime, place: Place
) -> dict[str, Any]:
    """Return a job in the contract's shape.

    Args:
        row: the job.
        totals: how many of its generations are ``queued``, ``running``, ``succeeded``, ``failed``, ``waiting`` for
            credits and ``fallbacks``, what is ``charged``, ``refunded`` and ``reserved``, and why how many were
            ``not_begun``, as pairs of a code and a count.
        first: its first generations, as they are shown.
        now: the database's time.
        place: where it stands in the queue.
    """
    ended = totals["succeeded"] + totals["failed"]
    open_ = row.total - ended
    waiting = row.status in {"awaiting_credit", "queued"}
    return {
        "id": row.id,
        "workflow": row.workflow,
        "status": row.status,
        "phase": _PHASES[row.status],
        "progress": progress(total=row.total, ended=ended),
        "counts": {
            "total": row.total,
            "queued": totals["queued"],
            "running": totals["running"],
            "succeeded": totals["succeeded"],
            "failed": totals["failed"],
        },
        "charged": totals["charged"],
        "refunded": totals["refunded"],
        "reserved": totals["reserved"],
        "generations": first,
        "created_at": rfc3339(row.created_at, precision="auto"),
        "finished_at": row.finished_at and rfc3339(row.finished_at, precision="auto"),
        "deadline_at": rfc3339(row.deadline_at, precision="auto"),
        "session_id": row.session_id,
        "retry_of": row.retry_of,
        "retry_count": row.retry_count,
        "queue_position": place.jobs_ahead + 1 if waiting else None,
        "eta_seconds": None if row.status in {"paused", *JOB_ENDS} else places.eta_seconds(row, place, open_=open_),
        "waiting_reason": row.waiting_reason or places.waiting_reason(row, place, queued=totals["queued"]),
        "stalled": row.status not in {"paused", *JOB_ENDS} and now - row.progressed_at > STALLED_AFTER,
        "livemode": row.livemode,
        "cache": _cache(row),
        "warnings": _warnings(row, totals),
    }


def _cache(row: Job) -> dict[str, Any] | None:
    """Return how many of a job's operations might have been known, and how many were; None where none can be."""
    if not row.cacheable:
        return None
    return {"operations": row.cacheable, "hits": row.from_cache, "fresh": row.fresh}


def _warnings(row: Job, totals: Mapping[str, Any]) -> list[dict[str, str]]:
    """Say how many generations were not begun, or are not yet, and why; of a rejected job its refusal has said it.

    Say too how many were made by others than were asked.
    """
    told = []
    if row.waiting_reason and totals["waiting"]:
        told.append(("generations_wait", totals["waiting"], "wait", row.waiting_reason))
    if row.status != "rejected":
        told += [("generations_not_begun", count, "were not begun", code) for code, count in totals["not_begun"]]
    warnings = [
        {"code": code, "detail": f"{count} of {row.total} generations {verb}: {reason(why).message}"}
        for code, count, verb, why in told
    ]
    if totals["fallbacks"]:
        detail = (
            f"{totals['fallbacks']} of {row.total} generations were made by another AI service than was asked first."
        )
        warnings.append({"code": "fallback", "detail": detail})
    return warnings
