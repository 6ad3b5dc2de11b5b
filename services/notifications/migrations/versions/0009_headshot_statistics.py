"""What happened to headshots, one row a happening, and the daily table that is made of it."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE
from shared.migrations import part_modes, protect

revision = "0009"
down_revision = "0008"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    facts()
    days()
    # Administrators alone look at these, across organizations: no tenant writes them.
    protect("headshot_facts", writes=())
    part_modes("headshot_facts")
    for table in ("headshot_facts", "headshot_days"):
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {SYSTEM_ROLE}")


def facts() -> None:
    op.create_table(
        "headshot_facts",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("style", TEXT),
        sa.Column("job_id", TEXT),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("amount", sa.Integer),
        sa.Column("reason", TEXT),
    )
    op.create_index("headshot_facts_at", "headshot_facts", ["at"])


def days() -> None:
    count = {"type_": sa.Integer, "nullable": False}
    op.create_table(
        "headshot_days",
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column("style", TEXT, primary_key=True),
        sa.Column("livemode", sa.Boolean, primary_key=True),
        *(
            sa.Column(name, **count)
            for name in ("started", "total_generations", "succeeded", "failed", "cancelled", "credits")
        ),
        sa.Column("success_rate", sa.Numeric(5, 2)),
        sa.Column("avg_processing_time_ms", sa.Integer),
        *(sa.Column(name, **count) for name in ("users", "favorites", "selected", "downloaded", "shared")),
    )
