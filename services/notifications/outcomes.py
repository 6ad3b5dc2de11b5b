"""Recording what became of a webhook that was claimed, and what follows from that for its endpoint."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import claiming, metrics
from services.notifications.claiming import Claimed
from services.notifications.deliveries import Again, Answer, Decision, Delivered, GivenUp, Postponed, is_slow
from services.notifications.leases import Leases
from shared.database import once_committed
from shared.events import Event, WebhookEndpointDisabled
from shared.times import rfc3339

log = structlog.get_logger(__name__)

DISABLED_AFTER_DAYS = 5.0
_leases = Leases("webhook_deliveries", columns=())
_LOCK_ENDPOINT = sa.text("SELECT status FROM webhook_endpoints WHERE id = :endpoint_id FOR NO KEY UPDATE")
_NOTE_ATTEMPT = sa.text("""
INSERT INTO webhook_attempts (delivery_id, number, org_id, url, duration_ms, status, error, response)
VALUES (:id, :number, :org_id, :url, :duration_ms, :status, :error, :response)
""")
# What the receiver has asked for in another answer stays: its pause ends by itself.
_NOTE_SUCCESS = sa.text("""
UPDATE webhook_endpoints SET failing_since = NULL, slow = :slow
WHERE id = :endpoint_id AND (failing_since IS NOT NULL OR slow <> :slow)
""")
_NOTE_FAILURE = sa.text("""
UPDATE webhook_endpoints
SET failing_since = coalesce(failing_since, now()), slow = :slow,
    paused_until = greatest(paused_until, now() + make_interval(secs => :pause))
WHERE id = :endpoint_id
RETURNING failing_since, failing_since < now() - make_interval(secs => :disabled_after) AS dead
""")
_DISABLE = sa.text("""
UPDATE webhook_endpoints
SET status = 'disabled', disabled_reason = :reason, version = version + 1, updated_at = now()
WHERE id = :endpoint_id AND status = 'enabled'
""")


def record(
    session: Session,
    item: Claimed,
    answer: Answer,
    decision: Decision,
    *,
    disabled_after_days: float = DISABLED_AFTER_DAYS,
) -> list[Event]:
    """Write down what became of a delivery, unless the claim was lost meanwhile; return the events of it.

    An endpoint that answered "gone", or has only failed for ``disabled_after_days``, is disabled.
    """
    # The endpoint first, whatever follows: who disables it takes its deliveries after it.
    status = session.scalar(_LOCK_ENDPOINT, {"endpoint_id": item.endpoint_id})
    if not _leases.settle(session, id=item.id, fence=item.fence, **_settled(decision)):
        log.warning("delivery_claim_lost", delivery_id=item.id, endpoint_id=item.endpoint_id)
        return []
    once_committed(session, lambda: metrics.deliveries.labels("webhook", _outcome(decision)).inc())
    if isinstance(decision, Postponed):
        return []
    session.execute(_NOTE_ATTEMPT, {"number": item.attempt, **_tried(item, answer)})
    if answer.ours:
        return []
    if isinstance(decision, Delivered):
        session.execute(_NOTE_SUCCESS, {"endpoint_id": item.endpoint_id, "slow": is_slow(answer)})
        return []
    return _failed(session, item, answer, decision, status=status, disabled_after_days=disabled_after_days)


def _failed(
    session: Session,
    item: Claimed,
    answer: Answer,
    decision: Again | GivenUp,
    *,
    status: str | None,
    disabled_after_days: float,
) -> list[Event]:
    row = session.execute(
        _NOTE_FAILURE,
        {
            "endpoint_id": item.endpoint_id,
            "slow": is_slow(answer),
            "pause": decision.pause_seconds if isinstance(decision, Again) else 0.0,
            "disabled_after": disabled_after_days * 86_400,
        },
    ).one()
    gone = isinstance(decision, GivenUp) and decision.gone
    if status != "enabled" or not (gone or row.dead):
        return []
    reason = "gone" if gone else "failing"
    session.execute(_DISABLE, {"endpoint_id": item.endpoint_id, "reason": reason})
    claiming.cancel_for_disabled(session, endpoint_id=item.endpoint_id)
    log.warning("webhook_endpoint_disabled", endpoint_id=item.endpoint_id, org_id=item.org_id, reason=reason)
    return [
        WebhookEndpointDisabled(
            endpoint_id=item.endpoint_id,
            org_id=item.org_id,
            reason=reason,
            failing_since=rfc3339(row.failing_since),
        )
    ]


def _settled(decision: Decision) -> Mapping[str, Any]:
    if isinstance(decision, Delivered):
        return {"status": "delivered", "failure": None, "seconds": 0.0}
    if isinstance(decision, Again | Postponed):
        unused = isinstance(decision, Postponed)
        return {"status": "pending", "failure": decision.failure, "seconds": decision.seconds, "unused": unused}
    return {"status": "failed", "failure": decision.failure, "seconds": 0.0}


def _tried(item: Claimed, answer: Answer) -> Mapping[str, Any]:
    return {
        "id": item.id,
        "org_id": item.org_id,
        "url": item.url,
        "duration_ms": round(answer.seconds * 1000),
        "status": answer.status,
        "error": answer.error,
        "response": answer.excerpt,
    }


def _outcome(decision: Decision) -> str:
    return {Delivered: "delivered", Again: "retried", Postponed: "postponed", GivenUp: "failed"}[type(decision)]
