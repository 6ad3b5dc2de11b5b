"""Mails that gather: the week of an organization, somebody's day, and what an administrator has to say to many.

Each is made once, however many replicas look whether it is due: its key says for when and whom.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import mailing, people, preferences
from services.notifications.mailing import NewMail
from services.notifications.models import Mail, Person, Preference
from shared.database import Database
from shared.problems import BadRequest
from shared.times import rfc3339

log = structlog.get_logger(__name__)

DIGEST_HOUR: Final = 8  # of each reader's own day
WEEKLY_HOUR: Final = 8  # UTC, on Mondays
ITEMS_MAX: Final = 50
PARAGRAPHS_MAX: Final = 20
TEXT_MAX: Final = 2_000

# A job's end may have been told more than once; it counts once. What a test key asked for does not count.
_WEEK = sa.text("""
SELECT count(*) AS jobs, coalesce(sum(succeeded), 0) AS images, coalesce(sum(failed), 0) AS failed
FROM (
    SELECT DISTINCT ON (job_id) CAST(CAST(body AS jsonb) -> 'data' ->> 'succeeded' AS bigint) AS succeeded,
        CAST(CAST(body AS jsonb) -> 'data' ->> 'failed' AS bigint) AS failed
    FROM recorded_events
    WHERE org_id = :org_id AND type = 'JobFinished' AND recorded_at >= :since AND recorded_at < :until
        AND coalesce(CAST(CAST(body AS jsonb) -> 'data' ->> 'livemode' AS boolean), true)
    ORDER BY job_id, sequence
) AS ended
""")


def send_weekly(db: Database, *, now: datetime | None = None) -> int:
    """Send everybody who asked for it the summary of last week, from Monday 08:00 UTC on; return how many."""
    moment = now or datetime.now(UTC)
    monday = datetime.combine(moment.date() - timedelta(days=moment.weekday()), time(), tzinfo=UTC)
    if moment < monday + timedelta(hours=WEEKLY_HOUR):
        return 0
    with db.transaction() as session:
        readers = _without(session, _opted_in(session, "weekly_usage_summary"), until=monday)
    sent = 0
    for org_id, members in groupby(readers, key=lambda person: person.org_id):
        with db.transaction() as session:
            sent += mailing.add(db, session, _weekly_mails(session, org_id, list(members), until=monday))
    return sent


def send_digests(db: Database, *, now: datetime | None = None) -> int:
    """Send everybody for whom mails were gathered one mail with what they say, from 08:00 of their own day on."""
    moment = now or datetime.now(UTC)
    with db.transaction() as session:
        readers = session.execute(
            sa.select(Mail.org_id, Mail.user_id).where(Mail.status == "gathered").distinct().order_by(Mail.org_id)
        ).all()
    sent = 0
    for org_id, user_id in readers:
        if user_id is None:
            continue
        with db.transaction() as session:
            sent += _send_digest(db, session, org_id=org_id, user_id=user_id, now=moment)
    return sent


def send_tips(db: Database, *, tip_id: str, subject: str, paragraphs: Sequence[str]) -> dict[str, Any]:
    """Send everybody who asked for tips one; the same ``tip_id`` again reaches only those it has not reached.

    Returns:
        ``{tip_id, mails}``.

    Raises:
        BadRequest: it says nothing, or too much.
    """
    texts = [subject, *paragraphs]
    if not 1 <= len(paragraphs) <= PARAGRAPHS_MAX or not all(text.strip() and len(text) <= TEXT_MAX for text in texts):
        raise BadRequest(
            f"A tip has a subject and 1 to {PARAGRAPHS_MAX} paragraphs, each of at most {TEXT_MAX} characters."
        )
    with db.transaction() as session:
        mails = [
            NewMail(
                org_id=person.org_id,
                user_id=person.user_id,
                key=f"tips/{tip_id}/{person.user_id}",
                kind="tips",
                recipient=person.email or "",
                facts={"subject_line": subject, "paragraphs": list(paragraphs)},
                priority=2,
            )
            for person in _opted_in(session, "tips_and_best_practices")
        ]
        return {"tip_id": tip_id, "mails": mailing.add(db, session, mails)}


def _weekly_mails(session: Session, org_id: str, readers: Sequence[Person], *, until: datetime) -> list[NewMail]:
    week = session.execute(_WEEK, {"org_id": org_id, "since": until - timedelta(days=7), "until": until}).one()
    chosen = preferences.of(session, [person.user_id for person in readers])
    facts = {
        "organization": people.organization_name(session, org_id=org_id) or "your organization",
        "until": rfc3339(until),
        "jobs": week.jobs,
        "images": int(week.images),
        "failed": int(week.failed),
    }
    return [
        NewMail(
            org_id=org_id,
            user_id=person.user_id,
            key=_weekly_key(person, until=until),
            kind="weekly_usage_summary",
            recipient=person.email or "",
            facts={**facts, "timezone": chosen[org_id, person.user_id]["timezone"]},
            priority=2,
        )
        for person in readers
    ]


def _weekly_key(person: Person, *, until: datetime) -> str:
    year, number, _ = (until - timedelta(days=1)).isocalendar()
    return f"weekly_usage_summary/{year}-W{number:02d}/{person.user_id}"


def _without(session: Session, readers: Sequence[Person], *, until: datetime) -> Sequence[Person]:
    """Return those who have no mail of this week yet: a week is added up for them only, not every time we look."""
    keys = [_weekly_key(person, until=until) for person in readers]
    known = set(session.scalars(sa.select(Mail.key).where(Mail.key.in_(keys))))
    return [person for person, key in zip(readers, keys, strict=True) if key not in known]


def _send_digest(db: Database, session: Session, *, org_id: str, user_id: str, now: datetime) -> int:
    wanted = preferences.one(session, org_id=org_id, user_id=user_id)
    local = now.astimezone(preferences.zone(wanted["timezone"]))
    # What was gathered before the preference was changed back waits no longer.
    if wanted["frequency"] == preferences.DAILY_DIGEST and local.hour < DIGEST_HOUR:
        return 0
    gathered = session.scalars(
        sa.select(Mail)
        .where(Mail.org_id == org_id, Mail.user_id == user_id, Mail.status == "gathered")
        .order_by(Mail.created_at, Mail.id)
        .with_for_update(skip_locked=True)
    ).all()
    if not gathered:
        return 0
    added = mailing.add(db, session, [_digest(gathered, key=f"daily_digest/{local.date()}/{user_id}")])
    if added:
        for mail in gathered:
            mail.status, mail.ended_at = "digested", now
    return added


def _digest(gathered: Sequence[Mail], *, key: str) -> NewMail:
    newest = gathered[-1]
    return NewMail(
        org_id=newest.org_id,
        user_id=newest.user_id,
        key=key,
        kind="daily_digest",
        recipient=newest.recipient,
        facts={"items": [mail.facts["text"] for mail in gathered[:ITEMS_MAX]], "count": len(gathered)},
    )


def _opted_in(session: Session, kind: str) -> Sequence[Person]:
    """Return the active members, with an address, who have asked for mails of a kind; by organization."""
    asked = Preference.chosen["email"][kind].astext == "true"
    statement = (
        sa.select(Person)
        .join(Preference, sa.and_(Preference.org_id == Person.org_id, Preference.user_id == Person.user_id))
        .where(Person.status == "active", Person.email.is_not(None), asked)
        .order_by(Person.org_id, Person.user_id)
    )
    return session.scalars(statement).all()
