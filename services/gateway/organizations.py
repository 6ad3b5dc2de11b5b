"""Making an organization that is ready to use: itself, its owner, and a live key that is shown once."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.gateway import invitations, keys, queries
from services.gateway.invitations import Inviter, Wanted
from services.gateway.models import ApiKey, Invitation, Member, Organization
from services.gateway.permissions import OWNER
from shared.database import Database
from shared.events import MemberInvited, OrganizationCreated
from shared.ids import new_id

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class NewOrganization:
    """What an administrator asked for; ``created_by`` is the administrator's name."""

    id: str
    name: str
    created_by: str
    plan: str = "pro"
    owner_email: str | None = None


def create(db: Database, wanted: NewOrganization, *, secret: keys.Secret) -> dict[str, Any]:
    """Create the organization, its owner and ``secret`` as the owner's key, in one transaction.

    The same id again changes nothing and returns the same: ``{id, name, owner_id, owner_email, invitation}``. An
    owner whose address is known is invited, to sign up as a person; the key works without that.
    """
    with db.transaction() as session:
        added = session.scalar(
            insert(Organization)
            .values(id=wanted.id, name=wanted.name, created_by=wanted.created_by)
            .on_conflict_do_nothing()
            .returning(Organization.id)
        )
        if added:
            owner_id = _add_owner(session, wanted, secret=secret)
            created = OrganizationCreated(org_id=added, name=wanted.name, owner_id=owner_id, plan=wanted.plan)
            db.publish(session, [created, *_invite_owner(session, wanted)])
            log.info("organization_created", org_id=added, created_by=wanted.created_by)
        owner = queries.owner(session, org_id=wanted.id)
        invitation = session.scalar(  # the owner's own: later ones, of anybody, are not for administrators
            sa.select(Invitation)
            .where(Invitation.org_id == wanted.id, Invitation.user_id == owner["owner_id"])
            .order_by(Invitation.id)
            .limit(1)
        )
        return {
            "id": wanted.id,
            "name": wanted.name,
            **owner,
            "invitation": invitations.as_dict(invitation) if invitation else None,
        }


def _invite_owner(session: Session, wanted: NewOrganization) -> list[MemberInvited]:
    if wanted.owner_email is None:
        return []
    owner = Wanted(id=new_id("inv"), org_id=wanted.id, email=wanted.owner_email, role=OWNER)
    by = Inviter(id=f"admin:{wanted.created_by}", name=wanted.created_by, public_name=wanted.created_by)
    return [invitations.add(session, owner, by=by, organization_name=wanted.name)[1]]


def _add_owner(session: Session, wanted: NewOrganization, *, secret: keys.Secret) -> str:
    owner_id = new_id("usr")
    status = "invited" if wanted.owner_email else "active"
    session.add(Member(id=owner_id, org_id=wanted.id, email=wanted.owner_email, role=OWNER, status=status))
    session.flush()  # the key refers to its member
    session.add(
        ApiKey(
            id=new_id("key"),
            org_id=wanted.id,
            user_id=owner_id,
            name="First key",
            prefix=secret.prefix,
            secret_sha256=secret.sha256,
            livemode=True,
        )
    )
    return owner_id
