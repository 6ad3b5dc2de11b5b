"""Endpoints of webhooks, the deliveries to them, and each try."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from shared.database import SYSTEM_ROLE, TENANT_ROLE
from shared.migrations import protect

revision = "0003"
down_revision = "0002"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.func.now()
PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    create_endpoints()
    create_deliveries()
    create_attempts()
    protect("webhook_endpoints")
    protect("webhook_deliveries", writes=("INSERT", "DELETE"))
    protect("webhook_attempts", writes=())
    op.execute(f"GRANT UPDATE ON webhook_deliveries TO {SYSTEM_ROLE}")
    op.execute(f"GRANT UPDATE (status, ended_at, failure) ON webhook_deliveries TO {TENANT_ROLE}")
    op.execute(f"GRANT INSERT, DELETE ON webhook_attempts TO {SYSTEM_ROLE}")


def create_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("description", TEXT),
        sa.Column("types", ARRAY(TEXT)),
        sa.Column("ordered", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("status", TEXT, server_default="enabled", nullable=False),
        sa.Column("disabled_reason", TEXT),
        sa.Column("secret", TEXT, nullable=False),
        sa.Column("previous_secret", TEXT),
        sa.Column("previous_until", TIME),
        sa.Column("failing_since", TIME),
        sa.Column("slow", sa.Boolean, server_default=sa.true(), nullable=False),
        sa.Column("paused_until", TIME),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_by", TEXT),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.UniqueConstraint("org_id", "id", name="webhook_endpoints_org_id"),
        sa.CheckConstraint("status IN ('enabled', 'disabled')", name="webhook_endpoints_status"),
        sa.CheckConstraint(
            "(status = 'disabled') = (disabled_reason IS NOT NULL)"
            " AND disabled_reason IN ('gone', 'failing', 'requested')",
            name="webhook_endpoints_disabled",
        ),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_until IS NULL)", name="webhook_endpoints_previous_secret"
        ),
    )


def create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("endpoint_id", TEXT, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("body", TEXT),
        sa.Column("cause", TEXT, nullable=False),
        sa.Column("status", TEXT, server_default="pending", nullable=False),
        sa.Column("attempt", sa.Integer, server_default="0", nullable=False),
        sa.Column("due_at", TIME, server_default=NOW, nullable=False),
        sa.Column("lease_until", TIME),
        sa.Column("fence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("failure", TEXT),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("ended_at", TIME),
        sa.ForeignKeyConstraint(
            ["org_id", "endpoint_id"],
            ["webhook_endpoints.org_id", "webhook_endpoints.id"],
            name="webhook_deliveries_endpoint",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'failed', 'cancelled')", name="webhook_deliveries_status"
        ),
        sa.CheckConstraint("(status = 'pending') = (ended_at IS NULL)", name="webhook_deliveries_ended"),
        sa.CheckConstraint(
            "CASE cause WHEN 'test' THEN body IS NOT NULL AND sequence IS NULL"
            " WHEN 'event' THEN body IS NULL AND sequence IS NOT NULL"
            " WHEN 'replay' THEN body IS NULL AND sequence IS NOT NULL ELSE false END",
            name="webhook_deliveries_cause",
        ),
    )
    table = "webhook_deliveries"
    once = sa.text("cause = 'event'")
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index(f"{table}_once", table, ["endpoint_id", "event_id"], unique=True, postgresql_where=once)
    under_way = sa.text("status = 'pending' AND lease_until IS NOT NULL")
    op.create_index(f"{table}_due", table, ["endpoint_id", "due_at", "id"], postgresql_where=PENDING)
    op.create_index(f"{table}_under_way", table, ["endpoint_id"], postgresql_where=under_way)
    op.create_index(f"{table}_first", table, ["endpoint_id", "id"], postgresql_where=PENDING)
    op.create_index(f"{table}_of_endpoint", table, ["org_id", "endpoint_id", "id"])
    op.create_index(f"{table}_ended_at", table, ["ended_at"], postgresql_where=ended)


def create_attempts() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column(
            "delivery_id",
            sa.BigInteger,
            sa.ForeignKey("webhook_deliveries.id", name="webhook_attempts_delivery", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("ended_at", TIME, server_default=NOW, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", TEXT),
        sa.Column("response", TEXT, nullable=False),
    )
