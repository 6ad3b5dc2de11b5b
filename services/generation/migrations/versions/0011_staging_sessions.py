"""Staging sessions, the numbers of their results, and the styles an organization has saved."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import part_modes, protect

revision = "0011"
down_revision = "0010"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    staging_sessions()
    staging_results()
    saved_styles()
    jobs()


def staging_sessions() -> None:
    op.create_table(
        "staging_sessions",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("name", TEXT),
        sa.Column("room_state", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("upload_id", TEXT, nullable=False),
        sa.Column("asset", JSONB, nullable=False),
        sa.Column("style", TEXT),
        sa.Column("room_type", TEXT),
        sa.Column("empty_rooms", sa.Integer, server_default="0", nullable=False),
        sa.Column("variants", sa.Integer, server_default="0", nullable=False),
        sa.Column("begun", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("selected_image_id", TEXT, sa.ForeignKey("images.id")),
        sa.Column("locked_at", TIME),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", TIME),
        sa.CheckConstraint("room_state IN ('already_empty','generate_empty')", name="staging_sessions_room_state"),
        sa.CheckConstraint(
            "status IN ('draft','generating','selecting','locked','staging','completed')",
            name="staging_sessions_status",
        ),
        sa.CheckConstraint("empty_rooms >= 0 AND variants >= 0", name="staging_sessions_counts"),
        sa.CheckConstraint(
            "locked_at IS NULL OR selected_image_id IS NOT NULL", name="staging_sessions_locked_what_is_selected"
        ),
    )
    op.create_index(
        "staging_sessions_of_organization",
        "staging_sessions",
        ["org_id", "livemode", "id"],
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("staging_sessions")
    part_modes("staging_sessions")


def staging_results() -> None:
    op.create_table(
        "staging_results",
        sa.Column("generation_id", TEXT, sa.ForeignKey("generations.id"), primary_key=True),
        sa.Column("session_id", TEXT, sa.ForeignKey("staging_sessions.id"), nullable=False),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("workflow", TEXT, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.UniqueConstraint("session_id", "workflow", "number", name="staging_results_number"),
        sa.CheckConstraint(
            "(workflow = 'empty_room' AND number >= 0) OR (workflow = 'staging' AND number >= 1)",
            name="staging_results_counted",
        ),
    )
    protect("staging_results")
    part_modes("staging_results")


def saved_styles() -> None:
    op.create_table(
        "saved_styles",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("base", TEXT, nullable=False),
        sa.Column("words", TEXT, nullable=False),
        sa.Column("colours", JSONB, nullable=False),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", TIME),
    )
    op.create_index(
        "saved_styles_of_organization",
        "saved_styles",
        ["org_id", "livemode", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("saved_styles")
    part_modes("saved_styles")


def jobs() -> None:
    op.add_column("jobs", sa.Column("retry_number", sa.Integer))
    op.create_index("jobs_of_session", "jobs", ["session_id", "id"], postgresql_where=sa.text("session_id IS NOT NULL"))
