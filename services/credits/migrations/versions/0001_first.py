"""The ledger: plans and prices, accounts, append-only entries, reservations with their lines, grants."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from shared.database import SYSTEM_ROLE
from shared.migrations import create_delivery_tables, create_roles, protect, share

revision = "0001"
down_revision = None

_MOMENT = sa.TIMESTAMP(timezone=True)
_FUNCTIONS = Path(__file__).parent.parent / "functions"
_HISTORY = sa.text("org_id IS NOT NULL AND (version IS NOT NULL OR kind = 'capture')")
_UNIT = "unit IN ('credits', 'plan_generations')"

_PLANS = [
    # name, plan generations a month (None: without limit), price in US cents
    ("free", 100, 0),
    ("pro", None, 4900),
    ("team", None, 9900),
]
_PRICES = [
    # sku, unit, amount; the product is what stands before the dot
    ("staging.empty_room", "credits", 10),
    ("staging.variant", "credits", 10),
    ("staging.edit", "credits", 10),
    ("tech_pack.category", "credits", 0),
    ("tech_pack.base_views", "credits", 3),
    ("tech_pack.close_ups", "credits", 3),
    ("tech_pack.sketches", "credits", 3),
    ("tech_pack.edit", "credits", 1),
    ("tech_pack.regenerate", "credits", 1),
    ("studio.analysis", "credits", 0),
    ("studio.inspiration", "credits", 0),
    ("studio.image", "plan_generations", 1),
    ("headshot.image", "credits", 2),
]


def upgrade() -> None:
    create_roles()
    create_delivery_tables()
    _create_plans_and_prices()
    _create_accounts_and_entries()
    _create_reservations_and_lines()
    _create_grants()
    for function in ("price_at_1", "refuse_change_1", "give_1", "reserve_1", "settle_1"):
        op.execute(sa.text((_FUNCTIONS / f"{function}.sql").read_text().replace(":", r"\:")))
    _seed()
    _protect()


def _protect() -> None:
    share("plans", writes=())
    share("price_book", writes=())
    protect("entries", writes=("INSERT",))
    protect("reservations")
    protect("lines", writes=("INSERT", "UPDATE"))
    protect("accounts", writes=("UPDATE",))
    protect("grants", writes=())
    protect("organization_plans", writes=())
    # Only the system opens accounts and gives credits: a tenant's transaction can do no more than hold its own.
    op.execute(f"GRANT INSERT ON accounts, grants, organization_plans TO {SYSTEM_ROLE}")
    op.execute(f"GRANT UPDATE ON organization_plans TO {SYSTEM_ROLE}")


def _create_plans_and_prices() -> None:
    op.create_table(
        "plans",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("monthly_generations", sa.Integer),
        sa.Column("price_usd_cents", sa.Integer, nullable=False),
    )
    op.create_table(
        "organization_plans",
        sa.Column("org_id", sa.Text, primary_key=True),
        sa.Column("plan", sa.Text, sa.ForeignKey("plans.name", name="organization_plans_plan"), nullable=False),
        sa.Column("since", _MOMENT, server_default=sa.func.now(), nullable=False),
    )
    op.create_table(
        "price_book",
        sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("valid_from", _MOMENT, nullable=False),
        sa.Column("valid_to", _MOMENT),
        sa.UniqueConstraint("sku", "valid_from", name="price_book_sku_valid_from"),
        sa.CheckConstraint(_UNIT, name="price_book_unit"),
        sa.CheckConstraint("amount >= 0", name="price_book_amount"),
        sa.CheckConstraint("valid_to > valid_from", name="price_book_interval"),
    )


def _create_accounts_and_entries() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("org_id", sa.Text),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("available", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("held_total", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("captured_total", sa.BigInteger, server_default="0", nullable=False),
        sa.UniqueConstraint(
            "org_id", "unit", "kind", name="accounts_org_unit_kind", postgresql_nulls_not_distinct=True
        ),
        sa.CheckConstraint(_UNIT, name="accounts_unit"),
        sa.CheckConstraint(
            "kind IN ('wallet', 'held') AND org_id IS NOT NULL"
            " OR kind IN ('issuance', 'revenue', 'expiry') AND org_id IS NULL",
            name="accounts_kind",
        ),
        sa.CheckConstraint("available >= 0", name="accounts_available"),
        sa.CheckConstraint(
            "kind = 'wallet' OR available = 0 AND version = 0 AND held_total = 0", name="accounts_wallet"
        ),
        sa.CheckConstraint("kind = 'held' OR captured_total = 0", name="accounts_held"),
        sa.CheckConstraint("held_total >= 0 AND captured_total >= 0", name="accounts_totals"),
        # Every hold and many refunds change these rows: room on the page keeps that free of index work.
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("transfer_id", sa.Text, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("org_id", sa.Text),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("available_after", sa.BigInteger),
        sa.Column("version", sa.BigInteger),
        sa.Column("job_id", sa.Text),
        sa.Column("line_id", sa.Text),
        sa.Column("sku", sa.Text),
        sa.Column("product", sa.Text),
        sa.Column("grant_id", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.UniqueConstraint("transfer_id", "account_id", name="entries_transfer_account"),
        sa.CheckConstraint("amount <> 0", name="entries_amount"),
        sa.CheckConstraint("available_after >= 0", name="entries_available_after"),
        sa.CheckConstraint("(version IS NULL) = (available_after IS NULL)", name="entries_wallet_leg"),
    )
    versions = sa.text("version IS NOT NULL")
    op.create_index(
        "entries_wallet_history", "entries", ["account_id", "version"], unique=True, postgresql_where=versions
    )
    op.create_index("entries_history", "entries", ["org_id", "id"], postgresql_where=_HISTORY)
    op.create_index("entries_of_job", "entries", ["job_id", "id"], postgresql_where=_HISTORY)


def _create_reservations_and_lines() -> None:
    op.create_table(
        "reservations",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("deadline_at", _MOMENT),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("closed_at", _MOMENT),
        sa.Column("overdue_at", _MOMENT),
        sa.UniqueConstraint("id", name="reservations_id"),
        sa.CheckConstraint("deadline_at IS NOT NULL OR closed_at IS NOT NULL", name="reservations_deadline"),
    )
    op.create_table(
        "lines",
        sa.Column("job_id", sa.Text, sa.ForeignKey("reservations.job_id", name="lines_reservation"), primary_key=True),
        sa.Column("line_id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("price_version", sa.Integer, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, server_default="held", nullable=False),
        sa.Column("captured_amount", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("settled_at", _MOMENT),
        sa.CheckConstraint("amount > 0", name="lines_amount"),
        sa.CheckConstraint("captured_amount BETWEEN 0 AND amount", name="lines_captured_amount"),
        sa.CheckConstraint(
            "CASE status WHEN 'held' THEN captured_amount = 0 AND settled_at IS NULL AND reason IS NULL"
            " WHEN 'captured' THEN captured_amount > 0 AND settled_at IS NOT NULL"
            " AND (captured_amount = amount) = (reason IS NULL)"
            " WHEN 'refunded' THEN captured_amount = 0 AND settled_at IS NOT NULL AND reason IS NOT NULL"
            " ELSE false END",
            name="lines_status",
        ),
    )
    op.create_index("lines_open", "lines", ["job_id", "line_id"], postgresql_where=sa.text("status = 'held'"))
    op.create_index("lines_of_org", "lines", ["org_id", "unit", "created_at"])


def _create_grants() -> None:
    op.create_table(
        "grants",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint(_UNIT, name="grants_unit"),
        sa.CheckConstraint("amount > 0", name="grants_amount"),
        sa.CheckConstraint("kind IN ('purchased', 'promotional', 'compensation', 'monthly')", name="grants_kind"),
    )
    op.create_index("grants_org_id", "grants", ["org_id", "created_at"])


def _seed() -> None:
    connection = op.get_bind()
    connection.execute(
        sa.text("INSERT INTO plans (name, monthly_generations, price_usd_cents) VALUES (:name, :monthly, :price)"),
        [{"name": name, "monthly": monthly, "price": price} for name, monthly, price in _PLANS],
    )
    connection.execute(
        sa.text(
            "INSERT INTO price_book (sku, product, unit, amount, valid_from)"
            " VALUES (:sku, split_part(:sku, '.', 1), :unit, :amount, '2000-01-01T00:00:00Z')"
        ),
        [{"sku": sku, "unit": unit, "amount": amount} for sku, unit, amount in _PRICES],
    )
    connection.execute(
        sa.text(
            "INSERT INTO accounts (unit, kind) SELECT unit, kind"
            " FROM unnest(ARRAY['credits', 'plan_generations']) unit,"
            " unnest(ARRAY['issuance', 'revenue', 'expiry']) kind"
        )
    )
