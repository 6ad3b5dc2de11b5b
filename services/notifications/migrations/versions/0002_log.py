"""The log of events, one gapless sequence per organization."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE
from shared.migrations import protect

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _create_sequences()
    _create_events()
    for table in ("event_sequences", "recorded_events"):
        protect(table, writes=())
    op.execute(f"GRANT INSERT, UPDATE ON event_sequences TO {SYSTEM_ROLE}")
    op.execute(f"GRANT INSERT, DELETE ON recorded_events TO {SYSTEM_ROLE}")


def _create_sequences() -> None:
    op.create_table(
        "event_sequences",
        sa.Column("org_id", sa.Text, primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.CheckConstraint('"last" > 0', name="event_sequences_last"),
    )


def _create_events() -> None:
    op.create_table(
        "recorded_events",
        sa.Column("org_id", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.UniqueConstraint("org_id", "event_id", name="recorded_events_event_id"),
        sa.CheckConstraint("sequence > 0", name="recorded_events_sequence"),
    )
    for name, column in (("recorded_events_of_job", "job_id"), ("recorded_events_of_session", "session_id")):
        op.create_index(
            name,
            "recorded_events",
            ["org_id", column, "sequence"],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.create_index("recorded_events_of_type", "recorded_events", ["org_id", "type", "sequence"])
    op.create_index("recorded_events_recorded_at", "recorded_events", ["recorded_at"])
