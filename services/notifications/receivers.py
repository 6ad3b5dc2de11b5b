"""Reads of webhook endpoints and of what was delivered to them, from a session to plain values, without secrets."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from shared import pages
from shared.notification_limits import DELIVERY_STATUSES
from shared.problems import BadRequest, NotFound
from shared.times import rfc3339


def found(session: Session, *, org_id: str, endpoint_id: str, lock: bool = False) -> WebhookEndpoint:
    """Return an endpoint's row, locked where it is to be changed: events may still be owed to it meanwhile.

    Raises:
        NotFound: the organization has none with this id.
    """
    statement = sa.select(WebhookEndpoint).where(WebhookEndpoint.org_id == org_id, WebhookEndpoint.id == endpoint_id)
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    endpoint = session.scalar(statement)
    if endpoint is None:
        raise NotFound("There is no such webhook endpoint.")
    return endpoint


def endpoint(session: Session, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
    """Return one endpoint (see `as_dict`).

    Raises:
        NotFound: the organization has none with this id.
    """
    return as_dict(found(session, org_id=org_id, endpoint_id=endpoint_id))


def endpoints(session: Session, *, org_id: str, limit: int = pages.PAGE, after: str | None = None) -> dict[str, Any]:
    """Return a page of an organization's endpoints, the oldest first."""
    pages.check_limit(limit)
    statement = sa.select(WebhookEndpoint).where(WebhookEndpoint.org_id == org_id, WebhookEndpoint.id > (after or ""))
    rows = session.scalars(statement.order_by(WebhookEndpoint.id).limit(limit + 1))
    return pages.page(list(rows), limit=limit, show=as_dict)


def deliveries(
    session: Session,
    *,
    org_id: str,
    endpoint_id: str,
    status: str | None = None,
    limit: int = pages.PAGE,
    after: str | None = None,
) -> dict[str, Any]:
    """Return a page of what is or was on its way to an endpoint, the newest first, each with its attempts.

    Raises:
        NotFound: the organization has no such endpoint.
        BadRequest: there is no such status or cursor.
    """
    pages.check_limit(limit)
    if status is not None and status not in DELIVERY_STATUSES:
        raise BadRequest(f"A delivery is {', '.join(DELIVERY_STATUSES)}.")
    found(session, org_id=org_id, endpoint_id=endpoint_id)
    delivery = WebhookDelivery
    statement = sa.select(delivery).where(delivery.org_id == org_id, delivery.endpoint_id == endpoint_id)
    if status:
        statement = statement.where(delivery.status == status)
    if after is not None:
        if not after.isascii() or not after.isdigit():
            raise BadRequest("There is no such cursor; take next_cursor of the page before as it is.")
        statement = statement.where(delivery.id < int(after[:18]))
    rows = session.scalars(statement.order_by(delivery.id.desc()).limit(limit + 1)).all()
    tries = _attempts(session, [row.id for row in rows])
    return pages.page(rows, limit=limit, show=lambda row: delivery_as_dict(row, tries[row.id]))


def as_dict(row: WebhookEndpoint) -> dict[str, Any]:
    """Return an endpoint's public side."""
    return {
        "id": row.id,
        "url": row.url,
        "types": row.types,
        "description": row.description,
        "ordered": row.ordered,
        "status": row.status,
        "disabled_reason": row.disabled_reason,
        "failing_since": row.failing_since and rfc3339(row.failing_since),
        "old_secret_until": row.previous_until and rfc3339(row.previous_until),
        "version": row.version,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


def delivery_as_dict(row: WebhookDelivery, tries: Sequence[WebhookAttempt]) -> dict[str, Any]:
    """Return a delivery with its attempts; ``event`` is its number in the log, None for a test."""
    return {
        "id": str(row.id),
        "event_id": row.event_id,
        "event": None if row.sequence is None else str(row.sequence),
        "type": row.type,
        "cause": row.cause,
        "status": row.status,
        "failure": row.failure,
        "attempt": row.attempt,
        "next_attempt_at": rfc3339(row.due_at) if row.status == "pending" else None,
        "created_at": rfc3339(row.created_at),
        "ended_at": row.ended_at and rfc3339(row.ended_at),
        "attempts": [_attempt_as_dict(each) for each in tries],
    }


def _attempts(session: Session, delivery_ids: Sequence[int]) -> dict[int, list[WebhookAttempt]]:
    by_delivery: dict[int, list[WebhookAttempt]] = defaultdict(list)
    statement = sa.select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(delivery_ids))
    for each in session.scalars(statement.order_by(WebhookAttempt.delivery_id, WebhookAttempt.number)):
        by_delivery[each.delivery_id].append(each)
    return by_delivery


def _attempt_as_dict(row: WebhookAttempt) -> dict[str, Any]:
    return {
        "number": row.number,
        "url": row.url,
        "ended_at": rfc3339(row.ended_at),
        "duration_ms": row.duration_ms,
        "status": row.status,
        "error": row.error,
        "response": row.response,
    }
