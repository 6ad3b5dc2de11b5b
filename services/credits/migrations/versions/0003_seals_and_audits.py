"""The hash chain over the entries, and what the nightly audits found."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import SYSTEM_ROLE

revision = "0003"
down_revision = "0002"

_MOMENT = sa.TIMESTAMP(timezone=True)
_FUNCTIONS = Path(__file__).parent.parent / "functions"


def upgrade() -> None:
    _create_seals()
    _create_audits()
    for function in ("entry_digest_1", "chain_hash_1", "refuse_change_2", "seal_entries_1"):
        op.execute(sa.text((_FUNCTIONS / f"{function}.sql").read_text().replace(":", r"\:")))
    # None of them is of one organization: tenants have no business here.
    op.execute(f"GRANT SELECT, INSERT ON entry_seals, seals TO {SYSTEM_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON audits TO {SYSTEM_ROLE}")


def _create_seals() -> None:
    op.create_table(
        "entry_seals",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entry_id", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("entry_id", name="entry_seals_entry_id"),
        sa.CheckConstraint("octet_length(hash) = 32", name="entry_seals_hash"),
    )
    op.create_table(
        "seals",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sealed_at", _MOMENT, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("up_to_entry_id", sa.BigInteger, nullable=False),
        sa.Column("settled_entry_id", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("octet_length(hash) = 32", name="seals_hash"),
    )


def _create_audits() -> None:
    op.create_table(
        "audits",
        sa.Column("night", sa.Date, primary_key=True),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT),
        sa.Column("violations", sa.BigInteger),
        sa.Column("first", JSONB(none_as_null=True)),
        sa.CheckConstraint("(finished_at IS NULL) = (violations IS NULL)", name="audits_finished"),
        sa.CheckConstraint("(coalesce(violations, 0) > 0) = (first IS NOT NULL)", name="audits_first"),
    )
