"""Grants that are spent one after the other, monthly allowances, quotes, returns, adjustments, usage by day."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.database import SYSTEM_ROLE, TENANT_ROLE
from shared.migrations import protect

revision = "0002"
down_revision = "0001"

_MOMENT = sa.TIMESTAMP(timezone=True)
_FUNCTIONS = Path(__file__).parent.parent / "functions"
_HISTORY = sa.text("org_id IS NOT NULL AND (version IS NOT NULL OR kind = 'capture')")
_UNIT = "unit IN ('credits', 'plan_generations')"
_DOLLAR = 1_000_000  # microusd

_CAPS = {"free": 20 * _DOLLAR, "pro": 200 * _DOLLAR, "team": 400 * _DOLLAR}


def upgrade() -> None:
    _extend_plans()
    _extend_accounts_and_reservations()
    _extend_grants()
    _extend_lines()
    _share_out_what_was_spent()
    _create_quotes()
    _create_adjustments_and_usage()
    _count_what_was_used()
    _index_the_history()
    op.execute("DROP FUNCTION reserve, settle, give")
    for function in (
        "grant_parts_1",
        "put_back_1",
        "allowance_id_1",
        "issue_allowance_1",
        "asked_line_1",
        "spend_grants_1",
        "reserve_2",
        "settle_2",
        "return_lines_1",
        "give_2",
        "withdraw_1",
        "expire_grants_1",
        "change_plan_1",
        "refuse_price_change_1",
    ):
        op.execute(sa.text((_FUNCTIONS / f"{function}.sql").read_text().replace(":", r"\:")))
    _let_tenants_open_their_allowance()


def _extend_plans() -> None:
    for table in ("plans", "organization_plans"):
        op.add_column(table, sa.Column("daily_cost_cap_microusd", sa.BigInteger))
    op.execute(f"GRANT INSERT ON price_book TO {SYSTEM_ROLE}")
    op.execute(f"GRANT UPDATE (valid_to) ON price_book TO {SYSTEM_ROLE}")
    for plan, cap in _CAPS.items():
        op.execute(f"UPDATE plans SET daily_cost_cap_microusd = {cap} WHERE name = '{plan}'")


def _extend_accounts_and_reservations() -> None:
    for name in ("expected_cost_total", "released_cost_total"):
        op.add_column("accounts", sa.Column(name, sa.BigInteger, server_default="0", nullable=False))
    op.add_column("reservations", sa.Column("priced_at", _MOMENT, server_default=sa.func.now(), nullable=False))
    for name in ("quote_id", "workflow", "session_id", "actor"):
        op.add_column("reservations", sa.Column(name, sa.Text))
    _for_all("UPDATE reservations SET priced_at = created_at")
    op.create_index(
        "reservations_of_session",
        "reservations",
        ["org_id", "session_id"],
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )


def _extend_grants() -> None:
    op.execute(f"GRANT UPDATE ON grants TO {SYSTEM_ROLE}")
    op.add_column("grants", sa.Column("remaining", sa.BigInteger, server_default="0", nullable=False))
    op.alter_column("grants", "remaining", server_default=None)
    for name in ("expired", "withdrawn", "taken_back"):
        op.add_column("grants", sa.Column(name, sa.BigInteger, server_default="0", nullable=False))
    for name in ("priority", "notified_percent"):
        op.add_column("grants", sa.Column(name, sa.SmallInteger, server_default="0", nullable=False))
    op.add_column("grants", sa.Column("starts_at", _MOMENT))
    op.add_column("grants", sa.Column("expires_at", _MOMENT))
    op.add_column("grants", sa.Column("origin_id", sa.Text))
    _for_all(
        "UPDATE grants SET priority ="
        " CASE kind WHEN 'monthly' THEN 10 WHEN 'promotional' THEN 20 WHEN 'compensation' THEN 30 ELSE 40 END"
    )
    op.create_check_constraint(
        "grants_remaining",
        "grants",
        "least(remaining, expired, withdrawn, taken_back) >= 0"
        " AND remaining + expired + withdrawn + taken_back <= amount",
    )
    op.create_check_constraint("grants_interval", "grants", "expires_at > coalesce(starts_at, '-infinity')")
    left = sa.text("remaining > 0")
    op.create_index("grants_open", "grants", ["org_id", "unit"], postgresql_where=left)
    op.execute(f"GRANT UPDATE (remaining, notified_percent) ON grants TO {TENANT_ROLE}")
    op.create_index("grants_expiring", "grants", ["expires_at"], postgresql_where=left)


def _extend_lines() -> None:
    op.add_column("lines", sa.Column("cost_microusd", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("lines", sa.Column("grant_ids", ARRAY(sa.Text), server_default="{}", nullable=False))
    op.add_column("lines", sa.Column("grant_amounts", ARRAY(sa.BigInteger), server_default="{}", nullable=False))
    op.add_column("lines", sa.Column("returned_amount", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("lines", sa.Column("return_reason", sa.Text))
    op.add_column("lines", sa.Column("returned_by", sa.Text))
    op.add_column("lines", sa.Column("returned_at", _MOMENT))
    for name in ("grant_ids", "grant_amounts"):
        op.alter_column("lines", name, server_default=None)
    op.create_check_constraint("lines_cost", "lines", "cost_microusd >= 0")
    op.create_check_constraint("lines_grants", "lines", "cardinality(grant_ids) = cardinality(grant_amounts)")
    op.create_check_constraint(
        "lines_returned",
        "lines",
        "returned_amount BETWEEN 0 AND captured_amount"
        " AND (returned_amount > 0) = (num_nonnulls(return_reason, returned_by, returned_at) = 3)",
    )


def _share_out_what_was_spent() -> None:
    """Let the lines there are take from the grants there are, the oldest first, and leave the rest in them."""
    _for_all("""
        WITH grant_span AS (
            SELECT id, org_id, unit, created_at, sum(amount) OVER in_order AS upper, amount
            FROM grants WINDOW in_order AS (PARTITION BY org_id, unit ORDER BY created_at, id)
        ), line_span AS (
            SELECT job_id, line_id, org_id, unit, taken, sum(taken) OVER in_order AS upper
            FROM (
                SELECT *, CASE status WHEN 'held' THEN amount ELSE captured_amount END AS taken FROM lines
            ) line
            WINDOW in_order AS (PARTITION BY org_id, unit ORDER BY created_at, job_id, line_id)
        ), part AS (
            SELECT l.job_id, l.line_id, array_agg(g.id ORDER BY g.upper) AS ids,
                array_agg((least(l.upper, g.upper) - greatest(l.upper - l.taken, g.upper - g.amount))::bigint
                    ORDER BY g.upper) AS amounts
            FROM line_span l
            JOIN grant_span g ON g.org_id = l.org_id AND g.unit = l.unit
                AND g.upper - g.amount < l.upper AND g.upper > l.upper - l.taken
            WHERE l.taken > 0
            GROUP BY l.job_id, l.line_id
        )
        UPDATE lines l SET grant_ids = part.ids, grant_amounts = part.amounts
        FROM part WHERE l.job_id = part.job_id AND l.line_id = part.line_id
    """)
    _for_all("""
        UPDATE grants g SET remaining = g.amount - coalesce((
            SELECT sum(p.amount) FROM lines l, unnest(l.grant_ids, l.grant_amounts) AS p (grant_id, amount)
            WHERE l.org_id = g.org_id AND p.grant_id = g.id
        ), 0)
    """)


def _create_quotes() -> None:
    op.create_table(
        "quotes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("lines", JSONB, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("estimated_seconds", sa.Integer, nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.CheckConstraint("amount >= 0", name="quotes_amount"),
        sa.CheckConstraint("expires_at > created_at", name="quotes_interval"),
    )
    op.create_index("quotes_unused", "quotes", ["expires_at"], postgresql_where=sa.text("job_id IS NULL"))
    protect("quotes")


def _create_adjustments_and_usage() -> None:
    op.create_table(
        "adjustments",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint(_UNIT, name="adjustments_unit"),
        sa.CheckConstraint("amount <> 0", name="adjustments_amount"),
    )
    protect("adjustments", writes=())
    op.execute(f"GRANT INSERT ON adjustments TO {SYSTEM_ROLE}")
    op.create_table(
        "daily_usage",
        sa.Column("org_id", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("workflow", sa.Text, primary_key=True),
        *(
            sa.Column(name, sa.BigInteger, server_default="0", nullable=False)
            for name in ("generations", "failed", "credits", "plan_generations", "provider_cost_microusd")
        ),
    )
    protect("daily_usage", writes=())
    op.execute(f"GRANT INSERT, UPDATE ON daily_usage TO {SYSTEM_ROLE}")


def _count_what_was_used() -> None:
    """Count what ended so far; of its workflow only the product line is known."""
    _for_all("""
        UPDATE reservations r SET workflow = (SELECT min(product) FROM lines WHERE job_id = r.job_id)
    """)
    _for_all("""
        INSERT INTO daily_usage (org_id, day, workflow, generations, failed, credits, plan_generations)
        SELECT org_id, (settled_at AT TIME ZONE 'UTC')::date, product,
            count(*) FILTER (WHERE status = 'captured' OR reason = 'cache_hit'),
            count(*) FILTER (WHERE status = 'refunded' AND reason <> 'cache_hit'),
            coalesce(sum(captured_amount) FILTER (WHERE unit = 'credits'), 0),
            coalesce(sum(captured_amount) FILTER (WHERE unit = 'plan_generations'), 0)
        FROM lines WHERE settled_at IS NOT NULL
        GROUP BY 1, 2, 3
    """)


def _index_the_history() -> None:
    """Let one index answer for every choice of entries, and none tempt a hold that reads lines by their key.

    An index of an organization's lines was taken for the primary key wherever statistics knew few of them.
    """
    op.drop_index("entries_history", "entries")
    op.create_index(
        "entries_history",
        "entries",
        ["org_id", "id"],
        postgresql_include=["product", "kind", "unit", "created_at"],
        postgresql_where=_HISTORY,
    )
    op.drop_index("lines_of_org", "lines")
    op.create_index("lines_of_generation", "lines", ["line_id"])
    op.create_index("lines_returned", "lines", ["org_id", "unit"], postgresql_where=sa.text("returned_amount > 0"))


def _let_tenants_open_their_allowance() -> None:
    """A hold in a tenant's transaction opens the month's allowance, which only the system may: one function may."""
    op.execute(f"GRANT CREATE ON SCHEMA public TO {SYSTEM_ROLE}")
    op.execute(f"ALTER FUNCTION issue_allowance OWNER TO {SYSTEM_ROLE}")
    op.execute(f"REVOKE CREATE ON SCHEMA public FROM {SYSTEM_ROLE}")
    op.execute("REVOKE EXECUTE ON FUNCTION issue_allowance FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION issue_allowance TO {TENANT_ROLE}")


def _for_all(statement: str) -> None:
    """Run a statement on the rows of all organizations, which the tables' owner alone does not see."""
    op.execute(f"SET LOCAL ROLE {SYSTEM_ROLE}")
    op.execute(statement)
    op.execute("RESET ROLE")
