"""Analyses are kept by what they answer, and operations that would ask the same wait for one of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import SYSTEM_ROLE
from shared.migrations import part_modes, protect

revision = "0008"
down_revision = "0007"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    analyses()
    operations()
    op.add_column("generations", sa.Column("parts", sa.Integer))
    for column in (
        sa.Column("fresh", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("cacheable", sa.Integer, server_default="0", nullable=False),
        sa.Column("from_cache", sa.Integer, server_default="0", nullable=False),
    ):
        op.add_column("jobs", column)


def analyses() -> None:
    op.create_table(
        "analyses",
        sa.Column("org_id", TEXT, primary_key=True),
        sa.Column("livemode", sa.Boolean, primary_key=True),
        sa.Column("key", TEXT, primary_key=True),
        sa.Column("operation_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("model_used", TEXT),
        sa.Column("result", JSONB),
        sa.Column("made_at", TIME),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("(result IS NULL) = (made_at IS NULL)", name="analyses_made"),
    )
    op.create_index("analyses_by_age", "analyses", [sa.text("coalesce(made_at, created_at)")])
    protect("analyses", writes=())
    part_modes("analyses")
    op.execute(f"GRANT INSERT, UPDATE, DELETE ON analyses TO {SYSTEM_ROLE}")


def operations() -> None:
    for column in (
        sa.Column("analysis_key", TEXT),
        sa.Column("waits_since", TIME),
        sa.Column("taken_from", TEXT),
    ):
        op.add_column("operations", column)
    # Whoever waits for an analysis is not due: nobody claims it, and it takes no place of anybody.
    op.execute(
        "ALTER TABLE operations ADD CONSTRAINT operations_waits"
        " CHECK (waits_since IS NULL OR status <> 'queued' OR (due_at IS NULL AND analysis_key IS NOT NULL)) NOT VALID"
    )
    op.create_index(
        "operations_awaiting_analysis",
        "operations",
        ["org_id", "livemode", "analysis_key", "waits_since"],
        postgresql_where=sa.text("status = 'queued' AND waits_since IS NOT NULL"),
    )
