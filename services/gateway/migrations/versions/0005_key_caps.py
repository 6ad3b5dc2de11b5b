"""Daily caps of API keys: which of them are counted together."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("cap_id", sa.Text))
    op.execute("ALTER TABLE api_keys NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE api_keys SET daily_cap = NULL WHERE daily_cap <= 0")  # there was no way to set one
    op.execute("UPDATE api_keys SET cap_id = id WHERE daily_cap IS NOT NULL")
    op.execute("ALTER TABLE api_keys FORCE ROW LEVEL SECURITY")
    op.create_check_constraint(
        "api_keys_daily_cap", "api_keys", "(daily_cap IS NULL) = (cap_id IS NULL) AND daily_cap > 0"
    )
