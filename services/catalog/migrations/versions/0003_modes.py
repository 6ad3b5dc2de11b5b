"""Uploads know whether a live key or a test key sent them, and a tenant's transaction sees those of one of the two."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import part_modes

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for table in ("assets", "expected_uploads"):
        op.add_column(table, sa.Column("livemode", sa.Boolean, server_default=sa.true(), nullable=False))
        op.alter_column(table, "livemode", server_default=None)
        part_modes(table)
