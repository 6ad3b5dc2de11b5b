"""Indexes for what is looked for in large logs and backlogs, and what is told of an event without reading it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import SYSTEM_ROLE

revision = "0007"
down_revision = "0006"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)
# The types that have a sentence, or soon will: what comes later is marked as it is recorded.
TOLD = (
    *("OrganizationCreated", "MemberInvited", "MemberJoined", "MemberChanged", "MemberRemoved", "PlanChanged"),
    *("CreditsGranted", "CreditsAdjusted", "CreditsExpired", "QuotaThresholdReached", "JobAccepted", "JobPaused"),
    *("JobResumed", "JobStalled", "GenerationFailed", "JobFinished", "AssetUploaded", "SourceDeleted"),
    "WebhookEndpointDisabled",
)


def upgrade() -> None:
    mark_events()
    index_events()
    op.create_index("webhook_deliveries_by_status", "webhook_deliveries", ["endpoint_id", "status", "id"])
    # Whoever leaves is forgotten in all of their mails, not only in those that have not left.
    op.drop_index("mails_open_of_user", "mails")
    op.create_index("mails_of_user", "mails", ["org_id", "user_id"])
    index_readers()
    create_tips()


def mark_events() -> None:
    op.add_column("recorded_events", sa.Column("told", sa.Boolean, server_default=sa.false(), nullable=False))
    op.add_column("recorded_events", sa.Column("succeeded", sa.BigInteger))
    op.add_column("recorded_events", sa.Column("failed", sa.BigInteger))
    # Forced, the wall hides every row from the table's owner, who runs this.
    op.execute("ALTER TABLE recorded_events NO FORCE ROW LEVEL SECURITY")
    types = ", ".join(f"'{each}'" for each in TOLD)
    op.execute(f"UPDATE recorded_events SET told = true WHERE type IN ({types})")
    op.execute(
        "UPDATE recorded_events r SET succeeded = CAST(known.data ->> 'succeeded' AS bigint),"
        " failed = CAST(known.data ->> 'failed' AS bigint)"
        " FROM (SELECT org_id, sequence, CAST(body AS jsonb) -> 'data' AS data FROM recorded_events"
        " WHERE type = 'JobFinished' OFFSET 0) AS known"
        " WHERE r.org_id = known.org_id AND r.sequence = known.sequence"
    )
    op.execute("ALTER TABLE recorded_events FORCE ROW LEVEL SECURITY")


def index_events() -> None:
    for name, columns, condition in (
        ("recorded_events_told", ["org_id", "of_test_key", "sequence"], "told"),
        ("recorded_events_of_test_keys", ["org_id", "sequence"], "of_test_key"),
        ("recorded_events_ends_of_jobs", ["org_id", "recorded_at"], "type = 'JobFinished'"),
    ):
        op.create_index(name, "recorded_events", columns, postgresql_where=sa.text(condition))


def index_readers() -> None:
    for name, kind in (("weekly", "weekly_usage_summary"), ("tips", "tips_and_best_practices")):
        asked = sa.text(f"((chosen -> 'email') ->> '{kind}') = 'true'")
        op.create_index(f"preferences_{name}", "preferences", ["org_id", "user_id"], postgresql_where=asked)


def create_tips() -> None:
    op.create_table(
        "tips",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("paragraphs", JSONB, nullable=False),
        sa.Column("reached_org", TEXT, server_default="", nullable=False),
        sa.Column("reached", TEXT, server_default="", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("ended_at", TIME),
    )
    op.create_index("tips_open", "tips", ["id"], postgresql_where=sa.text("ended_at IS NULL"))
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON tips TO {SYSTEM_ROLE}")
