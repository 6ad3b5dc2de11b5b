"""What every service's alembic migrations share: the run itself, the delivery tables and the tenant wall.

A service's ``migrations/env.py`` calls `run`; its versions call the rest. Functions here are frozen once a released
migration uses them: a change is a new function.
"""

from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic import command, context, op
from alembic.config import Config

from shared.config import ConfigurationError
from shared.database import SYSTEM_ROLE, TENANT_ROLE, address

_LOCK = 7_301_001  # any constant will do: advisory locks are per database, and each service has its own


def upgrade(service: str, *, url: str) -> None:
    """Bring the database of ``service`` to its newest version; concurrent calls wait for one another."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "services" / service / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    command.upgrade(config, "head")


def run() -> None:
    """Run the migrations alembic was asked for, in one transaction, under the database's advisory lock."""
    engine = sa.create_engine(address(context.config.attributes["url"]), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        context.configure(connection=connection, target_metadata=None)
        context.run_migrations()


def create_roles() -> None:
    """Make sure that the two group roles exist and that this service's role may take them.

    Raises:
        ConfigurationError: they do not, and this role may not create them; the message has the SQL that does.
    """
    for role in (TENANT_ROLE, SYSTEM_ROLE):
        if not (_exists(role) and _may_take(role)):
            _create_role(role)


def create_delivery_tables() -> None:
    """Create inbox and outbox. A tenant's transaction may add to the outbox and do nothing else to either."""
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index("inbox_received_at", "inbox", ["received_at"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.execute(f"GRANT SELECT, INSERT, DELETE ON inbox, outbox TO {SYSTEM_ROLE}")
    op.execute(f"GRANT INSERT ON outbox TO {TENANT_ROLE}")


def protect(table: str, *, column: str = "org_id", writes: Sequence[str] = ("INSERT", "UPDATE", "DELETE")) -> None:
    """Put ``table`` behind the tenant wall: a tenant's transaction sees and writes only rows of its organization.

    The table's owner is bound too (FORCE) and, having no policy, sees nothing until it takes one of the two roles.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    condition = f"{column} = current_setting('darkroom.org_id', true)"
    op.execute(f"CREATE POLICY tenant ON {table} TO {TENANT_ROLE} USING ({condition}) WITH CHECK ({condition})")
    op.execute(f"CREATE POLICY system ON {table} TO {SYSTEM_ROLE} USING (true) WITH CHECK (true)")
    share(table, writes=writes)


def part_modes(table: str) -> None:
    """Part a protected table whose rows have a ``livemode``: a tenant's transaction sees and writes one mode only.

    One that does not say which sees none.
    """
    mode = "livemode = CAST(nullif(current_setting('darkroom.livemode', true), '') AS boolean)"
    condition = f"org_id = current_setting('darkroom.org_id', true) AND {mode}"
    op.execute(f"ALTER POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")


def share(table: str, *, writes: Sequence[str] = ("INSERT", "UPDATE", "DELETE")) -> None:
    """Let both roles read ``table``, and write it in the ways ``writes`` names: for tables without tenants."""
    op.execute(f"GRANT {', '.join(['SELECT', *writes])} ON {table} TO {TENANT_ROLE}, {SYSTEM_ROLE}")


def _exists(role: str) -> bool:
    found = op.get_bind().execute(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role})
    return bool(found.scalar_one())


def _may_take(role: str) -> bool:
    held = op.get_bind().execute(sa.text("SELECT pg_has_role(current_user, :role, 'SET')"), {"role": role})
    return bool(held.scalar_one())


def _create_role(role: str) -> None:
    statements = [] if _exists(role) else [f"CREATE ROLE {role} NOLOGIN NOINHERIT"]
    user = op.get_bind().execute(sa.text("SELECT current_user")).scalar_one()
    statements.append(f'GRANT {role} TO "{user}" WITH INHERIT FALSE, SET TRUE')
    try:
        with op.get_bind().begin_nested():
            for statement in statements:
                op.execute(statement)
    except sa.exc.ProgrammingError as error:
        raise ConfigurationError(
            f"the database role {user} needs {role} and may not create it; let an administrator run:\n  "
            + ";\n  ".join(statements)
        ) from error
