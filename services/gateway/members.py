"""Members of an organization: who they are, which role they have, and how they leave."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway.models import ApiKey, AuthSession, Invitation, Member
from services.gateway.permissions import OWNER
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


def page(db: Database, *, org_id: str, limit: int, after: str | None) -> dict[str, Any]:
    """Return a page of those who are members or invited, oldest first."""
    statement = sa.select(Member).where(Member.org_id == org_id, Member.status != "removed").order_by(Member.id)
    if after:
        statement = statement.where(Member.id > after)
    with db.transaction(org_id=org_id) as session:
        rows = list(session.scalars(statement.limit(limit + 1)))
    shown, more = rows[:limit], len(rows) > limit
    return {
        "data": [as_dict(row) for row in shown],
        "has_more": more,
        "next_cursor": shown[-1].id if more else None,
    }


def change_role(db: Database, *, org_id: str, user_id: str, role: str, changed_by: str) -> dict[str, Any]:
    """Give a member another role and return the member.

    Raises:
        NotFound: the organization has no such member.
        LastOwner: the only owner would be none any more.
    """
    with db.transaction(org_id=org_id) as session:
        _lock_owners(session, org_id=org_id)
        member = _locked(session, org_id=org_id, user_id=user_id)
        previous = member.role
        if role != previous:
            if previous == OWNER:
                require_another_owner(session, org_id=org_id, besides=user_id)
            member.role = role
            member.version += 1
            changed = MemberChanged(
                org_id=org_id, user_id=user_id, role=role, previous_role=previous, changed_by=changed_by
            )
            db.publish(session, [changed])
            log.info("member_changed", org_id=org_id, user_id=user_id, role=role, changed_by=changed_by)
        return as_dict(member)


def remove(db: Database, *, org_id: str, user_id: str, removed_by: str) -> None:
    """End a membership, and with it the member's sessions, keys and open invitations.

    Raises:
        NotFound: the organization has no such member.
        LastOwner: it is the only owner.
    """
    with db.transaction(org_id=org_id) as session:
        _lock_owners(session, org_id=org_id)
        member = _locked(session, org_id=org_id, user_id=user_id)
        if member.role == OWNER:
            require_another_owner(session, org_id=org_id, besides=user_id)
        member.status = "removed"
        member.removed_at = sa.func.now()
        member.password_hash = None
        for model in (ApiKey, AuthSession, Invitation):
            session.execute(
                sa.update(model)
                .where(model.org_id == org_id, model.user_id == user_id, model.revoked_at.is_(None))
                .values(revoked_at=sa.func.now())
            )
        db.publish(session, [MemberRemoved(org_id=org_id, user_id=user_id, role=member.role, removed_by=removed_by)])
        log.info("member_removed", org_id=org_id, user_id=user_id, removed_by=removed_by)


def require_another_owner(session: Session, *, org_id: str, besides: str) -> None:
    """Refuse to go on where ``besides`` is the only owner who can act.

    Raises:
        LastOwner: nobody else is.
    """
    if not _owners_who_can_act(session, org_id=org_id) - {besides}:
        raise LastOwner("An organization needs an owner: make somebody else one first.")


def require_an_owner(session: Session, *, org_id: str) -> None:
    """Refuse to go on where no owner can act any more, by what was done in this session.

    Raises:
        LastOwner: none can.
    """
    if not _owners_who_can_act(session, org_id=org_id):
        raise LastOwner("This is the only way in that an owner has: make another key first, or let an owner sign up.")


def _owners_who_can_act(session: Session, *, org_id: str) -> set[str]:
    """Return the ids of the owners who have joined and can log in, or have a key."""
    owners = _lock_owners(session, org_id=org_id)
    usable = sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > sa.func.now())
    with_key = set(
        session.scalars(sa.select(ApiKey.user_id).where(ApiKey.org_id == org_id, ApiKey.revoked_at.is_(None), usable))
    )
    return {one.id for one in owners if (one.status == "active" and one.email) or one.id in with_key}


def _lock_owners(session: Session, *, org_id: str) -> Sequence[Any]:
    """Return ``(id, status, email)`` of all owners, locked in order of their ids: two of them cannot leave at once."""
    return session.execute(
        sa.select(Member.id, Member.status, Member.email)
        .where(Member.org_id == org_id, Member.role == OWNER, Member.status != "removed")
        .order_by(Member.id)
        .with_for_update()
    ).all()


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
