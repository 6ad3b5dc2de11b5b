"""Uploads that a client sends to the store itself, and duplicates found by their digest."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import protect

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _create_expected_uploads()
    protect("expected_uploads")
    op.create_index(
        "assets_sha256", "assets", ["org_id", "sha256"], postgresql_where=sa.text("deletion_reason IS NULL")
    )


def _create_expected_uploads() -> None:
    moment = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "expected_uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("keep_original", sa.Boolean, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("collect_after", moment, nullable=False),
        sa.Column("asset_id", sa.Text),
        sa.CheckConstraint(
            "purpose IN ('room', 'product', 'inspiration', 'face', 'profile')", name="expected_uploads_purpose"
        ),
        sa.CheckConstraint("bytes > 0", name="expected_uploads_size"),
    )
    op.create_index("expected_uploads_collect_after", "expected_uploads", ["collect_after"])
