"""Mails as rows: added once each, cancelled, expired, swept. How they leave is told in `sending`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from services.notifications import metrics
from services.notifications.leases import FREE
from shared.database import Database, once_committed
from shared.ids import new_id

log = structlog.get_logger(__name__)

MAILS_CHANNEL: Final = "mails"
OPERATORS: Final = "operators"  # whose mails are of no organization
KEPT_DAYS: Final = 90
_EXPIRED_AT_ONCE: Final = 1_000
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
# Some at a time: many may have waited for a mail server that nobody named.
_EXPIRE = sa.text(f"""
WITH old AS (
    SELECT id FROM mails WHERE status = 'pending' AND expires_at <= statement_timestamp() AND {FREE}
    ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE mails m SET status = 'expired', ended_at = now(), lease_until = NULL FROM old WHERE m.id = old.id
RETURNING m.id
""")
_CANCEL = sa.text("""
UPDATE mails SET status = 'cancelled', ended_at = now()
WHERE org_id = :org_id AND user_id = :user_id AND kind = ANY (:kinds) AND ended_at IS NULL
""")
_FORGET = sa.text("""
UPDATE mails m
SET recipient = '', lease_until = NULL, ended_at = coalesce(ended_at, now()),
    status = CASE WHEN ended_at IS NULL THEN 'cancelled' ELSE m.status END
FROM unnest(CAST(:org_ids AS text[]), CAST(:user_ids AS text[])) AS given (org_id, user_id)
JOIN people p USING (org_id, user_id)
WHERE m.org_id = p.org_id AND m.user_id = p.user_id AND p.status = 'removed' AND m.recipient <> ''
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


def add(db: Database, session: Session, mails: Sequence[NewMail]) -> int:
    """Add mails, and return how many; those there are already stay as they are."""
    if not mails:
        return 0
    added = session.scalars(_ADD, {"mails": [_row(mail) for mail in mails]}).all()
    db.notify(session, MAILS_CHANNEL)
    return len(added)


def cancel(session: Session, *, org_id: str, user_id: str, kinds: Collection[str]) -> None:
    """Send somebody no mail of these kinds any more that has not left yet, be it under way."""
    session.execute(_CANCEL, {"org_id": org_id, "user_id": user_id, "kinds": list(kinds)})


def forget_removed(session: Session, people: Collection[tuple[str, str]]) -> None:
    """Send nothing more to those of these people, by organization and user, who are no members any more.

    Their address is forgotten, in what was sent too.
    """
    given = sorted(people)
    session.execute(_FORGET, {"org_ids": [each[0] for each in given], "user_ids": [each[1] for each in given]})


def expire(session: Session) -> None:
    """End mails whose time is over, some at a time."""
    expired = session.scalars(_EXPIRE, {"most": _EXPIRED_AT_ONCE}).all()
    if expired:
        log.warning("mails_expired", mail_ids=list(expired[:20]), count=len(expired))
        once_committed(session, lambda: metrics.deliveries.labels("email", "expired").inc(len(expired)))


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
