"""Rows know whether they are of a live key or of a test key; a tenant's transaction sees those of one of the two."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE
from shared.migrations import part_modes

revision = "0003"
down_revision = "0002"

_OF_JOBS = ("generations", "operations", "images")


def upgrade() -> None:
    for table in _OF_JOBS:
        op.add_column(table, sa.Column("livemode", sa.Boolean, server_default=sa.true(), nullable=False))
    _take_over_modes()
    for table in _OF_JOBS:
        op.alter_column(table, "livemode", server_default=None)
    for table in ("jobs", *_OF_JOBS):
        part_modes(table)
    _test_work()
    _lists()


def _take_over_modes() -> None:
    op.execute(f"SET LOCAL ROLE {SYSTEM_ROLE}")
    for table in _OF_JOBS:
        op.execute(f"UPDATE {table} SET livemode = false FROM jobs WHERE jobs.id = job_id AND NOT jobs.livemode")
    op.execute(
        "UPDATE operations SET lane = 2, provider = 'local'"
        " WHERE NOT livemode AND status IN ('queued', 'running', 'storing', 'unknown')"
    )
    op.execute("RESET ROLE")


def _test_work() -> None:
    # Whatever a route or a fallback says: nobody is ever billed for an operation of a test key, and none stands before
    # a live one. What ended before this was so stays as it was.
    op.execute(
        "ALTER TABLE operations ADD CONSTRAINT operations_of_test_keys"
        " CHECK ((lane = 2) = NOT livemode AND (livemode OR provider = 'local')) NOT VALID"
    )
    op.create_index(
        "jobs_open_in_test_mode",
        "jobs",
        ["org_id"],
        postgresql_where=sa.text("NOT livemode AND finished_at IS NULL"),
    )


def _lists() -> None:
    """Let the few of a mode be found among the many of the other."""
    for table in ("jobs", "images"):
        op.drop_index(f"{table}_of_organization", table)
        op.create_index(f"{table}_of_organization", table, ["org_id", "livemode", "id"])
