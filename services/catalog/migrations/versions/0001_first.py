"""Assets behind the tenant wall, inbox and outbox."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import create_delivery_tables, create_roles, protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_roles()
    create_delivery_tables()
    _create_assets()
    protect("assets", writes=("INSERT", "UPDATE"))


def _create_assets() -> None:
    moment = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "assets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("crc32", sa.BigInteger, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("file_name", sa.Text),
        sa.Column("keep_original", sa.Boolean, nullable=False),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.Column("delete_after", moment),
        sa.Column("deletion_reason", sa.Text),
        sa.Column("claimed_until", moment),
        sa.Column("deleted_at", moment),
        sa.UniqueConstraint("key", name="assets_key"),
        sa.CheckConstraint("purpose IN ('room', 'product', 'inspiration', 'face', 'profile')", name="assets_purpose"),
        sa.CheckConstraint("bytes > 0 AND width > 0 AND height > 0", name="assets_size"),
        sa.CheckConstraint("deletion_reason IN ('requested', 'retention')", name="assets_deletion_reason"),
        sa.CheckConstraint("deleted_at IS NULL OR deletion_reason IS NOT NULL", name="assets_deleted_for_a_reason"),
    )
    op.create_index("assets_org_id", "assets", ["org_id", "id"])
    op.create_index(
        "assets_delete_after",
        "assets",
        ["delete_after"],
        postgresql_where=sa.text("deletion_reason IS NULL AND delete_after IS NOT NULL"),
    )
    op.create_index(
        "assets_deletion_owed",
        "assets",
        ["claimed_until"],
        postgresql_where=sa.text("deletion_reason IS NOT NULL AND deleted_at IS NULL"),
    )
