"""Members of an organization: who they are, which role they have, and how they leave."""

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
    """Refuse to go on where ``besides`` is the only owner who can act: one who has joined, or has a key.

    All owners are locked, in order of their ids, so that two of them cannot leave at once.

    Raises:
        LastOwner: nobody else is.
    """
    owners = session.execute(
        sa.select(Member.id, Member.status)
        .where(Member.org_id == org_id, Member.role == OWNER, Member.status != "removed")
        .order_by(Member.id)
        .with_for_update()
    ).all()
    with_key = set(
        session.scalars(
            sa.select(ApiKey.user_id).where(
                ApiKey.org_id == org_id,
                ApiKey.revoked_at.is_(None),
                sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > sa.func.now()),
            )
        )
    )
    if not [one for one in owners if one.id != besides and (one.status == "active" or one.id in with_key)]:
        raise LastOwner("An organization needs an owner: make somebody else one first.")


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
