"""Making an organization that is ready to use: itself, its owner, and a live key that is shown once."""

from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.gateway import keys, queries
from services.gateway.models import ApiKey, Member, Organization
from shared.database import Database
from shared.events import OrganizationCreated
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

    The same id again changes nothing and returns the same: ``{id, name, owner_id, owner_email}``.
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
            db.publish(session, [created])
            log.info("organization_created", org_id=added, created_by=wanted.created_by)
        return {"id": wanted.id, "name": wanted.name, **queries.owner(session, org_id=wanted.id)}


def _add_owner(session: Session, wanted: NewOrganization, *, secret: keys.Secret) -> str:
    owner_id = new_id("usr")
    email = wanted.owner_email.lower() if wanted.owner_email else None
    status = "invited" if email else "active"
    session.add(Member(id=owner_id, org_id=wanted.id, email=email, role="owner", status=status))
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
