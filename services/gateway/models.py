"""The gateway's own tables: who may ask, with which keys, and which requests have been answered already."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_MOMENT = sa.TIMESTAMP(timezone=True)


class Model(DeclarativeBase):
    """Holds the metadata of the gateway's tables."""


def _of_member(name: str) -> sa.ForeignKeyConstraint:
    """Tie a row to a member of its own organization."""
    return sa.ForeignKeyConstraint(["org_id", "user_id"], ["members.org_id", "members.id"], name=name)


class Organization(Model):
    """A client of ours; everything else belongs to one. ``created_by`` names the administrator."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)
    created_by: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())


class Member(Model):
    """A person in an organization; the first is its owner, whose address may still be unknown.

    ``invited`` has not signed up yet, ``removed`` may do nothing any more. An address is kept in lower case; among
    those who signed up it is there once, so that a person belongs to one organization.
    """

    __tablename__ = "members"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text, sa.ForeignKey("organizations.id", name="members_organization"))
    email: Mapped[str | None] = mapped_column(sa.Text)
    role: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    name: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.Text, server_default="active")
    password_hash: Mapped[str | None] = mapped_column(sa.Text)
    terms_accepted_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    terms_version: Mapped[str | None] = mapped_column(sa.Text)
    joined_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    defaults: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=sa.text("'{}'"))
    photo_asset_id: Mapped[str | None] = mapped_column(sa.Text)
    version: Mapped[int] = mapped_column(server_default=sa.text("1"))

    __table_args__ = (
        sa.UniqueConstraint("org_id", "id", name="members_of_organization"),
        sa.CheckConstraint("role IN ('owner', 'editor', 'viewer')", name="members_role"),
        sa.CheckConstraint("status IN ('invited', 'active', 'removed')", name="members_status"),
        sa.CheckConstraint("email = lower(email)", name="members_email"),
        sa.Index(
            "members_email_of_organization",
            "org_id",
            "email",
            unique=True,
            postgresql_where=sa.text("status <> 'removed'"),
        ),
        sa.Index("members_one_organization", "email", unique=True, postgresql_where=sa.text("status = 'active'")),
    )


class ApiKey(Model):
    """A credential: only the SHA-256 of its secret is kept, and a prefix by which a person recognises it.

    ``workflows`` are those it may ask for, None for all. ``daily_cap`` is how many credits of a day (UTC) it may use,
    counted for all keys with the same ``cap_id``: the id of the first of them. ``rotated_from`` is the key it takes the
    place of.
    """

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
    scopes: Mapped[list[str]] = mapped_column(sa.ARRAY(sa.Text), server_default=sa.text("'{read,write,spend,manage}'"))
    workflows: Mapped[list[str] | None] = mapped_column(sa.ARRAY(sa.Text))
    daily_cap: Mapped[int | None]
    cap_id: Mapped[str | None] = mapped_column(sa.Text)
    rotated_from: Mapped[str | None] = mapped_column(sa.Text)
    last_used_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("secret_sha256", name="api_keys_secret_sha256"),
        sa.CheckConstraint("(daily_cap IS NULL) = (cap_id IS NULL) AND daily_cap > 0", name="api_keys_daily_cap"),
        _of_member("api_keys_member"),
        sa.Index("api_keys_org_id", "org_id", "id"),
    )


class Invitation(Model):
    """A member asked in: open until it is accepted, revoked or expired. Its token is made of its id, and kept nowhere.

    ``request_sha256`` is of the Idempotency-Key it was accepted with.
    """

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str] = mapped_column(sa.Text)
    email: Mapped[str] = mapped_column(sa.Text)
    role: Mapped[str] = mapped_column(sa.Text)
    invited_by: Mapped[str] = mapped_column(sa.Text)
    inviter_name: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    accepted_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    request_sha256: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        _of_member("invitations_member"),
        sa.Index("invitations_org_id", "org_id", "id"),
        sa.Index("invitations_user_id", "org_id", "user_id"),
    )


class AuthSession(Model):
    """A person logged in somewhere, until ``expires_at``; only the SHA-256 of its token is kept."""

    __tablename__ = "auth_sessions"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str] = mapped_column(sa.Text)
    token_sha256: Mapped[str] = mapped_column(sa.Text)
    user_agent: Mapped[str | None] = mapped_column(sa.Text)
    address: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    last_seen_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    revoked_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("token_sha256", name="auth_sessions_token_sha256"),
        _of_member("auth_sessions_member"),
        sa.Index("auth_sessions_user_id", "org_id", "user_id", "id"),
        sa.Index("auth_sessions_expires_at", "expires_at"),
    )


class LinkedIdentity(Model):
    """Who a member is at an identity provider: one subject is one member, who has one subject of each issuer."""

    __tablename__ = "linked_identities"

    issuer: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    subject: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        _of_member("linked_identities_member"),
        sa.UniqueConstraint("org_id", "user_id", "issuer", name="linked_identities_one_of_issuer"),
    )


class PasswordReset(Model):
    """Somebody who forgot a password; like an invitation's, its token is made of its id. Good once."""

    __tablename__ = "password_resets"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    used_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        _of_member("password_resets_member"),
        sa.Index("password_resets_user_id", "org_id", "user_id"),
        sa.Index("password_resets_expires_at", "expires_at"),
    )


class AdminKey(Model):
    """An administrator's own key, with the name under which their actions are recorded. No tenant sees the table."""

    __tablename__ = "admin_keys"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)
    prefix: Mapped[str] = mapped_column(sa.Text)
    secret_sha256: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    last_used_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("secret_sha256", name="admin_keys_secret_sha256"),
        sa.Index("admin_keys_name", "name", unique=True, postgresql_where=sa.text("revoked_at IS NULL")),
    )


class AuthAttempt(Model):
    """How often an address or an account was tried with a password, in the window that ends at ``ends_at``."""

    __tablename__ = "auth_attempts"

    subject: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    attempts: Mapped[int]
    ends_at: Mapped[datetime] = mapped_column(_MOMENT)

    __table_args__ = (sa.Index("auth_attempts_ends_at", "ends_at"),)


class WebhookReceipt(Model):
    """A delivery of a provider's webhook that was taken; it is taken once. No tenant sees the table."""

    __tablename__ = "webhook_receipts"

    provider: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    delivery_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    operation_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    received_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (sa.Index("webhook_receipts_received_at", "received_at"),)


class ReceiptKey(Model):
    """The public half, as a JSON web key has it, of a key that deletion receipts were signed with."""

    __tablename__ = "receipt_keys"

    x: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    since: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())


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
