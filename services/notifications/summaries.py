"""Mails that gather: the week of an organization, and somebody's day.

Each is made once, however many replicas look whether it is due: its key says for when and whom. One that cannot be
made is left out, and looked at again next time: it holds up nobody else's.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import mailing, people, preferences
from services.notifications.mailing import NewMail
from services.notifications.models import Mail
from shared.database import Database, undo
from shared.times import rfc3339

log = structlog.get_logger(__name__)

DIGEST_HOUR: Final = 8  # of each reader's own day
WEEKLY_HOUR: Final = 8  # UTC, on Mondays
ITEMS_MAX: Final = 50
READERS_AT_ONCE: Final = 500

# A job's end may have been told more than once; it counts once. What a test key asked for does not count.
_WEEK = sa.text("""
SELECT count(*) AS jobs, coalesce(sum(succeeded), 0) AS images, coalesce(sum(failed), 0) AS failed
FROM (
    SELECT DISTINCT ON (job_id) succeeded, failed FROM recorded_events
    WHERE org_id = :org_id AND type = 'JobFinished' AND recorded_at >= :since AND recorded_at < :until
        AND NOT of_test_key
    ORDER BY job_id, sequence
) AS ended
""")
# Those who have no mail of this week yet: a week is added up for them only, not every time we look.
_OF_WEEK = sa.text("""
SELECT p.org_id, p.user_id, p.email, c.chosen
FROM people p JOIN preferences c ON c.org_id = p.org_id AND c.user_id = p.user_id
WHERE p.status = 'active' AND p.email IS NOT NULL
    AND ((c.chosen -> 'email') ->> 'weekly_usage_summary') = 'true' AND (c.org_id, c.user_id) > (:org_id, :user_id)
    AND NOT EXISTS (SELECT FROM mails m WHERE m.key = concat(CAST(:week AS text), '/', p.user_id))
ORDER BY c.org_id, c.user_id LIMIT :most
""")
_OF_DAY = sa.text("""
SELECT DISTINCT org_id, user_id FROM mails
WHERE status = 'gathered' AND (org_id, user_id) > (:org_id, :user_id) ORDER BY org_id, user_id LIMIT :most
""")
_GATHER = sa.text("""
WITH told AS (
    UPDATE mails SET status = 'digested', ended_at = now()
    WHERE org_id = :org_id AND user_id = :user_id AND status = 'gathered'
    RETURNING id, created_at, recipient, facts ->> 'text' AS text
)
SELECT text, first_value(recipient) OVER (ORDER BY created_at DESC, id DESC) AS recipient, count(*) OVER () AS count
FROM told ORDER BY created_at, id LIMIT :most
""")


def send_weekly(db: Database, *, now: datetime | None = None) -> int:
    """Send everybody who asked for it the summary of last week, from Monday 08:00 UTC on; return how many."""
    moment = now or datetime.now(UTC)
    monday = datetime.combine(moment.date() - timedelta(days=moment.weekday()), time(), tzinfo=UTC)
    if moment < monday + timedelta(hours=WEEKLY_HOUR):
        return 0
    year, number, _ = (monday - timedelta(days=1)).isocalendar()
    week = f"weekly_usage_summary/{year}-W{number:02d}"
    sent = 0
    for page in _pages(db, _OF_WEEK, week=week):
        for org_id, readers in groupby(page, key=lambda reader: reader.org_id):
            try:
                with db.transaction() as session:
                    mails = _weekly_mails(session, org_id, list(readers), week=week, until=monday)
                    sent += mailing.add(db, session, mails)
            except Exception:
                log.exception("week_not_summed_up", org_id=org_id, week=week)
    return sent


def send_digests(db: Database, *, now: datetime | None = None) -> int:
    """Send everybody for whom mails were gathered one mail with what they say, from 08:00 of their own day on."""
    moment = now or datetime.now(UTC)
    sent = 0
    for page in _pages(db, _OF_DAY):
        for reader in page:
            try:
                with db.transaction() as session:
                    sent += _send_digest(db, session, org_id=reader.org_id, user_id=reader.user_id, now=moment)
            except Exception:
                log.exception("day_not_gathered", org_id=reader.org_id, user_id=reader.user_id)
    return sent


def _pages(db: Database, statement: sa.TextClause, **values: Any) -> Iterator[Sequence[Any]]:
    """Yield readers, some at a time, in the order of organizations and users."""
    org_id, user_id = "", ""
    while True:
        with db.transaction() as session:
            asked = {"org_id": org_id, "user_id": user_id, "most": READERS_AT_ONCE, **values}
            page = session.execute(statement, asked).all()
        if not page:
            return
        yield page
        org_id, user_id = page[-1].org_id, page[-1].user_id


def _weekly_mails(
    session: Session, org_id: str, readers: Sequence[Any], *, week: str, until: datetime
) -> list[NewMail]:
    figures = session.execute(_WEEK, {"org_id": org_id, "since": until - timedelta(days=7), "until": until}).one()
    facts = {
        "organization": people.organization_name(session, org_id=org_id) or "your organization",
        "until": rfc3339(until),
        "jobs": figures.jobs,
        "images": int(figures.images),
        "failed": int(figures.failed),
    }
    return [
        NewMail(
            org_id=org_id,
            user_id=reader.user_id,
            key=f"{week}/{reader.user_id}",
            kind="weekly_usage_summary",
            recipient=reader.email,
            facts={**facts, "timezone": preferences.with_defaults(reader.chosen)["timezone"]},
            priority=2,
        )
        for reader in readers
    ]


def _send_digest(db: Database, session: Session, *, org_id: str, user_id: str, now: datetime) -> int:
    wanted = preferences.one(session, org_id=org_id, user_id=user_id)
    local = now.astimezone(preferences.zone(wanted["timezone"]))
    # What was gathered before the preference was changed back waits no longer.
    if wanted["frequency"] == preferences.DAILY_DIGEST and local.hour < DIGEST_HOUR:
        return 0
    key = f"daily_digest/{local.date()}/{user_id}"
    if session.scalar(sa.select(Mail.id).where(Mail.key == key)):
        return 0
    gathered = session.execute(_GATHER, {"org_id": org_id, "user_id": user_id, "most": ITEMS_MAX}).all()
    if not gathered:
        return 0
    digest = NewMail(
        org_id=org_id,
        user_id=user_id,
        key=key,
        kind="daily_digest",
        recipient=gathered[0].recipient,
        facts={"items": [each.text for each in gathered], "count": gathered[0].count},
    )
    added = mailing.add(db, session, [digest])
    if not added:  # another replica has sent today's meanwhile: these wait for tomorrow's
        undo(session)
    return added
