"""Organizations, members, API keys and idempotency keys behind the tenant wall, inbox and outbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import create_delivery_tables, create_roles, protect

revision = "0001"
down_revision = None

_MOMENT = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    create_roles()
    create_delivery_tables()
    _create_identity()
    _create_idempotency_keys()
    protect("organizations", column="id", writes=("INSERT", "UPDATE"))
    protect("members")
    protect("api_keys", writes=("INSERT", "UPDATE"))
    protect("idempotency_keys")


def _create_identity() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        _created_at(),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, sa.ForeignKey("organizations.id", name="members_organization"), nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("role", sa.Text, nullable=False),
        _created_at(),
        sa.UniqueConstraint("org_id", "id", name="members_of_organization"),
        sa.CheckConstraint("role IN ('owner', 'editor', 'viewer')", name="members_role"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.Text, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        _created_at(),
        sa.Column("expires_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.UniqueConstraint("secret_sha256", name="api_keys_secret_sha256"),
        sa.ForeignKeyConstraint(["org_id", "user_id"], ["members.org_id", "members.id"], name="api_keys_member"),
    )
    op.create_index("api_keys_org_id", "api_keys", ["org_id", "id"])


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("org_id", sa.Text, primary_key=True),
        sa.Column("principal_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("resource_id", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, server_default=sa.text("1"), nullable=False),
        sa.Column("lease_until", _MOMENT, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", JSONB),
        sa.Column("body", sa.Text),
        _created_at(),
    )
    op.create_index("idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False)
