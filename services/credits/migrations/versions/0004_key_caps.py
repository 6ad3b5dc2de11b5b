"""Daily caps of API keys: which lines count against which, and what they come to by day."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from shared.migrations import protect

revision = "0004"
down_revision = "0003"

_FUNCTIONS = Path(__file__).parent.parent / "functions"


def upgrade() -> None:
    op.add_column("lines", sa.Column("cap_id", sa.Text))
    op.create_table(
        "cap_usage",
        sa.Column("org_id", sa.Text, primary_key=True),
        sa.Column("cap_id", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.CheckConstraint("amount >= 0", name="cap_usage_amount"),
    )
    protect("cap_usage", writes=("INSERT", "UPDATE"))
    op.execute("DROP FUNCTION reserve, settle, return_lines")
    for function in ("reserve_3", "settle_3", "return_lines_2"):
        op.execute(sa.text((_FUNCTIONS / f"{function}.sql").read_text().replace(":", r"\:")))
