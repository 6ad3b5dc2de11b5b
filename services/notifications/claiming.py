"""Claiming due webhooks, and recording what became of them. Leases use the database's time; fences prove claims.

No receiver may hold the others back: each has few deliveries under way at a time; one that fails, is slow or has not
answered yet has one, all such together half of a worker's room; turns go to the organization with the least under way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import metrics
from services.notifications.deliveries import Again, Answer, Decision, Delivered, GivenUp, Postponed, is_slow
from shared.database import once_committed
from shared.events import Event, WebhookEndpointDisabled
from shared.times import rfc3339

log = structlog.get_logger(__name__)

LEASE_SECONDS = 60.0  # four times what a delivery may take
PER_ENDPOINT = 4
PER_ORGANIZATION = 16
CANCELLED_AT_ONCE = 2_000
DISABLED_AFTER_DAYS = 5.0
_CLAIM_LOCK = 7_301_020


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A delivery that is this worker's until its lease ends; ``fence`` proves it when it is recorded.

    ``body`` is None where the event is no longer kept. ``secrets`` are encrypted.
    """

    id: int
    org_id: str
    endpoint_id: str
    event_id: str
    type: str
    sequence: int | None
    attempt: int
    fence: int
    url: str
    secrets: Sequence[str]
    slow: bool
    body: str | None


# The lock makes the limits exact across workers. It is a statement of its own: the next one sees what was claimed by
# whoever had it before, while one that waited for it itself would not.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(:lock)")
# It steps from endpoint to endpoint over the queue's index, so that the cost is that of the number of endpoints with
# something to deliver, not of the backlog.
_WAITING = """waiting AS (
    (SELECT endpoint_id FROM webhook_deliveries WHERE status = 'pending' ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint_id FROM webhook_deliveries d
            WHERE d.status = 'pending' AND d.endpoint_id > waiting.endpoint_id ORDER BY d.endpoint_id LIMIT 1)
    FROM waiting WHERE waiting.endpoint_id IS NOT NULL
)"""
# For the same reason time is compared with `statement_timestamp`: by `clock_timestamp`, which changes from row to row,
# no index can say where to begin.
_CLAIM = sa.text(f"""
WITH RECURSIVE {_WAITING}, receivers AS (
    SELECT e.id, e.org_id, e.ordered, e.slow OR e.failing_since IS NOT NULL AS slow,
        CASE WHEN e.ordered OR e.slow OR e.failing_since IS NOT NULL THEN 1 ELSE :per_endpoint END AS room,
        (SELECT count(*) FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending'
            AND d.lease_until > statement_timestamp()) AS running
    FROM waiting JOIN webhook_endpoints e ON e.id = waiting.endpoint_id
    WHERE e.status = 'enabled' AND (e.paused_until IS NULL OR e.paused_until <= statement_timestamp())
), at_work AS (
    SELECT org_id, sum(running) AS running FROM receivers GROUP BY org_id
), candidates AS (
    SELECT next.id, next.due_at, r.slow, at_work.running + row_number() OVER (
        PARTITION BY r.org_id ORDER BY next.due_at, next.id) AS turn
    FROM receivers r
    JOIN at_work USING (org_id)
    CROSS JOIN LATERAL (
        SELECT d.id, d.due_at FROM webhook_deliveries d
        WHERE d.endpoint_id = r.id AND d.status = 'pending' AND d.due_at <= statement_timestamp()
            AND (d.lease_until IS NULL OR d.lease_until <= statement_timestamp())
            AND (NOT r.ordered OR d.id = (
                SELECT min(first.id) FROM webhook_deliveries first
                WHERE first.endpoint_id = r.id AND first.status = 'pending'))
        ORDER BY d.due_at, d.id LIMIT greatest(r.room - r.running, 0)
    ) AS next
), placed AS (
    SELECT id, turn, due_at, slow, row_number() OVER (PARTITION BY slow ORDER BY turn, due_at, id) AS place
    FROM candidates WHERE turn <= :per_organization
), chosen AS (
    SELECT d.id FROM webhook_deliveries d
    JOIN (SELECT id FROM placed WHERE NOT slow OR place <= :slow_free ORDER BY turn, due_at, id LIMIT :free) AS pick
        ON pick.id = d.id
    WHERE d.status = 'pending' AND (d.lease_until IS NULL OR d.lease_until <= statement_timestamp())
    FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE webhook_deliveries d
    SET attempt = d.attempt + 1, fence = d.fence + 1, lease_until = clock_timestamp() + make_interval(secs => :lease)
    FROM chosen WHERE d.id = chosen.id
    RETURNING d.*
)
SELECT c.id, c.org_id, c.endpoint_id, c.event_id, c.type, c.sequence, c.attempt, c.fence, e.url,
    CASE WHEN e.previous_until > now() THEN ARRAY[e.secret, e.previous_secret] ELSE ARRAY[e.secret] END AS secrets,
    e.slow OR e.failing_since IS NOT NULL AS slow, coalesce(c.body, r.body) AS body
FROM claimed c
JOIN webhook_endpoints e ON e.id = c.endpoint_id
LEFT JOIN recorded_events r ON r.org_id = c.org_id AND r.sequence = c.sequence
ORDER BY c.id
""")
_LOCK_ENDPOINT = sa.text("SELECT status FROM webhook_endpoints WHERE id = :endpoint_id FOR NO KEY UPDATE")
_SETTLE = sa.text("""
UPDATE webhook_deliveries
SET status = :status, failure = :failure, lease_until = NULL, attempt = attempt - :unused,
    due_at = clock_timestamp() + make_interval(secs => :seconds),
    ended_at = CASE WHEN :status = 'pending' THEN NULL ELSE now() END
WHERE id = :id AND fence = :fence AND status = 'pending'
RETURNING id
""")
_NOTE_ATTEMPT = sa.text("""
INSERT INTO webhook_attempts (delivery_id, number, org_id, url, duration_ms, status, error, response)
VALUES (:id, :number, :org_id, :url, :duration_ms, :status, :error, :response)
""")
_NOTE_SUCCESS = sa.text("""
UPDATE webhook_endpoints SET failing_since = NULL, slow = :slow, paused_until = NULL
WHERE id = :endpoint_id AND (failing_since IS NOT NULL OR slow <> :slow OR paused_until IS NOT NULL)
""")
_NOTE_FAILURE = sa.text("""
UPDATE webhook_endpoints
SET failing_since = coalesce(failing_since, now()), slow = :slow,
    paused_until = greatest(paused_until, now() + make_interval(secs => :pause))
WHERE id = :endpoint_id
RETURNING failing_since, failing_since < now() - make_interval(secs => :disabled_after) AS dead
""")
_PENDING = sa.text(
    "SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE status = 'pending' LIMIT 100000) AS pending"
)
_DISABLE = sa.text("""
UPDATE webhook_endpoints
SET status = 'disabled', disabled_reason = :reason, version = version + 1, updated_at = now()
WHERE id = :endpoint_id AND status = 'enabled'
""")
# A backlog may be of any size, so it is cancelled some at a time; nothing of a disabled endpoint is claimed meanwhile.
_CANCEL = sa.text(f"""
WITH RECURSIVE {_WAITING}, chosen AS (
    SELECT d.id FROM waiting JOIN webhook_endpoints e ON e.id = waiting.endpoint_id AND e.status = 'disabled'
    JOIN webhook_deliveries d ON d.endpoint_id = e.id AND d.status = 'pending'
    WHERE e.id = coalesce(:endpoint_id, e.id)
    LIMIT :most
)
UPDATE webhook_deliveries d
SET status = 'cancelled', ended_at = now(), failure = 'the endpoint was disabled'
FROM chosen WHERE d.id = chosen.id AND d.status = 'pending'
""").bindparams(sa.bindparam("endpoint_id", type_=sa.Text))


def claim(session: Session, *, free: int, slow_free: int, lease_seconds: float = LEASE_SECONDS) -> list[Claimed]:
    """Claim at most ``free`` due deliveries, of which at most ``slow_free`` for receivers that fail or are slow.

    Args:
        session: of the system role: a claim spans organizations.
        free: how many this worker can take on.
        slow_free: how many of these may be for receivers that may keep it waiting.
        lease_seconds: how long the claim holds.
    """
    values = {
        "free": free,
        "slow_free": slow_free,
        "per_endpoint": PER_ENDPOINT,
        "per_organization": PER_ORGANIZATION,
        "lease": lease_seconds,
    }
    session.execute(_LOCK, {"lock": _CLAIM_LOCK})
    return [Claimed(**row) for row in session.execute(_CLAIM, values).mappings()]


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
    if not session.scalar(_SETTLE, {"id": item.id, "fence": item.fence, **_settled(decision)}):
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


def cancel_for_disabled(session: Session, *, endpoint_id: str | None = None) -> int:
    """Cancel what is on its way to an endpoint that is disabled, or to all such, some at a time; return how many."""
    result: Any = session.execute(_CANCEL, {"endpoint_id": endpoint_id, "most": CANCELLED_AT_ONCE})
    return int(result.rowcount)


def report_pending(session: Session) -> None:
    """Show how many deliveries there are to make."""
    metrics.deliveries_pending.labels("webhook").set(session.scalar(_PENDING) or 0)


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
    cancel_for_disabled(session, endpoint_id=item.endpoint_id)
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
        return {"status": "delivered", "failure": None, "seconds": 0.0, "unused": 0}
    if isinstance(decision, Again | Postponed):
        unused = int(isinstance(decision, Postponed))
        return {"status": "pending", "failure": decision.failure, "seconds": decision.seconds, "unused": unused}
    return {"status": "failed", "failure": decision.failure, "seconds": 0.0, "unused": 0}


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
