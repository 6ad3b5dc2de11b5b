"""Writing the log: what organizations may see of their events, in one gapless sequence each."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications import story
from shared import events
from shared.database import Database
from shared.events import Event, EventRecorded, JobFinished

WEBHOOKS_CHANNEL = "webhooks"
SENT_ALONG_BYTES = 64_000
SWEPT_AT_ONCE = 5_000

# The sequences are locked in one order everywhere, and held until the commit: the numbers become visible in order, and
# a transaction that fails leaves no gap. It is a statement of its own: the next one sees the endpoints that were made
# while this one waited.
_COUNT = sa.text("""
INSERT INTO event_sequences AS known (org_id, last)
SELECT org_id, count(*) FROM unnest(CAST(:org_ids AS text[])) AS given (org_id) GROUP BY org_id ORDER BY org_id
ON CONFLICT (org_id) DO UPDATE SET last = known.last + excluded.last
RETURNING org_id, last
""")
# `place` keeps the order of the batch. The time is that of this statement, not of the transaction, which may have
# waited: so what is deleted by its time is deleted in the order of its numbers.
_RECORD = sa.text("""
WITH given AS (
    SELECT * FROM unnest(
        CAST(:org_ids AS text[]), CAST(:event_ids AS text[]), CAST(:types AS text[]), CAST(:bodies AS text[]),
        CAST(:job_ids AS text[]), CAST(:session_ids AS text[]), CAST(:of_test_keys AS boolean[]),
        CAST(:told AS boolean[]), CAST(:succeeded AS bigint[]), CAST(:failed AS bigint[])
    ) WITH ORDINALITY AS given (
        org_id, event_id, type, body, job_id, session_id, of_test_key, told, succeeded, failed, place)
), counted AS (
    SELECT * FROM unnest(CAST(:counted AS text[]), CAST(:lasts AS bigint[])) AS counted (org_id, last)
), recorded AS (
    INSERT INTO recorded_events (
        org_id, sequence, event_id, type, body, job_id, session_id, of_test_key, told, succeeded, failed, recorded_at)
    SELECT org_id, last + 1 - row_number() OVER (PARTITION BY org_id ORDER BY place DESC),
        event_id, type, body, job_id, session_id, of_test_key, told, succeeded, failed, statement_timestamp()
    FROM given JOIN counted USING (org_id)
    RETURNING org_id, sequence, event_id, type
), owed AS (
    INSERT INTO webhook_deliveries (org_id, endpoint_id, event_id, type, sequence, cause)
    SELECT org_id, e.id, event_id, type, sequence, 'event'
    FROM recorded JOIN webhook_endpoints e USING (org_id)
    WHERE e.status = 'enabled' AND (e.types IS NULL OR type = ANY (e.types))
    ORDER BY sequence, e.id
    RETURNING id
)
SELECT event_id, sequence, (SELECT count(*) FROM owed) AS owed FROM recorded
""")
_SWEEP_EVENTS = sa.text("""
WITH old AS (
    SELECT org_id, sequence FROM recorded_events WHERE recorded_at < now() - make_interval(days => :days)
    ORDER BY recorded_at LIMIT :most
)
DELETE FROM recorded_events r USING old WHERE r.org_id = old.org_id AND r.sequence = old.sequence
""")
_SWEEP_DELIVERIES = sa.text("""
WITH old AS (
    SELECT id FROM webhook_deliveries WHERE ended_at < now() - make_interval(days => :days)
    ORDER BY ended_at LIMIT :most
)
DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id
""")


def record(db: Database, session: Session, items: Sequence[Event]) -> list[Event]:
    """Append events, of whatever organizations, to the logs, and owe them to the webhook endpoints that want them.

    Returns what tells the gateways of them, in order.
    """
    shown = [events.public(item) for item in items]
    jobs = [_text(item, "job_id") for item in items]
    sessions = [_text(item, "session_id") for item in items]
    org_ids = [each["orgid"] for each in shown]
    counted = session.execute(_COUNT, {"org_ids": org_ids}).all()
    numbers = session.execute(
        _RECORD,
        {
            "counted": [row.org_id for row in counted],
            "lasts": [row.last for row in counted],
            "org_ids": org_ids,
            "event_ids": [each["id"] for each in shown],
            "types": [each["type"] for each in shown],
            "bodies": [msgspec.json.encode(each).decode() for each in shown],
            "job_ids": jobs,
            "session_ids": sessions,
            "of_test_keys": [not getattr(item, "livemode", True) for item in items],
            "told": [each["type"] in story.TOLD_TYPES for each in shown],
            "succeeded": [item.succeeded if isinstance(item, JobFinished) else None for item in items],
            "failed": [item.failed if isinstance(item, JobFinished) else None for item in items],
        },
    ).all()
    if any(row.owed for row in numbers):
        db.notify(session, WEBHOOKS_CHANNEL)
    number_of: dict[str, int] = {row.event_id: row.sequence for row in numbers}
    return [
        _recorded(item, each, sequence=number_of[each["id"]], job_id=job_id, session_id=session_id)
        for item, each, job_id, session_id in zip(items, shown, jobs, sessions, strict=True)
    ]


def sweep(db: Database, *, days: int) -> int:
    """Delete events recorded, and deliveries ended, more than ``days`` ago; return how many events that were.

    Each batch is a transaction of its own. The sequences keep their last number, so that none is given twice.
    """
    _swept(db, _SWEEP_DELIVERIES, days=days)
    return _swept(db, _SWEEP_EVENTS, days=days)


def _swept(db: Database, statement: sa.TextClause, *, days: int) -> int:
    swept = 0
    while True:
        with db.transaction() as session:
            result: Any = session.execute(statement, {"days": days, "most": SWEPT_AT_ONCE})
        swept += int(result.rowcount)
        if result.rowcount < SWEPT_AT_ONCE:
            return swept


def _recorded(
    item: Event, shown: dict[str, Any], *, sequence: int, job_id: str | None, session_id: str | None
) -> EventRecorded:
    event = {**shown, "orgsequence": sequence}
    return EventRecorded(
        meta=events.caused_by(item),
        org_id=shown["orgid"],
        orgsequence=sequence,
        type=shown["type"],
        event=event if len(msgspec.json.encode(event)) <= SENT_ALONG_BYTES else None,
        job_id=job_id,
        session_id=session_id,
    )


def _text(item: Event, field: str) -> str | None:
    value = getattr(item, field, None)
    return value if isinstance(value, str) else None
