"""The uploads that an organization has announced and not completed are counted with each new one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index(
        "expected_uploads_outstanding",
        "expected_uploads",
        ["org_id", "livemode", "expires_at"],
        postgresql_where=sa.text("asset_id IS NULL"),
    )
