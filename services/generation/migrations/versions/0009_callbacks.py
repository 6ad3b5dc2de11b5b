"""When a provider last called back: one that does is asked less often."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("loads", sa.Column("called_back_at", sa.TIMESTAMP(timezone=True)))
