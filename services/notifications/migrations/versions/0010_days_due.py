"""Days of headshots are counted a moment after something of them was kept, not with each event; facts have an order."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table("headshot_days_due", sa.Column("date", sa.Date, primary_key=True))
    op.add_column("headshot_facts", sa.Column("sequence", sa.Text, server_default="", nullable=False))
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON headshot_days_due TO {SYSTEM_ROLE}")
