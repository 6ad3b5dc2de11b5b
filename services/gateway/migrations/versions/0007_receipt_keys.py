"""By which keys deletion receipts are checked, those of before included."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "receipt_keys",
        sa.Column("x", sa.Text, primary_key=True),
        sa.Column("since", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    # They are of the installation, of no organization: a tenant's transaction has no business here.
    op.execute(f"GRANT SELECT, INSERT ON receipt_keys TO {SYSTEM_ROLE}")
