"""Operations that a provider has taken are rows that are asked for; every sending of one is a row of the log.

Stop every worker of an older version first (SIGTERM lets it end what it has in hand), then run this, then start the new
ones: an older one sends without writing `sent_at`, so that a new one would take what it has sent for not sent, and send
it again. The processes that only take jobs in may go on meanwhile. What a worker had that was killed instead counts as
sent: it is looked for, sent again or given back, as its provider's `after_lost_answer` says.
"""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE
from shared.migrations import part_modes, protect

revision = "0005"
down_revision = "0004"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    operations()
    attempts()
    op.add_column("jobs", sa.Column("stalled_at", TIME))
    # A retry makes some of what its inputs plan: how many that were, and which.
    op.add_column("jobs", sa.Column("planned", sa.Integer))
    op.add_column("generations", sa.Column("plan_number", sa.Integer))


def operations() -> None:
    for column in (
        sa.Column("sent_at", TIME),
        sa.Column("submitted_at", TIME),
        sa.Column("external_id", TEXT),
        sa.Column("phase", TEXT),
        sa.Column("queue_position", sa.Integer),
        sa.Column("poll_at", TIME),
        sa.Column("polls", sa.Integer, server_default="0", nullable=False),
        sa.Column("cancel_sent_at", TIME),
    ):
        op.add_column("operations", column)
    # What a worker had when this ran may have been sent: it is not to be taken for something that was not.
    op.execute(f"SET LOCAL ROLE {SYSTEM_ROLE}")
    op.execute("UPDATE operations SET sent_at = started_at WHERE status IN ('running', 'storing', 'unknown')")
    op.execute("RESET ROLE")
    op.drop_constraint("operations_lease", "operations")
    op.create_check_constraint(
        "operations_lease",
        "operations",
        "status NOT IN ('running','storing') OR lease_until IS NOT NULL"
        " OR (status = 'running' AND external_id IS NOT NULL AND poll_at IS NOT NULL)",
    )
    op.create_check_constraint(
        "operations_unknown", "operations", "status <> 'unknown' OR poll_at IS NOT NULL OR lease_until IS NOT NULL"
    )
    op.create_index("operations_to_ask_for", "operations", ["poll_at"], postgresql_where=sa.text("poll_at IS NOT NULL"))


def attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("operation_id", TEXT, sa.ForeignKey("operations.id"), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("model_requested", TEXT, nullable=False),
        sa.Column("model_used", TEXT),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("worker", TEXT),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("external_id", TEXT),
        sa.Column("sent_at", TIME, nullable=False),
        sa.Column("submitted_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("error_code", TEXT),
        sa.Column("error_detail", TEXT),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cost_microusd", sa.BigInteger),
        sa.Column("request_digest", TEXT),
        sa.Column("response_digest", TEXT),
        sa.CheckConstraint(
            "status IN ('sent','submitted','unknown','succeeded','failed','late')", name="attempts_status"
        ),
    )
    op.create_index("attempts_of_job", "attempts", ["job_id"])
    op.create_index("attempts_open", "attempts", ["sent_at"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index("attempts_of_organization", "attempts", ["org_id", "sent_at"])
    op.create_index("attempts_by_time", "attempts", ["sent_at", "operation_id", "attempt"])
    protect("attempts")
    part_modes("attempts")
