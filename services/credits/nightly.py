"""The audit of every night: one replica runs it, and all of them show what it found."""

from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import JSONB

from services.credits import audit, metrics, seals
from services.credits.handlers import OVERDUE_AFTER
from shared.database import Database
from shared.events import LedgerInvariantViolated

log = structlog.get_logger(__name__)

AFTER_MIDNIGHT = timedelta(hours=3)  # UTC
TIME_LIMIT_SECONDS = 1500.0
# Longer than the time limit, so that what has not finished by then never will.
AGAIN_AFTER = timedelta(minutes=30)
KEPT = timedelta(days=90)

# A claim: of any number of replicas one gets the night, and another one only when the first did not finish it.
_CLAIM = sa.text(
    "INSERT INTO audits (night, started_at)"
    " SELECT ((moment - CAST(:after_midnight AS interval)) AT TIME ZONE 'UTC')::date, moment"
    " FROM (SELECT coalesce(:now, clock_timestamp()) AS moment)"
    " ON CONFLICT (night) DO UPDATE SET started_at = excluded.started_at"
    " WHERE audits.finished_at IS NULL AND audits.started_at < excluded.started_at - CAST(:again_after AS interval)"
    " RETURNING night"
)
_FINISH = sa.text(
    "UPDATE audits SET finished_at = coalesce(:now, clock_timestamp()), violations = :violations, first = :first"
    " WHERE night = :night"
).bindparams(sa.bindparam("first", type_=JSONB(none_as_null=True)))
_PRUNE = sa.text("DELETE FROM audits WHERE night < CAST(:night AS date) - CAST(:kept AS interval)")
_NEWEST = sa.text("SELECT violations FROM audits WHERE finished_at IS NOT NULL ORDER BY night DESC LIMIT 1")


def audit_nightly(db: Database, *, now: datetime | None = None) -> None:
    """Audit the ledger once a night, after 03:00 UTC, and show what the newest audit found; to be called each minute.

    Any number of replicas may run it. ``now`` is the database's time unless given. A process that starts after 03:00
    and finds the night without an audit runs it then.
    """
    with db.transaction() as session:
        values = {"now": now, "after_midnight": AFTER_MIDNIGHT, "again_after": AGAIN_AFTER}
        night = session.scalar(_CLAIM, values)
    if night is not None:
        _audit(db, night, now=now)
    with db.transaction() as session:
        newest = session.scalar(_NEWEST)
    if newest is not None:
        metrics.invariant_violations.set(newest)


def _audit(db: Database, night: date, *, now: datetime | None) -> None:
    seals.seal_entries(db)  # after a standstill the audit would else find what nobody could have sealed
    with db.transaction(time_limit_seconds=TIME_LIMIT_SECONDS) as session:
        report = audit.run(session, grace=OVERDUE_AFTER)
    violations = report["violations"]
    first = violations[0] if violations else None
    with db.transaction() as session:
        values = {"night": night, "now": now, "violations": len(violations), "first": first}
        session.execute(_FINISH, values)
        session.execute(_PRUNE, {"night": night, "kept": KEPT})
        if first is not None:
            told = LedgerInvariantViolated(
                night=night.isoformat(), violations=len(violations), invariant=first["invariant"]
            )
            db.publish(session, [told])
    _tell(night, report, first)


def _tell(night: date, report: dict[str, Any], first: dict[str, Any] | None) -> None:
    figures = {"entries": report["entries"], "violations": len(report["violations"]), **report["chain"]}
    log.info("ledger_audit_finished", night=night.isoformat(), **figures)
    if first is not None:
        log.error("ledger_invariant_violated", night=night.isoformat(), **first, violations=figures["violations"])
