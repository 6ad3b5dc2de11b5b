"""Jobs that run in part, or wait: what credits said, when to ask them again, and what results really cost."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE

revision = "0002"
down_revision = "0001"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    jobs()
    generations()


def jobs() -> None:
    for column in (
        sa.Column("deadline_seconds", sa.Float),
        sa.Column("on_insufficient", TEXT, server_default="reject", nullable=False),
        sa.Column("quote_id", TEXT),
        sa.Column("fingerprint", TEXT),
        sa.Column("waiting_reason", TEXT),
        sa.Column("paused_at", TIME),
    ):
        op.add_column("jobs", column)
    op.create_check_constraint("jobs_on_insufficient", "jobs", "on_insufficient IN ('reject','partial','pause')")
    op.create_check_constraint("jobs_paused", "jobs", "(status = 'paused') = (paused_at IS NOT NULL)")
    op.drop_index("jobs_awaiting_credit", "jobs")
    asking = sa.text("reserve_after IS NOT NULL AND finished_at IS NULL")
    op.create_index("jobs_to_ask_for", "jobs", ["reserve_after"], postgresql_where=asking)
    op.create_index("jobs_to_ask_for_of_organization", "jobs", ["org_id"], postgresql_where=asking)
    op.create_index("jobs_paused_since", "jobs", ["paused_at"], postgresql_where=sa.text("status = 'paused'"))


def generations() -> None:
    op.add_column("generations", sa.Column("charged", sa.Integer))
    op.add_column("generations", sa.Column("expected_cost_microusd", sa.BigInteger, server_default="0", nullable=False))
    # The tables are behind the tenant wall even for their owner: the system's role sees every row.
    op.execute(f"SET LOCAL ROLE {SYSTEM_ROLE}")
    op.execute("UPDATE generations SET charged = coalesce(amount, 0) WHERE status = 'succeeded'")
    op.execute("RESET ROLE")
    op.create_check_constraint(
        "generations_charged", "generations", "charged IS NULL OR charged BETWEEN 0 AND coalesce(amount, 0)"
    )
