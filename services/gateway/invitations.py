"""Inviting people: a member that waits, an invitation of 7 days that is good once, and the token in its link.

No token is ever kept: it is made of the invitation's id and end whenever somebody may see it.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.gateway import members
from services.gateway.models import ApiKey, Invitation, Member, Organization
from services.gateway.permissions import OWNER
from shared import tokens
from shared.database import Database
from shared.events import MemberInvited
from shared.http_fields import rfc3339
from shared.http_schemas import error_at
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, NotFound, Problem

log = structlog.get_logger(__name__)

LIFETIME_DAYS = 7
_END: Any = sa.literal_column(f"date_trunc('second', now()) + interval '{LIFETIME_DAYS} days'")


class InvitationInvalid(BadRequest):
    """The token was altered, or never ours."""

    code = "invitation_invalid"
    title = "This invitation is not valid"
    remedy = "Open the link exactly as you got it; if it was cut, ask for a new invitation."


class InvitationExpired(Problem):
    """Its 7 days are over."""

    status = 410
    code = "invitation_expired"
    title = "The invitation has expired"
    remedy = "Ask whoever invited you to send another invitation."


class InvitationRevoked(Problem):
    """Whoever invites took it back, or sent a newer one."""

    status = 410
    code = "invitation_revoked"
    title = "The invitation was taken back"
    remedy = "Look for a newer invitation, or ask whoever invited you for one."


class InvitationUsed(Conflict):
    """Somebody has signed up with it already; ``login_url`` is where to go."""

    code = "invitation_used"
    title = "The invitation was used already"
    remedy = "Log in at `login_url` with the password you chose then."


class AccountExists(Conflict):
    """Somebody with this address has signed up before; ``login_url`` and ``reset_url`` are where to go."""

    code = "account_exists"
    title = "There is an account already"
    remedy = "Log in at `login_url`, or choose a new password at `reset_url`."


class AlreadyMember(Conflict):
    """The address is a member's of this organization."""

    code = "already_member"
    title = "This person is a member already"
    remedy = "Nothing is left to do; `GET /v1/members` lists them."


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


def invite(db: Database, wanted: Wanted, *, by: Inviter) -> dict[str, Any]:
    """Invite somebody; the same id again changes nothing and returns the same, as `as_dict` does.

    An earlier invitation of theirs is taken back.

    Raises:
        AlreadyMember: they have joined this organization.
        LastOwner: they are its only owner, and would be none any more.
    """
    with db.transaction(org_id=wanted.org_id) as session:
        found = session.get(Invitation, wanted.id)
        if found is None:
            found, event = add(session, wanted, by=by)
            db.publish(session, [event])
            log.info("member_invited", org_id=wanted.org_id, invitation_id=wanted.id, invited_by=by.id)
        return as_dict(found)


def add(session: Session, wanted: Wanted, *, by: Inviter) -> tuple[Invitation, MemberInvited]:
    """Write the invitation, and the member that waits for it, and return it with its event."""
    member = _waiting_member(session, wanted)
    session.execute(
        sa.update(Invitation)
        .where(Invitation.org_id == wanted.org_id, Invitation.user_id == member.id, _is_open())
        .values(revoked_at=sa.func.now())
    )
    invitation = Invitation(
        id=wanted.id,
        org_id=wanted.org_id,
        user_id=member.id,
        email=wanted.email,
        role=wanted.role,
        invited_by=by.id,
        inviter_name=by.name,
        expires_at=_END,
    )
    session.add(invitation)
    session.flush()
    session.refresh(invitation)
    return invitation, MemberInvited(
        org_id=wanted.org_id,
        user_id=member.id,
        invitation_id=wanted.id,
        role=wanted.role,
        invited_by=by.id,
        inviter_name=by.name,
        organization_name=session.execute(
            sa.select(Organization.name).where(Organization.id == wanted.org_id)
        ).scalar_one(),
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
        found = session.scalar(
            sa.select(Invitation).where(Invitation.org_id == org_id, Invitation.id == invitation_id).with_for_update()
        )
        if found is None:
            raise NotFound("There is no such invitation.")
        if found.accepted_at:
            raise InvitationUsed("The invitation was used already. Remove the member instead.")
        if found.revoked_at is None:
            found.revoked_at = sa.func.now()
            _forget_member(session, org_id=org_id, user_id=found.user_id)


def page(db: Database, *, org_id: str, limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of an organization's invitations, newest first."""
    statement = sa.select(Invitation).where(Invitation.org_id == org_id).order_by(Invitation.id.desc())
    if after:
        statement = statement.where(Invitation.id < after)
    with db.transaction(org_id=org_id) as session:
        rows = list(session.scalars(statement.limit(limit + 1)))
    shown, more = rows[:limit], len(rows) > limit
    return {
        "data": [as_dict(row) for row in shown],
        "has_more": more,
        "next_cursor": shown[-1].id if more else None,
    }


def subject_of(token: str, *, secret: str, now: float | None = None) -> str:
    """Return the id of the invitation a token is for.

    Raises:
        InvitationInvalid: it is none of ours.
        InvitationExpired: its time is over.
    """
    try:
        return tokens.read(token, secret=secret, purpose=tokens.INVITATION, now=time.time() if now is None else now)
    except tokens.TokenForged:
        raise _invalid() from None
    except tokens.TokenExpired:
        raise _expired() from None


def open_invitation(session: Session, *, invitation_id: str, public_url: str) -> tuple[Invitation, str]:
    """Return an invitation that may be accepted, locked, with its organization's name; in a session of the system.

    Raises:
        InvitationInvalid, InvitationUsed, InvitationRevoked, InvitationExpired: it may not.
        AccountExists: its address has an account, here or elsewhere.
    """
    invitation = session.scalar(sa.select(Invitation).where(Invitation.id == invitation_id).with_for_update())
    if invitation is None:
        raise _invalid()
    if invitation.accepted_at:
        raise used(public_url)
    if invitation.revoked_at:
        raise InvitationRevoked("Invitation revoked. Contact your administrator for a new invitation.")
    if invitation.expires_at <= session.execute(sa.select(sa.func.now())).scalar_one():
        raise _expired()
    taken = session.scalar(sa.select(Member.id).where(Member.email == invitation.email, Member.status == "active"))
    if taken:
        raise account_exists(public_url)
    name = session.execute(sa.select(Organization.name).where(Organization.id == invitation.org_id)).scalar_one()
    return invitation, name


def used(public_url: str) -> InvitationUsed:
    """Return the refusal of an invitation that was accepted before, with the way on."""
    return InvitationUsed("This invitation was used already. Try logging in instead.", login_url=_login(public_url))


def account_exists(public_url: str) -> AccountExists:
    """Return the refusal of an address that has signed up before, with the ways on."""
    return AccountExists(
        "Account already exists. Try logging in instead.",
        login_url=_login(public_url),
        reset_url=f"{public_url}/password-reset",
    )


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


def link(invitation: dict[str, Any], *, secret: str, public_url: str) -> dict[str, str]:
    """Return ``{token, url}`` of an invitation, for whoever invites to pass on."""
    end = int(datetime.fromisoformat(invitation["expires_at"]).timestamp())
    token = tokens.mint(secret=secret, purpose=tokens.INVITATION, subject=invitation["id"], expires_at=end)
    return {"token": token, "url": f"{public_url}/signup?token={token}"}


def _waiting_member(session: Session, wanted: Wanted) -> Member:
    """Return the member this address belongs to, locked; it is made where there is none."""
    session.execute(
        insert(Member)
        .values(id=new_id("usr"), org_id=wanted.org_id, email=wanted.email, role=wanted.role, status="invited")
        .on_conflict_do_nothing(
            index_elements=["org_id", "email"],
            index_where=sa.text("status <> 'removed'"),
        )
    )
    member = session.scalars(
        sa.select(Member)
        .where(Member.org_id == wanted.org_id, Member.email == wanted.email, Member.status != "removed")
        .with_for_update()
    ).one()
    if member.status == "active":
        raise AlreadyMember("This person is a member already; change the role instead.")
    if OWNER == member.role != wanted.role:
        members.require_another_owner(session, org_id=wanted.org_id, besides=member.id)
    member.role = wanted.role
    return member


def _forget_member(session: Session, *, org_id: str, user_id: str) -> None:
    """Remove a member who never joined; the first owner stays, whose key may be in use."""
    has_key = sa.exists().where(ApiKey.org_id == org_id, ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    session.execute(
        sa.update(Member)
        .where(Member.org_id == org_id, Member.id == user_id, Member.status == "invited", ~has_key)
        .values(status="removed", removed_at=sa.func.now())
    )


def _status(invitation: Invitation) -> str:
    if invitation.accepted_at:
        return "accepted"
    if invitation.revoked_at:
        return "revoked"
    return "expired" if invitation.expires_at.timestamp() <= time.time() else "open"


def _is_open() -> Any:
    return sa.and_(Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))


def _invalid() -> InvitationInvalid:
    errors = [error_at("/token", "invalid", "this is no token of an invitation of ours")]
    return InvitationInvalid("This invitation is not valid. Open the link exactly as you got it.", errors=errors)


def _expired() -> InvitationExpired:
    return InvitationExpired("Invitation expired. Contact your administrator for a new invitation.")


def _login(public_url: str) -> str:
    return f"{public_url}/login"
