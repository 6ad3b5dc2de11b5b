"""What operators were told, once for each incident; no organization's, so that only the system reads it."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE

revision = "0006"
down_revision = "0005"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("remedy", TEXT, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("seen", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("closed_at", TIME),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer, server_default="0", nullable=False),
        sa.Column("due_at", TIME, server_default=NOW, nullable=False),
        sa.Column("lease_until", TIME),
        sa.Column("fence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("failure", TEXT),
        sa.CheckConstraint("status IN ('none', 'pending', 'sent', 'failed')", name="incidents_status"),
    )
    op.create_index("incidents_key", "incidents", ["key", "id"])
    op.create_index("incidents_due", "incidents", ["due_at"], postgresql_where=sa.text("status = 'pending'"))
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON incidents TO {SYSTEM_ROLE}")
