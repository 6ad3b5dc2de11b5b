"""The receipt of a job: credits keeps it; a job that is unknown there, for it cost nothing, has one of zeros."""

import contextlib
from collections.abc import Mapping
from typing import Any

from services.gateway.schemas.jobs import JOB_ENDS
from shared.problems import NotFound


def receipt(service: Any, owner: Mapping[str, Any], *, job_id: str, limit: int, after: str | None) -> Mapping[str, Any]:
    """Return a job's receipt with a page of its lines; nothing is ever held for a test key's, so credits has none.

    Raises:
        NotFound: ``owner``, of an organization and a mode, has no such job.
    """
    if owner["livemode"]:
        with contextlib.suppress(NotFound):
            asked = {"org_id": owner["org_id"], "job_id": job_id, "limit": limit, "after": after}
            found: Mapping[str, Any] = service.credits.receipt(**asked)
            return found
    return _of_nothing(service.generation.job(**owner, job_id=job_id))


def _of_nothing(job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "job_id": job["id"],
        "reservation_id": None,
        "workflow": job["workflow"],
        "quote_id": None,
        "priced_at": None,
        "held_at": None,
        "closed": job["status"] in JOB_ENDS,
        "totals": {},
        "discounts": [],
        "refunds": [],
        "returns": [],
        "lines": {"data": [], "has_more": False, "next_cursor": None},
    }
