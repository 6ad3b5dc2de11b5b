"""Who was asked first for an operation, and what was made by another than that."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("operations", sa.Column("asked_first", sa.Text))
    op.add_column("generations", sa.Column("fallback_from", sa.Text))
