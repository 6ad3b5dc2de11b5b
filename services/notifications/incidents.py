"""Incidents as rows: opened by the first alarm, told to operators once by mail and once by webhook, closed in the end.

Any number of replicas may see the same: a lock per key lets one after the other look at what is known.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import alarms, mailing, metrics
from services.notifications.alarms import Alarm, AllClear, Known
from services.notifications.mailing import NewMail
from services.notifications.models import Incident
from shared.database import Database, once_committed
from shared.ids import new_id
from shared.times import rfc3339

log = structlog.get_logger(__name__)

ALERTS_CHANNEL: Final = "alerts"
KEPT_DAYS: Final = 90
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7301022, hashtext(:key))")
_NOW = sa.text("SELECT clock_timestamp()")
_CLOSE_ALL = sa.text("""
UPDATE incidents SET closed_at = clock_timestamp()
WHERE kind = :kind AND key = ANY (:keys) AND closed_at IS NULL
""")
_SWEEP = sa.text("""
DELETE FROM incidents
WHERE greatest(last_at, closed_at) < now() - make_interval(days => :days)
""")


def raise_alarm(db: Database, session: Session, alarm: Alarm, *, emails: Sequence[str], by_webhook: bool) -> str | None:
    """Note an alarm; return the id of the incident it opens, or None where it belongs to one that is known.

    Args:
        db: to wake who sends webhooks.
        session: of the system.
        alarm: what is wrong.
        emails: whom a new incident is mailed to.
        by_webhook: whether it is posted too.
    """
    session.execute(_LOCK, {"key": alarm.key})
    row, now = _newest(session, alarm.key), _now(session)
    known = _known(row)
    if row is not None and not alarms.is_news(known, alarm, now=now):
        row.seen += 1
        row.last_at = max(now, row.last_at)
        if not alarms.is_over_already(known, alarm):
            row.closed_at = None
        return None
    if row is not None:
        row.closed_at = row.closed_at or now  # the end of the one before was never told
    opened = _row(alarm, now=now, status="pending" if by_webhook else "none")
    session.add(opened)
    session.flush()
    mailing.add(db, session, [_mail(opened, email) for email in emails])
    if by_webhook:
        db.notify(session, ALERTS_CHANNEL)
    log.error("incident_opened", incident_id=opened.id, kind=alarm.kind, key=alarm.key, since=rfc3339(alarm.since))
    once_committed(session, lambda: metrics.incidents.labels(alarm.kind).inc())
    return opened.id


def all_clear(session: Session, clear: AllClear) -> None:
    """Close what it is about. One that overtook its alarm leaves word of it, so that the alarm finds it is over."""
    session.execute(_LOCK, {"key": clear.key})
    row, now = _newest(session, clear.key), _now(session)
    if row is None:
        past = Alarm(kind=clear.kind, key=clear.key, text="It was over before it was heard of.", remedy="",
                     since=clear.since)  # fmt: skip
        row = _row(past, now=now, status="none")
        session.add(row)
    # What has opened again since then is not over.
    if row.closed_at is None and clear.since >= row.since:
        row.closed_at = clear.at
    elif row.closed_at is not None:
        row.closed_at = max(row.closed_at, clear.at)


def close_all(session: Session, *, kind: str, keys: Collection[str]) -> None:
    """Close those of a kind that are open under these keys."""
    session.execute(_CLOSE_ALL, {"kind": kind, "keys": list(keys)})


def sweep(db: Database) -> None:
    """Delete incidents of which nothing has been heard for long, told or not, and whether or not they are over."""
    with db.transaction() as session:
        session.execute(_SWEEP, {"days": KEPT_DAYS})


def _newest(session: Session, key: str) -> Incident | None:
    return session.scalar(sa.select(Incident).where(Incident.key == key).order_by(Incident.id.desc()).limit(1))


def _known(row: Incident | None) -> Known | None:
    return None if row is None else Known(since=row.since, last_at=row.last_at, closed_at=row.closed_at)


def _now(session: Session) -> datetime:
    moment: datetime = session.execute(_NOW).scalar_one()
    return moment


def _row(alarm: Alarm, *, now: datetime, status: str) -> Incident:
    return Incident(
        id=new_id("inc"),
        kind=alarm.kind,
        key=alarm.key,
        text=alarm.text,
        remedy=alarm.remedy,
        since=alarm.since,
        last_at=now,
        status=status,
    )


def _mail(incident: Incident, email: str) -> NewMail:
    return NewMail(
        org_id=mailing.OPERATORS,
        user_id=None,
        key=f"operator_alert/{incident.id}/{email}",
        kind="operator_alert",
        recipient=email,
        facts={
            "incident_id": incident.id,
            "text": incident.text,
            "remedy": incident.remedy,
            "since": rfc3339(incident.since),
        },
        priority=0,
    )
