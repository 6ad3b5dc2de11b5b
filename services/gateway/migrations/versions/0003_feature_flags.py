"""Feature flags of an organization."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import protect

revision = "0003"
down_revision = "0002"

_MOMENT = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "organization_flags",
        sa.Column(
            "org_id",
            sa.Text,
            sa.ForeignKey("organizations.id", name="organization_flags_organization"),
            primary_key=True,
        ),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", _MOMENT, server_default=sa.func.now(), nullable=False),
    )
    protect("organization_flags")
