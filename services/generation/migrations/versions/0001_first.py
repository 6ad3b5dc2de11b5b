"""Jobs, generations, operations and images, behind the tenant wall."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import create_delivery_tables, create_roles, protect

revision = "0001"
down_revision = None

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    create_roles()
    create_delivery_tables()
    jobs()
    generations()
    operations()
    images()


def jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("workflow", TEXT, nullable=False),
        sa.Column("inputs", JSONB, nullable=False),
        sa.Column("assets", JSONB, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("correlation_id", TEXT),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("open_generations", sa.Integer, nullable=False),
        sa.Column("estimated_seconds", sa.Integer, nullable=False),
        sa.Column("session_id", TEXT),
        sa.Column("session_name", TEXT),
        sa.Column("retry_of", TEXT),
        sa.Column("retry_count", sa.Integer, server_default="0", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("progressed_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("reserve_after", TIME),
        sa.CheckConstraint(
            "status IN ('awaiting_credit','queued','running','paused','cancelling','succeeded',"
            "'partially_succeeded','failed','cancelled','expired','rejected')",
            name="jobs_status",
        ),
        sa.CheckConstraint("open_generations BETWEEN 0 AND total", name="jobs_open_generations"),
        sa.CheckConstraint("(finished_at IS NULL) = (open_generations > 0)", name="jobs_finished_when_none_open"),
    )
    op.create_index("jobs_of_organization", "jobs", ["org_id", "id"])
    op.create_index("jobs_by_deadline", "jobs", ["deadline_at"], postgresql_where=sa.text("finished_at IS NULL"))
    op.create_index(
        "jobs_awaiting_credit", "jobs", ["reserve_after"], postgresql_where=sa.text("status = 'awaiting_credit'")
    )
    protect("jobs")


def generations() -> None:
    op.create_table(
        "generations",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("sku", TEXT),
        sa.Column("amount", sa.Integer),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("style", TEXT),
        sa.Column("room_type", TEXT),
        sa.Column("view_type", TEXT),
        sa.Column("product_id", TEXT),
        sa.Column("revision_id", TEXT),
        sa.Column("settings", JSONB, nullable=False),
        sa.Column("failure_reason", TEXT),
        sa.Column("failure_message", TEXT),
        sa.Column("result", JSONB),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.UniqueConstraint("job_id", "number", name="generations_number"),
        sa.CheckConstraint("status IN ('queued','running','storing','succeeded','failed')", name="generations_status"),
        sa.CheckConstraint("(status = 'failed') = (failure_reason IS NOT NULL)", name="generations_failure"),
    )
    protect("generations")


def operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("generation_id", TEXT, sa.ForeignKey("generations.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("lane", sa.Integer, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("model_requested", TEXT, nullable=False),
        sa.Column("model_used", TEXT),
        sa.Column("prompt", TEXT, nullable=False),
        sa.Column("prompt_version", TEXT, nullable=False),
        sa.Column("inputs", JSONB, nullable=False),
        sa.Column("output", JSONB),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("makes_image", sa.Boolean, nullable=False),
        sa.Column("attempt", sa.Integer, server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("worker", TEXT),
        sa.Column("due_at", TIME),
        sa.Column("lease_until", TIME),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cost_microusd", sa.BigInteger),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("error_code", TEXT),
        sa.Column("error_detail", TEXT),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("completed_at", TIME),
        sa.UniqueConstraint("generation_id", "position", name="operations_position"),
        sa.CheckConstraint(
            "status IN ('queued','running','storing','succeeded','failed','cancelled','unknown')",
            name="operations_status",
        ),
        sa.CheckConstraint("status NOT IN ('running','storing') OR lease_until IS NOT NULL", name="operations_lease"),
    )
    op.create_index(
        "operations_queue",
        "operations",
        ["org_id", "lane", "due_at", "id"],
        postgresql_where=sa.text("status = 'queued' AND due_at IS NOT NULL"),
    )
    op.create_index(
        "operations_leases",
        "operations",
        ["lease_until"],
        postgresql_where=sa.text("status IN ('running', 'storing', 'unknown')"),
    )
    op.create_index(
        "operations_at_work",
        "operations",
        ["org_id"],
        postgresql_where=sa.text("status IN ('running', 'storing', 'unknown')"),
    )
    op.create_index("operations_of_job", "operations", ["job_id"])
    # The queue's rows live for seconds; autovacuum must not wait until a fifth of the table is dead.
    op.execute("ALTER TABLE operations SET (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 80)")
    protect("operations")


def images() -> None:
    op.create_table(
        "images",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("job_id", TEXT, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("generation_id", TEXT, sa.ForeignKey("generations.id"), nullable=False),
        sa.Column("operation_id", TEXT, sa.ForeignKey("operations.id"), nullable=False),
        sa.Column("key", TEXT, nullable=False, unique=True),
        sa.Column("thumbnail_key", TEXT, nullable=False),
        sa.Column("content_type", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("crc32", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("style", TEXT),
        sa.Column("room_type", TEXT),
        sa.Column("product_id", TEXT),
        sa.Column("settings", JSONB, nullable=False),
        sa.Column("provenance", JSONB, nullable=False),
        sa.Column("parent_id", TEXT),
        sa.Column("pinned", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("favorite", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", TIME),
    )
    op.create_index("images_of_organization", "images", ["org_id", "id"])
    op.create_index("images_of_generation", "images", ["generation_id"])
    protect("images")
