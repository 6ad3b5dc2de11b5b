"""Migrations: alone or in parallel, by a role that may create roles and by one that may not."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations

from deploy.local.stack import Postgres
from shared import migrations
from shared.config import ConfigurationError
from shared.database import Database, delivery_metadata

UPGRADE = "import sys; from shared.migrations import upgrade; upgrade('catalog', url=sys.argv[1])"


@pytest.fixture
def empty_url(server: Postgres) -> Iterator[str]:
    name = f"empty_{secrets.token_hex(4)}"
    yield server.create_service_database(name)
    server.drop_database(name)


@contextmanager
def migrating(url: str) -> Iterator[sa.Connection]:
    """Give what a migration's functions run in."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        yield connection


def as_superuser(server: Postgres, *statements: str) -> None:
    engine = sa.create_engine(server.superuser_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_upgrades_in_parallel_both_succeed(empty_url: str) -> None:
    upgrades = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty_url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    errors = [upgrade.communicate(timeout=60)[1] for upgrade in upgrades]

    assert [upgrade.returncode for upgrade in upgrades] == [0, 0], errors
    with sa.create_engine(empty_url, poolclass=sa.NullPool).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar_one() == 1


def test_an_upgrade_of_a_database_that_is_up_to_date_changes_nothing(empty_url: str) -> None:
    for _ in range(2):
        migrations.upgrade("catalog", url=empty_url)

    with sa.create_engine(empty_url, poolclass=sa.NullPool).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar_one() == 1


def test_an_upgrade_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    with sa.create_engine(empty_url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE assets (in_the_way integer)")

    with pytest.raises(sa.exc.ProgrammingError, match="already exists"):
        migrations.upgrade("catalog", url=empty_url)

    with sa.create_engine(empty_url, poolclass=sa.NullPool).connect() as connection:
        tables = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars()
        assert list(tables) == ["assets"]


def test_the_delivery_tables_are_those_the_code_writes_to(empty_url: str) -> None:
    with migrating(empty_url) as connection:
        migrations.create_delivery_tables()

        for name, table in delivery_metadata.tables.items():
            created = sa.Table(name, sa.MetaData(), autoload_with=connection)
            assert {(c.name, type(c.type.as_generic()), c.nullable) for c in created.columns} == {
                (c.name, type(c.type.as_generic()), c.nullable) for c in table.columns
            }
            assert [c.name for c in created.primary_key] == [c.name for c in table.primary_key]


def test_a_role_that_may_not_create_roles_is_told_the_sql_to_run(
    server: Postgres, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"darkroom_{secrets.token_hex(4)}"
    monkeypatch.setattr(migrations, "TENANT_ROLE", role)

    with pytest.raises(ConfigurationError) as refusal, migrating(empty_url):
        migrations.create_roles()

    statements = [line.strip(" ;") for line in str(refusal.value).splitlines()[1:]]
    assert len(statements) == 2
    as_superuser(server, *statements)
    with migrating(empty_url):
        migrations.create_roles()


def test_a_role_that_misses_only_the_grant_is_told_only_that(server: Postgres, empty_url: str) -> None:
    login = sa.make_url(empty_url).username
    as_superuser(server, f'REVOKE darkroom_system FROM "{login}"')

    with pytest.raises(ConfigurationError, match="GRANT darkroom_system") as refusal, migrating(empty_url):
        migrations.create_roles()

    assert "CREATE ROLE" not in str(refusal.value)


def test_a_role_that_may_create_roles_creates_them(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "TENANT_ROLE", f"darkroom_{secrets.token_hex(4)}")
    monkeypatch.setattr(migrations, "SYSTEM_ROLE", f"darkroom_{secrets.token_hex(4)}")

    with migrating(server.superuser_url) as connection:
        migrations.create_roles()

        connection.exec_driver_sql(f"SET LOCAL ROLE {migrations.TENANT_ROLE}")


@pytest.mark.parametrize(
    ("writes", "refused"),
    [
        (("INSERT",), ("UPDATE walls SET org_id = ''", "DELETE FROM walls")),
        (("INSERT", "UPDATE"), ("DELETE FROM walls",)),
    ],
)
def test_a_protected_table_takes_only_the_writes_it_was_given(
    empty_url: str, writes: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    with migrating(empty_url):
        op.create_table("walls", sa.Column("org_id", sa.Text))
        migrations.protect("walls", writes=writes)

    for statement in refused:
        for org_id in ("org_1", None):
            assert_refused(lambda org_id=org_id, statement=statement: run(empty_url, org_id, statement))


def run(url: str, org_id: str | None, statement: str) -> None:
    database = Database(url, pool_size=1)
    try:
        with database.transaction(org_id=org_id) as session:
            session.execute(sa.text(statement))
    finally:
        database.engine.dispose()


def assert_refused(work: Callable[[], None]) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        work()
