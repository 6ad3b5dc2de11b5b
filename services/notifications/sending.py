"""How mails leave: claimed, written, handed over, recorded, tried again. No transaction is open meanwhile.

A mail leaves at least once: whoever dies between the server's answer and the record leaves it to be sent again, under
the same Message-ID, by which readers' programs can tell.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy.orm import Session

from services.notifications import letters, mailing, metrics, tips
from services.notifications.courier import Courier, insist
from services.notifications.email import Outcome, Refused, Sent, Transport, Undelivered, transport_for
from services.notifications.leases import Leases
from services.notifications.letters import Desk
from shared.config import Settings
from shared.crash import crash_point
from shared.database import Database, once_committed
from shared.events import EmailSent, Event

log = structlog.get_logger(__name__)

SLOTS: Final = 4
LEASE_SECONDS: Final = 120.0  # twice what the mail server may take, and some
FIRST_RETRY_SECONDS: Final = 30.0
LONGEST_RETRY_SECONDS: Final = 6 * 3600.0
# That somebody has asked for a new password is nobody else's business.
_PRIVATE: Final = frozenset({"password_reset"})
_leases = Leases(
    "mails",
    columns=("org_id", "user_id", "kind", "recipient", "facts", "created_at"),
    order="priority, due_at",
    condition="expires_at > statement_timestamp()",
)


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


def run(db: Database, room: MailRoom, stopping: Callable[[], bool], *, slots: int = SLOTS) -> None:
    """Send what is due until ``stopping()``."""

    def claim(free: int, _held: Sequence[ClaimedMail]) -> list[ClaimedMail]:
        with db.transaction() as session:
            return claim_due(session, free=free if room.transport else 0)

    Courier(db, channel=mailing.MAILS_CHANNEL, slots=slots, claim=claim, work=lambda item: send(db, room, item)).run(
        stopping
    )


def claim_due(session: Session, *, free: int, lease_seconds: float = LEASE_SECONDS) -> list[ClaimedMail]:
    """Claim at most ``free`` mails that are due; those whose time is over end here."""
    mailing.expire(session)
    rows = _leases.claim(session, free=free, seconds=lease_seconds)
    # A tip is kept once, not with each of its mails.
    said = tips.facts(session, [row["facts"]["tip_id"] for row in rows if "tip_id" in row["facts"]])
    for row in rows:
        row["facts"] |= said.get(row["facts"].get("tip_id"), {})
    return [ClaimedMail(**row) for row in rows]


def send(db: Database, room: MailRoom, item: ClaimedMail) -> None:
    """Write one claimed mail, hand it over, and record what came of it."""
    crash_point("mails.after_claim")
    outcome = _sent(room, item)
    told = {"mail_id": item.id, "kind": item.kind, "attempt": item.attempt}
    log.info("mail_tried", **told, outcome=type(outcome).__name__, failure=getattr(outcome, "failure", None))
    crash_point("mails.after_call")
    insist(lambda: _record(db, item, outcome))


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
    settled = _leases.settle(
        session,
        id=item.id,
        fence=item.fence,
        status=status,
        failure=getattr(outcome, "failure", None),
        seconds=retry_seconds(item.attempt, jitter=jitter) if status == "pending" else 0.0,
    )
    if not settled:
        log.warning("mail_claim_lost", mail_id=item.id)
        return []
    label = {"sent": "delivered", "failed": "failed", "pending": "retried"}[status]
    once_committed(session, lambda: metrics.deliveries.labels("email", label).inc())
    if status != "sent" or item.org_id == mailing.OPERATORS or item.kind in _PRIVATE:
        return []
    return [EmailSent(mail_id=item.id, org_id=item.org_id, user_id=item.user_id, kind=item.kind)]
