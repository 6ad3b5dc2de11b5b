"""Telling people: from what happened to notices, and from these into the channels, as each of them prefers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from services.notifications import mailing, people, preferences, sessions
from services.notifications.channels import CHANNELS, Channel, Told
from services.notifications.mailing import NewMail
from services.notifications.notices import Notice, notice_of
from services.notifications.people import OWNER, Recipient
from shared.database import Database
from shared.events import Event, JobFinished, MemberInvited, PasswordResetRequested

LINK_MARGIN = timedelta(minutes=1)


def tell(
    db: Database, session: Session, items: Sequence[Event], *, channels: Mapping[str, Channel] = CHANNELS
) -> list[Event]:
    """Put what is worth telling into the channels; whatever was told before changes nothing."""
    notices = _notices(session, items)
    if not notices:
        return []
    to_tell = {
        (each.org_id, each.user_id, notice.key): (notice, each)
        for notice, recipients in _recipients(session, notices)
        for each in recipients
    }
    chosen = preferences.of(session, sorted({each.user_id for _, each in to_tell.values()}))
    told = [
        Told(notice=notice, to=each, wanted=chosen.get((each.org_id, each.user_id)) or preferences.with_defaults({}))
        for notice, each in to_tell.values()
    ]
    for add in channels.values():
        add(db, session, told)
    return []


def keep_people(db: Database, session: Session, items: Sequence[Event]) -> list[Event]:
    """Note who is a member where, send the invitations, and tell those who left nothing more."""
    for item in items:
        people.keep(session, item)
    mailing.add(db, session, [_invitation(item) for item in items if isinstance(item, MemberInvited)])
    mailing.cancel_for_removed(session)
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
            "inviter": item.inviter_name,
            "organization": item.organization_name,
            "role": item.role,
        },
        priority=0,
        expires_at=_end(item.expires_at),
    )


def _notices(session: Session, items: Sequence[Event]) -> list[Notice]:
    """Return what is to be told of these; jobs of one session say all the same."""
    standings = sessions.note(session, items)
    found = []
    for item in items:
        of_session = standings.get((item.org_id, item.session_id or "")) if isinstance(item, JobFinished) else None
        found.append(notice_of(item, standing=of_session))
    return [notice for notice in found if notice]


def _recipients(session: Session, notices: Sequence[Notice]) -> list[tuple[Notice, list[Recipient]]]:
    """Return whom each notice goes to: the person whose job it was, else the organization's owners."""
    members = people.members(session, sorted({notice.org_id for notice in notices}))
    found = []
    for notice in notices:
        known = {person.user_id: people.recipient(person) for person in members[notice.org_id]}
        if notice.user_id:
            one = known.get(notice.user_id) or Recipient(org_id=notice.org_id, user_id=notice.user_id)
            found.append((notice, [one]))
            continue
        owners = [known[person.user_id] for person in members[notice.org_id] if person.role == OWNER]
        found.append((notice, owners))
    return found


def _end(text: str) -> datetime:
    return datetime.fromisoformat(text) - LINK_MARGIN
