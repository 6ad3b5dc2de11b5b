"""Databases for tests: copies of migrated ones, emptied and used again, since making a copy costs 30 times that.

A test gets a database that is as if it were new. One whose shape a test has changed, or that it filled or analyzed, is
thrown away instead.
"""

import secrets
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions
import sqlalchemy as sa

from deploy.local.stack import Postgres
from shared.config import SERVICES
from shared.migrations import upgrade

LARGEST_GROWTH_BYTES = 2_000_000
SPARE = 1

_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_TABLES = (
    "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
)
_SEQUENCES = (
    "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace ORDER BY 1"
)
# Notes whatever changes the shape of a database, by whomever; DDL that is rolled back leaves no note.
_WATCH_SHAPE = """
CREATE TABLE pristine.noted_changes (tag text);
CREATE FUNCTION pristine.note_change() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO pristine.noted_changes VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER shape_changed ON ddl_command_end EXECUTE FUNCTION pristine.note_change();
ALTER EVENT TRIGGER shape_changed ENABLE ALWAYS;
"""
# What no event trigger sees is compared: settings of roles and databases, and statistics.
_STATE = """
SELECT (SELECT count(*) FROM pristine.noted_changes),
    (SELECT string_agg(s::text, ' ' ORDER BY s::text) FROM pg_db_role_setting s),
    (SELECT count(*) FROM pg_statistic WHERE starelid >= 16384)
"""
_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)"
    " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)


@dataclass(frozen=True, kw_only=True)
class _Pristine:
    """What a freshly copied database of a service is like: what is needed to make a used one so again."""

    emptying: str
    state: tuple[int, str | None, int]
    size: int


class Databases:
    """Lends databases of services out; not for several threads."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._address = postgres.superuser_url.replace("+psycopg2", "")
        self._connection: psycopg2.extensions.connection | None = None
        self._pristine: dict[str, _Pristine] = {}
        self._idle: dict[str, deque[str]] = defaultdict(deque)
        self._known: dict[str, tuple[sa.Dialect, dict[Any, Any]]] = {}

    def lend(self, service: str) -> tuple[str, str]:
        """Return ``(name, url)`` of a migrated, empty database of ``service``."""
        if service not in self._pristine:
            assert service in SERVICES
            upgrade(service, url=self._postgres.create_service_database(service))
            self._pristine[service] = self._keep_seeds(service)
        name = f"{service}_{secrets.token_hex(4)}"
        # Not the only one: its last session is just ending, for which PostgreSQL would wait a tenth of a second.
        if len(self._idle[service]) <= SPARE:
            return name, self._postgres.clone_database(template=service, name=name)
        # Under a name of its own: what a test has left running does not find the database of the next.
        self._administrator().execute(f"ALTER DATABASE {self._idle[service].popleft()} RENAME TO {name}")
        return name, self._postgres.url_for(name, role=service)

    def take_back(self, service: str, name: str) -> None:
        """Empty a database for the next test, or throw it away."""
        if self._emptied(service, name):
            self._idle[service].append(name)
        else:
            self._postgres.drop_database(name)

    def teach(self, service: str, engine: sa.Engine) -> None:
        """Let an engine know the statements of those before it: to put them into SQL anew takes longer than to run."""
        known = self._known.get(service)
        if known is None or known[0].server_version_info is None:  # that engine has not connected yet, or never did
            known = self._known[service] = (engine.dialect, {})
        engine.dialect, statements = known
        engine.update_execution_options(compiled_cache=statements)

    def _emptied(self, service: str, name: str) -> bool:
        pristine = self._pristine[service]
        with self._superuser(name) as cursor:
            cursor.execute(_END_SESSIONS)
            cursor.execute(_STATE)
            if cursor.fetchone() != pristine.state or _size(cursor) - pristine.size > LARGEST_GROWTH_BYTES:
                return False
            cursor.execute(pristine.emptying)
        return True

    def _keep_seeds(self, service: str) -> _Pristine:
        """Keep what the migrations have written beside the tables, in the template, so that every copy has it."""
        with self._superuser(service) as cursor:
            tables, sequences = _column(cursor, _TABLES), _column(cursor, _SEQUENCES)
            cursor.execute("CREATE SCHEMA pristine")
            # No trigger, no foreign key stands in the way.
            emptying = ["SET session_replication_role = replica", *(f"DELETE FROM {table}" for table in tables)]
            for table in tables:
                cursor.execute(f"CREATE TABLE pristine.{table} AS TABLE {table}")
                if cursor.rowcount:
                    seeds = f"SELECT * FROM pristine.{table}"
                    emptying.append(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE {seeds}")
            for sequence in sequences:
                cursor.execute(f"SELECT last_value, is_called FROM {sequence}")
                emptying.append(cursor.mogrify("SELECT setval(%s, %s, %s)", (sequence, *cursor.fetchone())).decode())
            cursor.execute(_WATCH_SHAPE)
            cursor.execute(_STATE)
            state = cursor.fetchone()
            return _Pristine(emptying="; ".join(emptying), state=state, size=_size(cursor))

    def _administrator(self) -> psycopg2.extensions.cursor:
        """Return a cursor of the server's owner, whose every statement is a transaction of its own."""
        if self._connection is None:
            self._connection = psycopg2.connect(self._address, dbname="postgres")
            self._connection.autocommit = True
        return self._connection.cursor()

    def _superuser(self, name: str) -> "_Session":
        return _Session(self._address, name)


class _Session:
    """A cursor of the server's owner, committed when its block ends, and closed."""

    def __init__(self, url: str, name: str) -> None:
        self._connection = psycopg2.connect(url, dbname=name)

    def __enter__(self) -> psycopg2.extensions.cursor:
        return self._connection.cursor()

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()


def _column(cursor: psycopg2.extensions.cursor, statement: str) -> list[str]:
    cursor.execute(statement)
    return [row[0] for row in cursor.fetchall()]


def _size(cursor: psycopg2.extensions.cursor) -> int:
    cursor.execute(_SIZE)
    return int(cursor.fetchone()[0])
