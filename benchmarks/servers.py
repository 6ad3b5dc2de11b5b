"""PostgreSQL (fsync on) of a benchmark's own, and RabbitMQ and the delivery tables for those that move events."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from deploy.local.stack import Postgres, start_postgres, start_rabbitmq
from shared import broker, migrations, topology
from shared.database import SYSTEM_ROLE, Database

SERVICE = "credits"
QUORUM = {"x-queue-type": "quorum"}


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A database of the server; ``observer`` is a superuser's connection to it, every statement on its own."""

    database_url: str
    observer: Any

    def ask(self, statement: str, *values: Any) -> Any:
        """Return the first column of the first row."""
        with self.observer.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()[0]

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement that returns nothing."""
        with self.observer.cursor() as cursor:
            cursor.execute(statement, values)


@dataclass(frozen=True, kw_only=True)
class Servers(Observed):
    """Both servers, and a database with the delivery tables."""

    amqp_url: str
    log_folder: Path
    database: Database
    postgres: Postgres

    def addresses(self) -> dict[str, Any]:
        """Return what a contender needs to know to get to both."""
        return {"database_url": self.database_url, "amqp_url": self.amqp_url}

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel for declaring and purging."""
        with broker.connected(self.amqp_url, name="benchmark") as connection:
            yield connection.channel()


@contextlib.contextmanager
def started() -> Iterator[Servers]:
    """Start both servers, make the delivery tables and the exchanges; stop and remove all after the block."""
    with contextlib.ExitStack() as stack:
        home, postgres = stack.enter_context(postgres_started())
        print("   starting RabbitMQ ...", flush=True)
        node = start_rabbitmq(home / "mq")
        stack.callback(node.stop)
        observed = stack.enter_context(database_made(postgres, SERVICE))
        servers = Servers(
            database_url=observed.database_url,
            observer=observed.observer,
            amqp_url=node.url,
            log_folder=home,
            database=Database(observed.database_url, application="benchmark"),
            postgres=postgres,
        )
        stack.callback(servers.database.engine.dispose)
        _make_tables(servers.database_url)
        with servers.channel() as channel:
            topology.declare_exchanges(channel)
            topology.declare_service(channel, SERVICE)
        yield servers


@contextlib.contextmanager
def postgres_started() -> Iterator[tuple[Path, Postgres]]:
    """Start PostgreSQL in a new folder; yield both; stop it and remove the folder after the block."""
    print("   starting PostgreSQL (fsync on) ...", flush=True)
    home = Path(tempfile.mkdtemp(prefix="darkroom-benchmark-"))
    home.chmod(0o711)  # PostgreSQL's own account must get to its data
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        postgres = start_postgres(home / "pg", durable=True)
        stack.callback(postgres.stop)
        yield home, postgres


@contextlib.contextmanager
def database_made(postgres: Postgres, name: str) -> Iterator[Observed]:
    """Make an empty database as a service has it, and connect an observer to it."""
    url = postgres.create_service_database(name)
    address = sa.make_url(postgres.superuser_url).set(drivername="postgresql", database=name)
    connection = psycopg2.connect(address.render_as_string(hide_password=False))
    connection.autocommit = True
    with contextlib.closing(connection):
        yield Observed(database_url=url, observer=connection)


def _make_tables(url: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migrations.create_delivery_tables()
        connection.execute(
            sa.text("CREATE TABLE lines (line_id text PRIMARY KEY, state text NOT NULL, times int NOT NULL)")
        )
        connection.execute(sa.text(f"GRANT SELECT, UPDATE ON lines TO {SYSTEM_ROLE}"))
