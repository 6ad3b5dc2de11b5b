"""The daily cap of the API key that a job was asked for with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cap_id", sa.Text))
    op.add_column("jobs", sa.Column("daily_cap", sa.Integer))
