"""What events tell of a generation that has ended, from its row or from the columns that are needed for it."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import sqlalchemy as sa

from services.generation.failures import reason
from services.generation.models import Generation, Job, Operation
from services.generation.workflows import workflow
from shared.events import GenerationFailed, RenewedView, correlated
from shared.times import rfc3339

Told: TypeAlias = sa.Row[*tuple[Any, ...]]
# What an event tells of a generation.
TOLD = (
    Generation.id,
    Generation.number,
    Generation.sku,
    Generation.amount,
    Generation.product_id,
    Generation.revision_id,
    Generation.style,
    Generation.room_type,
    Generation.failure_reason,
    Generation.failure_message,
)


def failed(job: Job, generation: Told, *, line_id: str | None = None, cost: int = 0) -> GenerationFailed:
    """Return the event that tells of a failed generation; ``line_id`` where it is known to be held after all."""
    row = reason(generation.failure_reason or "internal_error")
    return GenerationFailed(
        **{**about(job, generation), "line_id": line_id or line_of(generation)},
        meta=correlated(job.correlation_id),
        reason=row.code,
        message=generation.failure_message or row.message,
        retryable=row.retryable,
        provider_cost_microusd=cost,
    )


def line_of(generation: Generation | Told) -> str | None:
    """Return the id of a generation's reservation line; a free one has none."""
    return generation.id if generation.sku and generation.amount != 0 else None


def renewed_view(
    job: Job | Told, generation: Generation | Told, *, image_id: str, key: str, thumbnail_key: str, content_type: str
) -> RenewedView | None:
    """Return which view of its product a generation has made anew, None where it has not; its last image shows it."""
    if not (generation.product_id and generation.view_type):
        return None
    if not workflow(job.workflow).renews_view(generation.settings):
        return None
    return RenewedView(
        view_type=generation.view_type,
        image_id=image_id,
        key=key,
        thumbnail_key=thumbnail_key,
        content_type=content_type,
        asked_at=rfc3339(job.created_at, precision="microseconds"),
    )


def fallback_from(operations: Iterable[Operation | Told]) -> str | None:
    """Return the provider that was asked for a result and that another stood in for, if one did: the last such."""
    instead = [each.asked_first for each in operations if each.asked_first not in {None, each.provider}]
    return instead[-1] if instead else None


def about(job: Job | Told, generation: Generation | Told) -> dict[str, Any]:
    """Return what the events of a generation's end have in common."""
    return {
        "job_id": job.id,
        "generation_id": generation.id,
        "line_id": line_of(generation),
        "org_id": job.org_id,
        "user_id": job.user_id,
        "workflow": job.workflow,
        "session_id": job.session_id,
        "product_id": generation.product_id,
        "revision_id": generation.revision_id,
        "style": generation.style,
        "room_type": generation.room_type,
        "livemode": job.livemode,
    }
