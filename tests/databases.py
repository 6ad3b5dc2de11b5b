"""Databases for tests: copies of migrated ones, emptied and used again, since making a copy costs 30 times that.

A test gets a database that is as if it were new. One whose shape a test has changed, or that it filled or analyzed, is
thrown away instead.
"""

import secrets
from collections import defaultdict
from dataclasses import dataclass

import psycopg2
import psycopg2.extensions

from deploy.local.stack import Postgres
from shared.config import SERVICES
from shared.migrations import upgrade

LARGEST_GROWTH_BYTES = 2_000_000

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
# Whatever DDL may change, in one number; system objects have the ids below 16384.
_SHAPE = """
SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
    SELECT (to_jsonb(c) - ARRAY['relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen',
        'relfrozenxid', 'relminmxid'])::text
    FROM pg_class c WHERE oid >= 16384 AND relnamespace = 'public'::regnamespace
    UNION ALL SELECT to_jsonb(a)::text FROM pg_attribute a WHERE attrelid >= 16384
    UNION ALL SELECT to_jsonb(c)::text FROM pg_constraint c WHERE oid >= 16384
    UNION ALL SELECT to_jsonb(i)::text FROM pg_index i WHERE indexrelid >= 16384
    UNION ALL SELECT to_jsonb(t)::text FROM pg_trigger t WHERE oid >= 16384
    UNION ALL SELECT to_jsonb(p)::text FROM pg_proc p WHERE oid >= 16384
    UNION ALL SELECT to_jsonb(p)::text FROM pg_policy p
    UNION ALL SELECT to_jsonb(s)::text FROM pg_db_role_setting s
) AS shape (part)
"""
_GROWTH = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0), (SELECT count(*) FROM pg_statistic WHERE starelid >= 16384)"
    " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)


@dataclass(frozen=True, kw_only=True)
class _Pristine:
    """What a freshly copied database of a service is like: what is needed to make a used one so again."""

    tables: list[str]
    seeded: list[str]
    sequences: dict[str, tuple[int, bool]]
    shape: str
    growth: tuple[int, int]


class Databases:
    """Lends databases of services out; not for several threads."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._pristine: dict[str, _Pristine] = {}
        self._idle: dict[str, list[str]] = defaultdict(list)

    def lend(self, service: str) -> tuple[str, str]:
        """Return ``(name, url)`` of a migrated, empty database of ``service``."""
        if service not in self._pristine:
            assert service in SERVICES
            upgrade(service, url=self._postgres.create_service_database(service))
            self._pristine[service] = self._keep_seeds(service)
        name = f"{service}_{secrets.token_hex(4)}"
        if not self._idle[service]:
            return name, self._postgres.clone_database(template=service, name=name)
        # Under a name of its own: what a test has left running does not find the database of the next.
        with self._superuser("postgres") as cursor:
            cursor.execute(f"ALTER DATABASE {self._idle[service].pop()} RENAME TO {name}")
        return name, self._postgres.url_for(name, role=service)

    def take_back(self, service: str, name: str) -> None:
        """Empty a database for the next test, or throw it away."""
        if self._emptied(service, name):
            self._idle[service].append(name)
        else:
            self._postgres.drop_database(name)

    def _emptied(self, service: str, name: str) -> bool:
        pristine = self._pristine[service]
        with self._superuser(name) as cursor:
            cursor.execute(_END_SESSIONS)
            cursor.execute(_SHAPE)
            (shape,) = cursor.fetchone()
            cursor.execute(_GROWTH)
            size, statistics = cursor.fetchone()
            if shape != pristine.shape or statistics != pristine.growth[1]:
                return False
            if size - pristine.growth[0] > LARGEST_GROWTH_BYTES:
                return False
            cursor.execute("SET session_replication_role = replica")  # no trigger, no foreign key stands in the way
            cursor.execute("; ".join(f"DELETE FROM {table}" for table in pristine.tables))
            for table in pristine.seeded:
                cursor.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM pristine.{table}")
            for sequence, state in pristine.sequences.items():
                cursor.execute("SELECT setval(%s, %s, %s)", (sequence, *state))
        return True

    def _keep_seeds(self, service: str) -> _Pristine:
        """Keep what the migrations have written beside the tables, in the template, so that every copy has it."""
        with self._superuser(service) as cursor:
            tables, sequences = _column(cursor, _TABLES), _column(cursor, _SEQUENCES)
            cursor.execute("CREATE SCHEMA pristine")
            seeded = []
            for table in tables:
                cursor.execute(f"CREATE TABLE pristine.{table} AS TABLE {table}")
                if cursor.rowcount:
                    seeded.append(table)
            states = {}
            for sequence in sequences:
                cursor.execute(f"SELECT last_value, is_called FROM {sequence}")
                states[sequence] = cursor.fetchone()
            cursor.execute(_SHAPE)
            (shape,) = cursor.fetchone()
            cursor.execute(_GROWTH)
            growth = cursor.fetchone()
        return _Pristine(tables=tables, seeded=seeded, sequences=states, shape=shape, growth=growth)

    def _superuser(self, name: str) -> "_Session":
        return _Session(self._postgres.superuser_url.replace("+psycopg2", ""), name)


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
