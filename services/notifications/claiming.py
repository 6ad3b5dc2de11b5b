"""Claiming due webhooks. Leases use the database's time; fences prove claims.

No receiver may hold the others back: each has few deliveries under way at a time; one that fails, is slow or has not
answered yet has one, all such together half of a worker's room; turns go to the organization with the least under way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications import metrics
from services.notifications.leases import FREE

LEASE_SECONDS = 60.0  # four times what a delivery may take
PER_ENDPOINT = 4
PER_ORGANIZATION = 16
CANCELLED_AT_ONCE = 2_000
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
# For the same reason an ordered endpoint is asked for its first delivery, due or not, and never for a later one: while
# the first one waits, all the others are due.
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
        (
            SELECT id, due_at FROM webhook_deliveries
            WHERE NOT r.ordered AND endpoint_id = r.id AND status = 'pending' AND due_at <= statement_timestamp()
                AND {FREE}
            ORDER BY due_at, id LIMIT greatest(r.room - r.running, 0)
        )
        UNION ALL
        SELECT id, due_at FROM (
            SELECT id, due_at, lease_until FROM webhook_deliveries
            WHERE r.ordered AND r.running < r.room AND endpoint_id = r.id AND status = 'pending'
            ORDER BY id LIMIT 1
        ) AS first
        WHERE due_at <= statement_timestamp() AND {FREE}
    ) AS next
), placed AS (
    SELECT id, turn, due_at, slow, row_number() OVER (PARTITION BY slow ORDER BY turn, due_at, id) AS place
    FROM candidates WHERE turn <= :per_organization
), chosen AS (
    SELECT d.id FROM webhook_deliveries d
    JOIN (SELECT id FROM placed WHERE NOT slow OR place <= :slow_free ORDER BY turn, due_at, id LIMIT :free) AS pick
        ON pick.id = d.id
    WHERE d.status = 'pending' AND {FREE}
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
_PENDING = sa.text(
    "SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE status = 'pending' LIMIT 100000) AS pending"
)
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


def cancel_for_disabled(session: Session, *, endpoint_id: str | None = None) -> int:
    """Cancel what is on its way to an endpoint that is disabled, or to all such, some at a time; return how many."""
    result: Any = session.execute(_CANCEL, {"endpoint_id": endpoint_id, "most": CANCELLED_AT_ONCE})
    return int(result.rowcount)


def report_pending(session: Session) -> None:
    """Show how many deliveries there are to make."""
    metrics.deliveries_pending.labels("webhook").set(session.scalar(_PENDING) or 0)
