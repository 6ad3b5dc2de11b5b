"""Who is a member where, under which address: kept up with the gateway's events, which may come out of order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications.models import Organization, Person
from shared.events import Event, MemberChanged, MemberInvited, MemberJoined, MemberRemoved, OrganizationCreated

OWNER = "owner"

_KEEP_PERSON = sa.text("""
INSERT INTO people AS known (org_id, user_id, email, name, role, status, status_sequence, role_sequence)
VALUES (:org_id, :user_id, :email, :name, :role, coalesce(:status, 'invited'),
    CASE WHEN :status IS NULL THEN '' ELSE :sequence END, :sequence)
ON CONFLICT (org_id, user_id) DO UPDATE SET
    email = CASE WHEN excluded.status_sequence > known.status_sequence THEN coalesce(excluded.email, known.email)
        ELSE coalesce(known.email, excluded.email) END,
    name = coalesce(excluded.name, known.name),
    role = CASE WHEN excluded.role_sequence > known.role_sequence THEN excluded.role ELSE known.role END,
    status = CASE WHEN excluded.status_sequence > known.status_sequence THEN excluded.status ELSE known.status END,
    status_sequence = greatest(excluded.status_sequence, known.status_sequence),
    role_sequence = greatest(excluded.role_sequence, known.role_sequence)
""").bindparams(sa.bindparam("status", type_=sa.Text), sa.bindparam("sequence", type_=sa.Text))
_FORGET = sa.text("UPDATE people SET email = NULL WHERE org_id = :org_id AND user_id = :user_id AND status = 'removed'")
_KEEP_ORGANIZATION = sa.text("""
INSERT INTO organizations (org_id, name) VALUES (:org_id, :name)
ON CONFLICT (org_id) DO UPDATE SET name = excluded.name WHERE organizations.name <> excluded.name
""")


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """Somebody to tell something; ``email`` is None where no address is known."""

    org_id: str
    user_id: str
    email: str | None = None
    name: str | None = None


def keep(session: Session, item: Event) -> tuple[str, str]:
    """Note what an event says about a person or an organization; return whom it names, by organization and user."""
    row: dict[str, Any] = {"email": getattr(item, "email", None), "name": getattr(item, "name", None)}
    match item:
        case OrganizationCreated():
            session.execute(_KEEP_ORGANIZATION, {"org_id": item.org_id, "name": item.name})
            row |= {"user_id": item.owner_id, "role": OWNER, "status": "active", "name": None}
        case MemberInvited():
            session.execute(_KEEP_ORGANIZATION, {"org_id": item.org_id, "name": item.organization_name})
            row |= {"user_id": item.user_id, "role": item.role, "status": "invited"}
        case MemberJoined():
            row |= {"user_id": item.user_id, "role": item.role, "status": "active"}
        case MemberChanged():
            row |= {"user_id": item.user_id, "role": item.role, "status": None}
        case MemberRemoved():
            row |= {"user_id": item.user_id, "role": item.role, "status": "removed"}
        case _:
            raise TypeError(f"{type(item).__name__} says nothing about people")
    sequence = item.meta.sequence if item.meta else None
    session.execute(_KEEP_PERSON, {"org_id": item.org_id, "sequence": sequence or "", **row})
    session.execute(_FORGET, {"org_id": item.org_id, "user_id": row["user_id"]})
    return item.org_id, row["user_id"]


def members(session: Session, org_ids: Sequence[str]) -> dict[str, list[Person]]:
    """Return the active members of organizations, by organization."""
    found: dict[str, list[Person]] = {org_id: [] for org_id in org_ids}
    statement = sa.select(Person).where(Person.org_id.in_(org_ids), Person.status == "active")
    for person in session.scalars(statement.order_by(Person.org_id, Person.user_id)):
        found[person.org_id].append(person)
    return found


def names(session: Session, *, org_id: str, user_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the names that are known, by user; of former members too."""
    statement = sa.select(Person.user_id, Person.name).where(Person.org_id == org_id, Person.user_id.in_(user_ids))
    return {user_id: name for user_id, name in session.execute(statement) if name}


def organization_name(session: Session, *, org_id: str) -> str | None:
    """Return what an organization is called, if that is known."""
    return session.scalar(sa.select(Organization.name).where(Organization.org_id == org_id))


def recipient(person: Person) -> Recipient:
    """Return somebody to tell something."""
    return Recipient(org_id=person.org_id, user_id=person.user_id, email=person.email, name=person.name)
