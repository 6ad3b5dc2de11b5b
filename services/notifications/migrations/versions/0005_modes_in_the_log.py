"""The log tells what test keys have made from everything else; webhooks get both, so no policy parts the rows."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("recorded_events", sa.Column("of_test_key", sa.Boolean, server_default=sa.false(), nullable=False))
    # Forced, the wall hides every row from the table's owner, who runs this.
    op.execute("ALTER TABLE recorded_events NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "UPDATE recorded_events SET of_test_key = true"
        " WHERE CAST(CAST(body AS jsonb) -> 'data' ->> 'livemode' AS boolean) = false"
    )
    op.execute("ALTER TABLE recorded_events FORCE ROW LEVEL SECURITY")
