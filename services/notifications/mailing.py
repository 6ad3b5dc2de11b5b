"""Mails as rows: added, claimed, sent, recorded, tried again. No transaction is open while the mail server is asked.

A mail leaves at least once: whoever dies between the server's answer and the record leaves it to be sent again, under
the same Message-ID, by which readers' programs can tell.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from services.notifications import letters, metrics
from services.notifications.courier import Courier, insist
from services.notifications.email import Outcome, Refused, Sent, Transport, Undelivered, transport_for
from services.notifications.letters import Desk
from shared.config import Settings
from shared.crash import crash_point
from shared.database import Database, once_committed
from shared.events import EmailSent, Event
from shared.ids import new_id

log = structlog.get_logger(__name__)

MAILS_CHANNEL: Final = "mails"
OPERATORS: Final = "operators"  # whose mails are of no organization
SLOTS: Final = 4
LEASE_SECONDS: Final = 120.0  # twice what the mail server may take, and some
KEPT_DAYS: Final = 90
FIRST_RETRY_SECONDS: Final = 30.0
LONGEST_RETRY_SECONDS: Final = 6 * 3600.0
_SWEPT_AT_ONCE: Final = 5_000

_ADD = sa.text("""
INSERT INTO mails (id, org_id, user_id, key, kind, recipient, facts, priority, status, due_at, expires_at)
SELECT id, org_id, user_id, key, kind, recipient, facts, priority, status,
    coalesce(CAST(due_at AS timestamptz), now()),
    coalesce(CAST(expires_at AS timestamptz), now() + interval '3 days')
FROM jsonb_to_recordset(:mails) AS given (
    id text, org_id text, user_id text, key text, kind text, recipient text, facts jsonb, priority smallint,
    status text, due_at text, expires_at text)
ORDER BY key
ON CONFLICT (key) DO NOTHING
RETURNING id
""").bindparams(sa.bindparam("mails", type_=JSONB))
_EXPIRE = sa.text("""
UPDATE mails SET status = 'expired', ended_at = now(), lease_until = NULL
WHERE status = 'pending' AND expires_at <= statement_timestamp()
    AND (lease_until IS NULL OR lease_until <= statement_timestamp())
RETURNING id
""")
_CLAIM = sa.text("""
WITH due AS (
    SELECT id FROM mails
    WHERE status = 'pending' AND due_at <= statement_timestamp() AND expires_at > statement_timestamp()
        AND (lease_until IS NULL OR lease_until <= statement_timestamp())
    ORDER BY priority, due_at LIMIT :free FOR UPDATE SKIP LOCKED
)
UPDATE mails m
SET attempt = m.attempt + 1, fence = m.fence + 1, lease_until = clock_timestamp() + make_interval(secs => :lease)
FROM due WHERE m.id = due.id
RETURNING m.id, m.org_id, m.user_id, m.kind, m.recipient, m.facts, m.attempt, m.fence, m.created_at
""")
_SETTLE = sa.text("""
UPDATE mails
SET status = :status, failure = :failure, lease_until = NULL,
    due_at = clock_timestamp() + make_interval(secs => :seconds),
    ended_at = CASE WHEN :status = 'pending' THEN NULL ELSE now() END
WHERE id = :id AND fence = :fence AND status = 'pending'
RETURNING id
""")
_CANCEL_FOR_REMOVED = sa.text("""
UPDATE mails m SET status = 'cancelled', ended_at = now(), lease_until = NULL
FROM people p
WHERE m.org_id = p.org_id AND m.user_id = p.user_id AND p.status = 'removed' AND m.ended_at IS NULL
""")
_SWEEP = sa.text("""
WITH old AS (
    SELECT id FROM mails WHERE ended_at < now() - make_interval(days => :days) ORDER BY ended_at LIMIT :most
)
DELETE FROM mails m USING old WHERE m.id = old.id
""")
_SWEEP_MESSAGES = sa.text("""
WITH old AS (
    SELECT id FROM messages WHERE created_at < now() - make_interval(days => :days) ORDER BY created_at LIMIT :most
)
DELETE FROM messages m USING old WHERE m.id = old.id
""")
_PENDING = sa.text("SELECT count(*) FROM (SELECT FROM mails WHERE status = 'pending' LIMIT 100000) AS pending")


@dataclass(frozen=True, kw_only=True)
class NewMail:
    """A mail to be sent, unless there is one with this ``key``; at once, unless ``due_at`` says when.

    ``gathered`` ones wait for the daily digest.
    """

    org_id: str
    user_id: str | None
    key: str
    kind: str
    recipient: str
    facts: Mapping[str, Any]
    priority: int = 1
    gathered: bool = False
    due_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimedMail:
    """A mail that is this worker's until its lease ends; ``fence`` proves it when it is recorded."""

    id: str
    org_id: str
    user_id: str | None
    kind: str
    recipient: str
    facts: Mapping[str, Any]
    attempt: int
    fence: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class MailRoom:
    """What sending mails takes: who writes them, and how they leave; None where no mail server is known."""

    desk: Desk
    transport: Transport | None


def mail_room_for(settings: Settings) -> MailRoom:
    """Return the mail room of a process with these settings.

    Raises:
        ConfigurationError: SMTP_URL or MAIL_FROM cannot be read.
    """
    desk = Desk(
        sender=letters.sender_of(settings.mail_from), public_url=settings.public_url, secret=settings.signing_secret
    )
    if not settings.smtp_url:
        log.warning("no_mail_is_sent", reason="SMTP_URL is not set; mails wait for it until they expire")
    return MailRoom(desk=desk, transport=transport_for(settings.smtp_url) if settings.smtp_url else None)


def add(db: Database, session: Session, mails: Sequence[NewMail]) -> int:
    """Add mails, and return how many; those there are already stay as they are."""
    if not mails:
        return 0
    added = session.scalars(_ADD, {"mails": [_row(mail) for mail in mails]}).all()
    db.notify(session, MAILS_CHANNEL)
    return len(added)


def cancel_for_removed(session: Session) -> None:
    """Send nothing more to those who are no members any more."""
    session.execute(_CANCEL_FOR_REMOVED)


def run(db: Database, room: MailRoom, stopping: Callable[[], bool], *, slots: int = SLOTS) -> None:
    """Send what is due until ``stopping()``."""

    def claim(free: int, _held: Sequence[ClaimedMail]) -> list[ClaimedMail]:
        if room.transport is None:
            return []
        with db.transaction() as session:
            return claim_due(session, free=free)

    Courier(db, channel=MAILS_CHANNEL, slots=slots, claim=claim, work=lambda item: send(db, room, item)).run(stopping)


def claim_due(session: Session, *, free: int, lease_seconds: float = LEASE_SECONDS) -> list[ClaimedMail]:
    """Claim at most ``free`` mails that are due; those whose time is over end here."""
    expired = session.scalars(_EXPIRE).all()
    if expired:
        log.warning("mails_expired", mail_ids=list(expired[:20]), count=len(expired))
        once_committed(session, lambda: metrics.deliveries.labels("email", "expired").inc(len(expired)))
    rows = session.execute(_CLAIM, {"free": free, "lease": lease_seconds}).mappings()
    return [ClaimedMail(**row) for row in rows]


def send(db: Database, room: MailRoom, item: ClaimedMail) -> None:
    """Write one claimed mail, hand it over, and record what came of it."""
    crash_point("mails.after_claim")
    outcome = _sent(room, item)
    told = {"mail_id": item.id, "kind": item.kind, "attempt": item.attempt}
    log.info("mail_tried", **told, outcome=type(outcome).__name__, failure=getattr(outcome, "failure", None))
    crash_point("mails.after_call")
    insist(lambda: _record(db, item, outcome))


def report_pending(session: Session) -> None:
    """Show how many mails there are to send."""
    metrics.deliveries_pending.labels("email").set(session.scalar(_PENDING) or 0)


def sweep(db: Database) -> None:
    """Delete mails and messages that nobody needs any more."""
    for statement in (_SWEEP, _SWEEP_MESSAGES):
        swept = _SWEPT_AT_ONCE
        while swept == _SWEPT_AT_ONCE:
            with db.transaction() as session:
                result: Any = session.execute(statement, {"days": KEPT_DAYS, "most": _SWEPT_AT_ONCE})
                swept = result.rowcount


def retry_seconds(attempt: int, *, jitter: float = 0.0) -> float:
    """Return the wait after attempt number ``attempt``: 30 s, then four times as long each time, 6 h at most."""
    return min(FIRST_RETRY_SECONDS * 4.0 ** (attempt - 1), LONGEST_RETRY_SECONDS) * (1 + jitter / 10)


def _sent(room: MailRoom, item: ClaimedMail) -> Outcome:
    if room.transport is None:
        return Undelivered(failure="no mail server is known")
    try:
        letter = letters.write(
            room.desk,
            mail_id=item.id,
            kind=item.kind,
            recipient=item.recipient,
            facts=item.facts,
            created_at=item.created_at,
        )
    except letters.Unwritable as error:
        return Refused(failure=str(error))
    with metrics.delivery_seconds.labels("email").time():
        return room.transport.send(letter)


def _record(db: Database, item: ClaimedMail, outcome: Outcome) -> None:
    with db.transaction() as session:
        db.publish(session, _settle(session, item, outcome))


def _settle(session: Session, item: ClaimedMail, outcome: Outcome) -> list[Event]:
    status = {Sent: "sent", Refused: "failed", Undelivered: "pending"}[type(outcome)]
    jitter = secrets.SystemRandom().uniform(-1, 1)
    values = {
        "id": item.id,
        "fence": item.fence,
        "status": status,
        "failure": getattr(outcome, "failure", None),
        "seconds": retry_seconds(item.attempt, jitter=jitter) if status == "pending" else 0.0,
    }
    if not session.scalar(_SETTLE, values):
        log.warning("mail_claim_lost", mail_id=item.id)
        return []
    label = {"sent": "delivered", "failed": "failed", "pending": "retried"}[status]
    once_committed(session, lambda: metrics.deliveries.labels("email", label).inc())
    if status != "sent" or item.org_id == OPERATORS:
        return []
    return [EmailSent(mail_id=item.id, org_id=item.org_id, user_id=item.user_id, kind=item.kind)]


def _row(mail: NewMail) -> dict[str, Any]:
    return {
        "id": new_id("eml"),
        "org_id": mail.org_id,
        "user_id": mail.user_id,
        "key": mail.key,
        "kind": mail.kind,
        "recipient": mail.recipient,
        "facts": dict(mail.facts),
        "priority": mail.priority,
        "status": "gathered" if mail.gathered else "pending",
        "due_at": mail.due_at and mail.due_at.isoformat(),
        "expires_at": mail.expires_at and mail.expires_at.isoformat(),
    }
