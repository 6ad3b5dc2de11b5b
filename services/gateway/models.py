"""The gateway's own tables: who may ask, with which keys, and which requests have been answered already."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_MOMENT = sa.TIMESTAMP(timezone=True)


class Model(DeclarativeBase):
    """Holds the metadata of the gateway's tables."""


class Organization(Model):
    """A client of ours; everything else belongs to one. ``created_by`` names the administrator."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)
    created_by: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())


class Member(Model):
    """A person in an organization; the first is its owner, whose address may still be unknown."""

    __tablename__ = "members"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text, sa.ForeignKey("organizations.id", name="members_organization"))
    email: Mapped[str | None] = mapped_column(sa.Text)
    role: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.UniqueConstraint("org_id", "id", name="members_of_organization"),
        sa.CheckConstraint("role IN ('owner', 'editor', 'viewer')", name="members_role"),
    )


class ApiKey(Model):
    """A credential: only the SHA-256 of its secret is kept, and a prefix by which a person recognises it."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str] = mapped_column(sa.Text)
    name: Mapped[str] = mapped_column(sa.Text)
    prefix: Mapped[str] = mapped_column(sa.Text)
    secret_sha256: Mapped[str] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("secret_sha256", name="api_keys_secret_sha256"),
        sa.ForeignKeyConstraint(["org_id", "user_id"], ["members.org_id", "members.id"], name="api_keys_member"),
        sa.Index("api_keys_org_id", "org_id", "id"),
    )


class OrganizationFlag(Model):
    """A feature that an administrator has switched for an organization."""

    __tablename__ = "organization_flags"

    org_id: Mapped[str] = mapped_column(
        sa.Text, sa.ForeignKey("organizations.id", name="organization_flags_organization"), primary_key=True
    )
    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    enabled: Mapped[bool]
    changed_by: Mapped[str] = mapped_column(sa.Text)
    changed_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())


class IdempotencyKey(Model):
    """A request with an Idempotency-Key: what it makes, who is at it until when, and its answer once it has one.

    ``org_id`` is ``admin`` for administrators, who have none. ``tries`` fences: only the latest may let go of it.
    """

    __tablename__ = "idempotency_keys"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    principal_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    key: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.Text)
    resource_id: Mapped[str] = mapped_column(sa.Text)
    tries: Mapped[int] = mapped_column(server_default=sa.text("1"))
    lease_until: Mapped[datetime] = mapped_column(_MOMENT)
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    body: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (sa.Index("idempotency_keys_created_at", "created_at"),)
