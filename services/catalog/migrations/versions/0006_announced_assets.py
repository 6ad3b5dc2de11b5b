"""Faces are announced before their bytes are stored; what was sent is found by the asset it became."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("assets", sa.Column("announced", sa.Boolean, server_default=sa.false(), nullable=False))
    op.create_check_constraint(
        "assets_announced", "assets", "NOT announced OR (deletion_reason IS NOT NULL AND deleted_at IS NULL)"
    )
    op.create_index(
        "expected_uploads_asset_id",
        "expected_uploads",
        ["asset_id"],
        postgresql_where=sa.text("asset_id IS NOT NULL"),
    )
