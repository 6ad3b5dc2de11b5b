"""What the tests of notifications start from: events as they come from other services."""

from typing import Any

from shared import events
from shared.database import Batch
from shared.events import CreditReserved, Event, GenerationFailed, GenerationStarted, JobFinished
from shared.ids import new_id

LOG_QUEUE = "notifications.on_event"


def started(org_id: str, *, job_id: str | None = None) -> GenerationStarted:
    """Tell that some generation of an organization has begun; each call is another event."""
    return GenerationStarted(
        meta=events.correlated(new_id("req")),
        job_id=job_id or new_id("job"),
        generation_id=new_id("gen"),
        org_id=org_id,
        workflow="staging",
    )


def failed(org_id: str, **fields: Any) -> GenerationFailed:
    """Tell that some generation of an organization failed, which cost us something at the provider."""
    known: dict[str, Any] = {
        "meta": events.correlated(new_id("req")),
        "job_id": new_id("job"),
        "generation_id": new_id("gen"),
        "line_id": None,
        "org_id": org_id,
        "user_id": None,
        "workflow": "staging",
        "reason": "provider_error",
        "message": "The provider failed.",
        "retryable": True,
        "provider_cost_microusd": 4711,
    }
    return GenerationFailed(**{**known, **fields})


def reserved(org_id: str) -> CreditReserved:
    """Tell that credits of an organization are held."""
    return CreditReserved(
        meta=events.correlated(new_id("req")),
        reservation_id=new_id("rsv"),
        job_id=new_id("job"),
        org_id=org_id,
        amount=10,
        unit="credits",
        lines=[events.HeldLine(line_id=new_id("gen"), sku="staging.variant", unit="credits", amount=10)],
        available=90,
        version=2,
    )


def finished(org_id: str, **fields: Any) -> JobFinished:
    """Tell that a job of an organization succeeded, with both of its images."""
    known: dict[str, Any] = {
        "meta": events.correlated(new_id("req")),
        "job_id": new_id("job"),
        "org_id": org_id,
        "user_id": None,
        "workflow": "staging",
        "status": "succeeded",
        "succeeded": 2,
        "failed": 0,
        "lines": [],
    }
    return JobFinished(**{**known, **fields})


def batch(*items: Event, consumer: str = LOG_QUEUE) -> Batch[Event]:
    return Batch(items, consumer=consumer)
