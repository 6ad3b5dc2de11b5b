"""Members of an organization: who they are, which role they have, and how they leave.

Whoever changes who belongs to an organization, or what lets them act (invitations, keys), locks the organization
first, and so waits for nobody who waits for them.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway import pages
from services.gateway.conditions import Check, unchecked
from services.gateway.models import ApiKey, AuthSession, Invitation, LinkedIdentity, Member, Organization
from services.gateway.permissions import OWNER, SCOPES
from shared.database import Database
from shared.events import MemberChanged, MemberRemoved
from shared.http_fields import rfc3339
from shared.problems import Conflict, NotFound

log = structlog.get_logger(__name__)


class LastOwner(Conflict):
    """An organization cannot be without an owner."""

    code = "last_owner"
    title = "This is the only owner"
    remedy = "Make somebody else an owner first."


def lock_organization(session: Session, *, org_id: str) -> str:
    """Let nobody else change an organization's members, invitations or keys until the transaction ends.

    Returns:
        the organization's name.
    """
    return session.scalars(
        sa.select(Organization.name).where(Organization.id == org_id).with_for_update(key_share=True)
    ).one()


def is_open() -> Any:
    """Return the condition that an invitation was neither accepted nor taken back."""
    return sa.and_(Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))


def page(db: Database, *, org_id: str, limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of those who are members or invited, oldest first."""
    statement = sa.select(Member).where(Member.org_id == org_id, Member.status != "removed")
    with db.transaction(org_id=org_id) as session:
        return pages.cut(session, statement, by=Member.id, limit=limit, after=after, show=as_dict, oldest_first=True)


def one(db: Database, *, org_id: str, user_id: str) -> dict[str, Any]:
    """Return a member.

    Raises:
        NotFound: the organization has no such member.
    """
    with db.transaction(org_id=org_id) as session:
        return as_dict(_locked(session, org_id=org_id, user_id=user_id))


def change_role(
    db: Database, *, org_id: str, user_id: str, role: str, changed_by: str, check: Check = unchecked
) -> dict[str, Any]:
    """Give a member another role and return the member; who is only invited will have it from the beginning.

    Open invitations that somebody sent who is no owner any more end. ``check`` is called with the member before.

    Raises:
        NotFound: the organization has no such member.
        LastOwner: the only owner would be none any more.
    """
    with db.transaction(org_id=org_id) as session:
        lock_organization(session, org_id=org_id)
        member = _locked(session, org_id=org_id, user_id=user_id)
        check(as_dict(member))
        previous = member.role
        if role != previous:
            if previous == OWNER:
                require_another_owner(session, org_id=org_id, besides=user_id)
                _end_invitations_by(session, org_id=org_id, user_id=user_id)
            member.role = role
            member.version += 1
            session.execute(
                sa.update(Invitation)
                .where(Invitation.org_id == org_id, Invitation.user_id == user_id, is_open())
                .values(role=role)
            )
            changed = MemberChanged(
                org_id=org_id, user_id=user_id, role=role, previous_role=previous, changed_by=changed_by
            )
            db.publish(session, [changed])
            log.info("member_changed", org_id=org_id, user_id=user_id, role=role, changed_by=changed_by)
        return as_dict(member)


def remove(db: Database, *, org_id: str, user_id: str, removed_by: str) -> None:
    """End a membership: the member's sessions, keys and linked identities, and open invitations of and by the member.

    Raises:
        NotFound: the organization has no such member.
        LastOwner: it is the only owner.
    """
    with db.transaction(org_id=org_id) as session:
        lock_organization(session, org_id=org_id)
        member = _locked(session, org_id=org_id, user_id=user_id)
        if member.role == OWNER:
            require_another_owner(session, org_id=org_id, besides=user_id)
        member.status = "removed"
        member.removed_at = sa.func.now()
        member.password_hash = None
        member.version += 1
        _end_invitations_by(session, org_id=org_id, user_id=user_id)
        for model in (ApiKey, AuthSession, Invitation):
            session.execute(
                sa.update(model)
                .where(model.org_id == org_id, model.user_id == user_id, model.revoked_at.is_(None))
                .values(revoked_at=sa.func.now())
            )
        session.execute(
            # Were the person invited again, as a new member, the identity would have to lead there.
            sa.delete(LinkedIdentity).where(LinkedIdentity.org_id == org_id, LinkedIdentity.user_id == user_id)
        )
        db.publish(session, [MemberRemoved(org_id=org_id, user_id=user_id, role=member.role, removed_by=removed_by)])
        log.info("member_removed", org_id=org_id, user_id=user_id, removed_by=removed_by)


def require_another_owner(session: Session, *, org_id: str, besides: str) -> None:
    """Refuse to go on where ``besides`` is the only owner who can act. The organization is locked.

    Raises:
        LastOwner: nobody else is.
    """
    if not _owners_who_can_act(session, org_id=org_id) - {besides}:
        raise LastOwner("An organization needs an owner: make somebody else one first.")


def require_an_owner(session: Session, *, org_id: str) -> None:
    """Refuse to go on where no owner can act any more, by what was done in this session. The organization is locked.

    Raises:
        LastOwner: none can.
    """
    if not _owners_who_can_act(session, org_id=org_id):
        raise LastOwner("This is the only way in that an owner has: make another key first, or let an owner sign up.")


def forget_waiting(session: Session, *, org_id: str, user_ids: Sequence[str]) -> None:
    """Remove members who never joined; the first owner stays, whose key may be in use. The organization is locked."""
    has_key = sa.exists().where(ApiKey.org_id == org_id, ApiKey.user_id == Member.id, ApiKey.revoked_at.is_(None))
    session.execute(
        sa.update(Member)
        .where(Member.org_id == org_id, Member.id.in_(user_ids), Member.status == "invited", ~has_key)
        .values(status="removed", removed_at=sa.func.now(), version=Member.version + 1)
    )


def _owners_who_can_act(session: Session, *, org_id: str) -> set[str]:
    """Return the ids of the owners who have joined and can log in, or have a key that can manage and does not end."""
    manages = sa.and_(
        ApiKey.revoked_at.is_(None),
        ApiKey.expires_at.is_(None),
        ApiKey.livemode,
        ApiKey.workflows.is_(None),
        ApiKey.cap_id.is_(None),
        ApiKey.scopes.op("@>")(sa.cast(list(SCOPES), sa.ARRAY(sa.Text))),
    )
    has_key = sa.exists().where(ApiKey.org_id == org_id, ApiKey.user_id == Member.id, manages)
    joined = sa.and_(Member.status == "active", Member.email.is_not(None))
    return set(
        session.scalars(
            sa.select(Member.id).where(
                Member.org_id == org_id, Member.role == OWNER, Member.status != "removed", sa.or_(joined, has_key)
            )
        )
    )


def _end_invitations_by(session: Session, *, org_id: str, user_id: str) -> None:
    """Take back what somebody sent who may invite nobody any more: its token was theirs to keep."""
    waiting = session.scalars(
        sa.update(Invitation)
        .where(Invitation.org_id == org_id, Invitation.invited_by == user_id, is_open())
        .values(revoked_at=sa.func.now())
        .returning(Invitation.user_id)
    ).all()
    if waiting:
        forget_waiting(session, org_id=org_id, user_ids=waiting)


def as_dict(member: Member) -> dict[str, Any]:
    """Return a member as the organization may see one."""
    return {
        "id": member.id,
        "email": member.email,
        "name": member.name,
        "role": member.role,
        "status": member.status,
        "photo_upload_id": member.photo_asset_id,
        "created_at": rfc3339(member.created_at),
        "joined_at": rfc3339(member.joined_at) if member.joined_at else None,
        "version": member.version,
    }


def _locked(session: Session, *, org_id: str, user_id: str) -> Member:
    member = session.scalar(
        sa.select(Member)
        .where(Member.org_id == org_id, Member.id == user_id, Member.status != "removed")
        .with_for_update()
    )
    if member is None:
        raise NotFound("There is no such member.")
    return member
