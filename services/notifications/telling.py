"""Telling people: from notices to messages in inboxes and mails, as each of them prefers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from services.notifications import inbox, mailing, people, preferences
from services.notifications.inbox import NewMessage
from services.notifications.mailing import NewMail
from services.notifications.notices import MEMBERS, Notice, notice_of
from services.notifications.people import OWNER, Recipient
from shared.database import Database
from shared.events import Event, MemberInvited, PasswordResetRequested

LINK_MARGIN = timedelta(minutes=1)


def tell(db: Database, session: Session, items: Sequence[Event]) -> list[Event]:
    """Put what is worth telling into inboxes and mails; whatever was told before changes nothing."""
    notices = [notice for item in items if (notice := notice_of(item))]
    if not notices:
        return []
    told = [(notice, each) for notice, recipients in _recipients(session, notices) for each in recipients]
    chosen = preferences.of(session, {(each.org_id, each.user_id) for _, each in told})
    messages, mails = [], []
    for notice, each in told:
        wanted = chosen.get((each.org_id, each.user_id)) or preferences.with_defaults({})
        if notice.browser_kind is None or wanted["browser"][notice.browser_kind]:
            messages.append(_message(notice, each))
        if each.email and _by_mail(notice, wanted):
            mails.append(_mail(notice, each, wanted))
    inbox.add(session, messages)
    mailing.add(db, session, mails)
    return []


def keep_people(db: Database, session: Session, items: Sequence[Event]) -> list[Event]:
    """Note who is a member where, send the invitations, and tell those who left nothing more."""
    named = {people.keep(session, item) for item in items}
    mailing.add(db, session, [_invitation(item) for item in items if isinstance(item, MemberInvited)])
    mailing.forget_removed(session, named)
    return []


def send_resets(db: Database, session: Session, items: Sequence[PasswordResetRequested]) -> list[Event]:
    """Send the links by which members set a new password."""
    mails = [
        NewMail(
            org_id=item.org_id,
            user_id=item.user_id,
            key=f"password_reset/{item.reset_id}",
            kind="password_reset",
            recipient=item.email,
            facts={"reset_id": item.reset_id, "expires_at": item.expires_at},
            priority=0,
            expires_at=_end(item.expires_at),
        )
        for item in items
    ]
    mailing.add(db, session, mails)
    return []


def _invitation(item: MemberInvited) -> NewMail:
    return NewMail(
        org_id=item.org_id,
        user_id=item.user_id,
        key=f"invitation/{item.invitation_id}",
        kind="invitation",
        recipient=item.email,
        facts={
            "invitation_id": item.invitation_id,
            "expires_at": item.expires_at,
            "inviter": item.inviter or item.inviter_name,
            "organization": item.organization_name,
            "role": item.role,
        },
        priority=0,
        expires_at=_end(item.expires_at),
    )


def _recipients(session: Session, notices: Sequence[Notice]) -> list[tuple[Notice, list[Recipient]]]:
    """Return whom each notice goes to: the person whose job it was, else the organization's owners or members."""
    members = people.members(session, sorted({notice.org_id for notice in notices}))
    found = []
    for notice in notices:
        known = {person.user_id: people.recipient(person) for person in members[notice.org_id]}
        if notice.user_id:
            one = known.get(notice.user_id) or Recipient(org_id=notice.org_id, user_id=notice.user_id)
            found.append((notice, [one]))
            continue
        of_all = notice.to == MEMBERS
        found.append(
            (notice, [known[person.user_id] for person in members[notice.org_id] if of_all or person.role == OWNER])
        )
    return found


def _by_mail(notice: Notice, wanted: dict[str, Any]) -> bool:
    if notice.email_kind:
        return bool(wanted["email"][notice.email_kind])
    return notice.browser_kind is None or bool(wanted["browser"][notice.browser_kind])


def _message(notice: Notice, to: Recipient) -> NewMessage:
    return NewMessage(
        org_id=to.org_id,
        user_id=to.user_id,
        key=notice.key,
        kind=notice.kind,
        text=notice.text,
        job_id=notice.job_id,
        session_id=notice.session_id,
    )


def _mail(notice: Notice, to: Recipient, wanted: dict[str, Any]) -> NewMail:
    # What nobody can switch off is not put off either.
    digest = wanted["frequency"] == preferences.DAILY_DIGEST and notice.email_kind is not None
    return NewMail(
        org_id=to.org_id,
        user_id=to.user_id,
        key=f"{notice.key}/{to.user_id}",
        kind=notice.kind,
        recipient=to.email or "",
        facts={**notice.facts, "text": notice.text, "name": to.name, "timezone": wanted["timezone"]},
        gathered=digest,
        due_at=preferences.quiet_until(wanted, now=datetime.now(UTC)) if notice.browser_kind else None,
    )


def _end(text: str) -> datetime:
    return datetime.fromisoformat(text) - LINK_MARGIN
