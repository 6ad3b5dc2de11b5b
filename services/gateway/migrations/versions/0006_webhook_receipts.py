"""Which deliveries of providers' webhooks were taken."""

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "webhook_receipts",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("delivery_id", sa.Text, primary_key=True),
        sa.Column("operation_id", sa.Text, primary_key=True),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index("webhook_receipts_received_at", "webhook_receipts", ["received_at"])
    # Providers have no organization: a tenant's transaction has no business here.
    op.execute(f"GRANT SELECT, INSERT, DELETE ON webhook_receipts TO {SYSTEM_ROLE}")
