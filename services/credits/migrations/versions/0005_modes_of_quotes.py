"""Quotes know whether a live key or a test key asked for them; a tenant's transaction sees those of one of the two."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import part_modes

revision = "0005"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("quotes", sa.Column("livemode", sa.Boolean, server_default=sa.true(), nullable=False))
    op.alter_column("quotes", "livemode", server_default=None)
    part_modes("quotes")
