"""Whose turn it is and what a provider bears: shares, circuits, tokens, measured times, and the queue's own order.

Stop every worker of an older version first: it knows no circuits and no tokens, and would claim past them. Writes to
the queue wait while its index is built anew, for some seconds at a million operations.
"""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE, TENANT_ROLE
from shared.migrations import protect, share

revision = "0006"
down_revision = "0005"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    shares()
    circuits()
    loads()
    operation_times()
    sunset_notices()
    queue()


def shares() -> None:
    op.create_table(
        "shares",
        sa.Column("org_id", TEXT, primary_key=True),
        sa.Column("weight", sa.Integer, server_default="1", nullable=False),
        sa.Column("operations_at_work", sa.Integer),
        sa.Column("open_generations", sa.Integer),
        sa.CheckConstraint("weight BETWEEN 1 AND 1000", name="shares_weight"),
        sa.CheckConstraint("operations_at_work >= 0", name="shares_operations_at_work"),
        sa.CheckConstraint("open_generations >= 0", name="shares_open_generations"),
    )
    protect("shares", writes=())
    _written_by_the_system("shares")


def circuits() -> None:
    op.create_table(
        "circuits",
        sa.Column("provider", TEXT, primary_key=True),
        sa.Column("model", TEXT, primary_key=True),
        sa.Column("state", TEXT, server_default="closed", nullable=False),
        sa.Column("failures", sa.Integer, server_default="0", nullable=False),
        sa.Column("opened_at", TIME),
        sa.Column("probe_at", TIME),
        sa.Column("probe_id", TEXT),
        sa.Column("paused_until", TIME),
        sa.Column("failed_at", TIME),
        sa.Column("failure_code", TEXT),
        sa.Column("last_served", TEXT),
        sa.Column("last_tested", TEXT),
        sa.CheckConstraint("state IN ('closed','open','half_open')", name="circuits_state"),
        sa.CheckConstraint("(state = 'closed') = (opened_at IS NULL)", name="circuits_opened"),
        sa.CheckConstraint("(state = 'closed') = (probe_at IS NULL)", name="circuits_probe"),
    )
    # An organization is to see why it waits, and not who was served last.
    op.execute(f"GRANT SELECT (provider, model, state, paused_until) ON circuits TO {TENANT_ROLE}")
    op.execute(f"GRANT SELECT ON circuits TO {SYSTEM_ROLE}")
    _written_by_the_system("circuits")


def loads() -> None:
    op.create_table(
        "loads",
        sa.Column("provider", TEXT, primary_key=True),
        sa.Column("tokens", sa.Float, nullable=False),
        sa.Column("refilled_at", TIME, nullable=False),
        sa.Column("at_work", sa.Integer, nullable=False),
        sa.Column("most", sa.Integer, nullable=False),
        sa.Column("per_organization", sa.Integer, nullable=False),
        sa.Column("per_minute", sa.Integer),
    )
    share("loads", writes=())
    _written_by_the_system("loads")


def operation_times() -> None:
    op.create_table(
        "operation_times",
        sa.Column("provider", TEXT, primary_key=True),
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("mean_seconds", sa.Float, nullable=False),
        sa.Column("measured", sa.BigInteger, nullable=False),
        sa.Column("recent_seconds", sa.ARRAY(sa.Float), nullable=False),
    )
    share("operation_times", writes=())
    _written_by_the_system("operation_times")


def sunset_notices() -> None:
    op.create_table(
        "sunset_notices",
        sa.Column("provider", TEXT, primary_key=True),
        sa.Column("model", TEXT, primary_key=True),
        sa.Column("sunset", sa.Date, primary_key=True),
        sa.Column("told_at", TIME, server_default=sa.func.now(), nullable=False),
    )
    share("sunset_notices", writes=())
    _written_by_the_system("sunset_notices")


def queue() -> None:
    """Order the queue as it is claimed: by what an operation needs, then by whose it is."""
    due = sa.text("status = 'queued' AND due_at IS NOT NULL")
    op.drop_index("operations_queue", "operations")
    op.create_index(
        "operations_queue",
        "operations",
        ["provider", "model_requested", "livemode", "org_id", "lane", "due_at", "id"],
        postgresql_where=due,
    )
    op.create_index("operations_waiting", "operations", ["org_id", "livemode", "job_id"], postgresql_where=due)
    op.create_index(
        "jobs_open_of_live_keys",
        "jobs",
        ["org_id"],
        postgresql_include=["open_generations"],
        postgresql_where=sa.text("livemode AND finished_at IS NULL"),
    )


def _written_by_the_system(table: str) -> None:
    op.execute(f"GRANT INSERT, UPDATE, DELETE ON {table} TO {SYSTEM_ROLE}")
