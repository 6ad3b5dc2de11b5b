"""Who members are at an outside identity provider."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import protect

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "linked_identities",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "user_id"], ["members.org_id", "members.id"], name="linked_identities_member"
        ),
        sa.UniqueConstraint("org_id", "user_id", "issuer", name="linked_identities_one_of_issuer"),
    )
    protect("linked_identities", writes=("INSERT", "DELETE"))
