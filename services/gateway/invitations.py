"""Inviting people: a member that waits, an invitation of 7 days that is good once, and the token in its link.

No token is ever kept: it is made of the invitation's id and end whenever somebody may see it. Where mail is sent, the
mail alone has it (notifications makes it likewise), so that who signs up with it has proved that the address is theirs.
A known limit: where no mail is set up (no SMTP_URL), whoever invites gets it, and nothing proves that. So an owner can
take an address that is somebody else's, who then cannot sign up anywhere.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway import invitation_problems, members, pages, queries
from services.gateway.invitation_problems import AlreadyMember, InvitationUsed
from services.gateway.models import Invitation, Member, Organization
from services.gateway.permissions import OWNER
from shared import tokens
from shared.config import Settings
from shared.database import Database
from shared.events import MemberInvited
from shared.http import Principal
from shared.http_fields import rfc3339
from shared.ids import new_id
from shared.problems import NotFound

log = structlog.get_logger(__name__)

LIFETIME_DAYS = 7
_END: Any = sa.literal_column(f"date_trunc('second', now()) + interval '{LIFETIME_DAYS} days'")


@dataclass(frozen=True, kw_only=True)
class Inviter:
    """Who invites: a user's id, or ``admin:<name>``; and the name that the invited person reads."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Whom to invite, as what, under which id."""

    id: str
    org_id: str
    email: str
    role: str


def invite(db: Database, wanted: Wanted, *, asker: Principal) -> dict[str, Any]:
    """Invite somebody in the asker's name; the same id again changes nothing and returns the same, as `as_dict` does.

    An earlier invitation of theirs is taken back.

    Raises:
        Forbidden: the asker is no owner any more.
        AlreadyMember: they have joined this organization.
        LastOwner: they are its only owner, and would be none any more.
    """
    with db.transaction(org_id=wanted.org_id) as session:
        organization_name = members.lock_organization(session, org_id=wanted.org_id)
        found = session.get(Invitation, wanted.id)
        if found is None:
            by = Inviter(id=asker.user_id or asker.id, name=queries.owner_name(session, asker))
            found, event = add(session, wanted, by=by, organization_name=organization_name)
            db.publish(session, [event])
            log.info("member_invited", org_id=wanted.org_id, invitation_id=wanted.id, invited_by=by.id)
        return as_dict(found)


def add(session: Session, wanted: Wanted, *, by: Inviter, organization_name: str) -> tuple[Invitation, MemberInvited]:
    """Write the invitation, and the member that waits for it, and return it with its event.

    The organization is locked, or nobody else knows it yet.
    """
    member = _waiting_member(session, wanted)
    session.execute(
        sa.update(Invitation)
        .where(Invitation.org_id == wanted.org_id, Invitation.user_id == member.id, members.is_open())
        .values(revoked_at=sa.func.now())
    )
    invitation = session.scalars(
        sa.insert(Invitation)
        .values(
            id=wanted.id,
            org_id=wanted.org_id,
            user_id=member.id,
            email=wanted.email,
            role=wanted.role,
            invited_by=by.id,
            inviter_name=by.name,
            expires_at=_END,
        )
        .returning(Invitation)
    ).one()
    return invitation, MemberInvited(
        org_id=wanted.org_id,
        user_id=member.id,
        invitation_id=wanted.id,
        role=wanted.role,
        invited_by=by.id,
        inviter_name=by.name,
        organization_name=organization_name,
        expires_at=rfc3339(invitation.expires_at),
        email=wanted.email,
    )


def revoke(db: Database, *, org_id: str, invitation_id: str) -> None:
    """Take an open invitation back; one that is no longer open stays as it is.

    Raises:
        NotFound: the organization has no such invitation.
        InvitationUsed: somebody has signed up with it.
    """
    with db.transaction(org_id=org_id) as session:
        members.lock_organization(session, org_id=org_id)
        found = session.scalar(sa.select(Invitation).where(Invitation.org_id == org_id, Invitation.id == invitation_id))
        if found is None:
            raise NotFound("There is no such invitation.")
        if found.accepted_at:
            raise InvitationUsed("The invitation was used already. Remove the member instead.")
        if found.revoked_at is None:
            found.revoked_at = sa.func.now()
            members.forget_waiting(session, org_id=org_id, user_ids=[found.user_id])


def page(db: Database, *, org_id: str, limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of an organization's invitations, newest first."""
    statement = sa.select(Invitation).where(Invitation.org_id == org_id)
    with db.transaction(org_id=org_id) as session:
        return pages.cut(session, statement, by=Invitation.id, limit=limit, after=after, show=as_dict)


def subject_of(token: str, *, secret: str, now: float | None = None) -> str:
    """Return the id of the invitation a token is for.

    Raises:
        InvitationInvalid: it is none of ours.
        InvitationExpired: its time is over.
    """
    try:
        return tokens.read(token, secret=secret, purpose=tokens.INVITATION, now=time.time() if now is None else now)
    except tokens.TokenForged:
        raise invitation_problems.invalid() from None
    except tokens.TokenExpired:
        raise invitation_problems.expired() from None


def looked_up(session: Session, *, invitation_id: str, public_url: str) -> tuple[Invitation, str]:
    """Return an invitation that is open, with its organization's name; in a session of the system.

    Whether its address has an account is not told here: whoever invites would learn that of anybody, anywhere.

    Raises:
        InvitationInvalid, InvitationUsed, InvitationRevoked, InvitationExpired: it is not open.
    """
    row = session.execute(
        sa.select(Invitation, Organization.name, Invitation.expires_at <= sa.func.now())
        .join(Organization, Organization.id == Invitation.org_id)
        .where(Invitation.id == invitation_id)
    ).one_or_none()
    if row is None:
        raise invitation_problems.invalid()
    invitation, name, over = row
    if invitation.accepted_at:
        raise invitation_problems.used(public_url)
    if invitation.revoked_at:
        raise invitation_problems.revoked()
    if over:
        raise invitation_problems.expired()
    return invitation, name


def open_invitation(session: Session, *, invitation_id: str, public_url: str) -> tuple[Invitation, str]:
    """Return an invitation that may be accepted, as `looked_up` does; nobody else changes it, or its member, now.

    Raises:
        InvitationInvalid, InvitationUsed, InvitationRevoked, InvitationExpired: it may not.
        AccountExists: its address has an account, here or elsewhere.
    """
    org_id = session.scalar(sa.select(Invitation.org_id).where(Invitation.id == invitation_id))
    if org_id is None:
        raise invitation_problems.invalid()
    members.lock_organization(session, org_id=org_id)
    invitation, name = looked_up(session, invitation_id=invitation_id, public_url=public_url)
    taken = session.scalar(sa.select(Member.id).where(Member.email == invitation.email, Member.status == "active"))
    if taken:
        raise invitation_problems.account_exists(public_url)
    return invitation, name


def as_dict(invitation: Invitation) -> dict[str, Any]:
    """Return an invitation as its organization may see it, without its token."""
    return {
        "id": invitation.id,
        "user_id": invitation.user_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": _status(invitation),
        "invited_by": invitation.invited_by,
        "inviter_name": invitation.inviter_name,
        "created_at": rfc3339(invitation.created_at),
        "expires_at": rfc3339(invitation.expires_at),
    }


def as_answered(invitation: dict[str, Any], *, settings: Settings) -> dict[str, Any]:
    """Return an invitation as whoever invites is answered: with its link to pass on, only where no mail is sent."""
    if settings.smtp_url:
        return invitation
    return {**invitation, **link(invitation, secret=settings.signing_secret, public_url=settings.public_url)}


def link(invitation: dict[str, Any], *, secret: str, public_url: str) -> dict[str, str]:
    """Return ``{token, url}`` of an invitation."""
    end = int(datetime.fromisoformat(invitation["expires_at"]).timestamp())
    token = tokens.mint(secret=secret, purpose=tokens.INVITATION, subject=invitation["id"], expires_at=end)
    return {"token": token, "url": f"{public_url}/signup?token={token}"}


def _waiting_member(session: Session, wanted: Wanted) -> Member:
    """Return the member this address belongs to; it is made where there is none."""
    member = session.scalar(
        sa.select(Member).where(
            Member.org_id == wanted.org_id, Member.email == wanted.email, Member.status != "removed"
        )
    )
    if member is None:
        member = Member(id=new_id("usr"), org_id=wanted.org_id, email=wanted.email, role=wanted.role, status="invited")
        session.add(member)
        session.flush()  # the invitation refers to its member
        return member
    if member.status == "active":
        raise AlreadyMember("This person is a member already; change the role instead.")
    if member.role != wanted.role:
        if member.role == OWNER:
            members.require_another_owner(session, org_id=wanted.org_id, besides=member.id)
        member.role = wanted.role
        member.version += 1
    return member


def _status(invitation: Invitation) -> str:
    if invitation.accepted_at:
        return "accepted"
    if invitation.revoked_at:
        return "revoked"
    return "expired" if invitation.expires_at.timestamp() <= time.time() else "open"
