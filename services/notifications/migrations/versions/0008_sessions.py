"""How the jobs of sessions ended, by which a session is told of as one."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE
from shared.migrations import protect

revision = "0008"
down_revision = "0006"

TEXT = sa.Text
COUNT = sa.Integer


def upgrade() -> None:
    op.create_table(
        "ended_jobs",
        sa.Column("org_id", TEXT, primary_key=True),
        sa.Column("job_id", TEXT, primary_key=True),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("retry_of", TEXT),
        sa.Column("completed", sa.Boolean, nullable=False),
        sa.Column("succeeded", COUNT, nullable=False),
        sa.Column("failed", COUNT, nullable=False),
        sa.Column("fallbacks", COUNT, nullable=False),
        sa.Column("noted_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index("ended_jobs_of_session", "ended_jobs", ["org_id", "session_id"])
    op.create_index("ended_jobs_noted_at", "ended_jobs", ["noted_at"])
    protect("ended_jobs", writes=())
    op.execute(f"GRANT INSERT, DELETE ON ended_jobs TO {SYSTEM_ROLE}")
    op.execute(f"GRANT UPDATE ON messages TO {SYSTEM_ROLE}")
