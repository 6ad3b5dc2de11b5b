"""Roles and databases inside the embedded PostgreSQL: one of each per service, closed to all others.

Knows the walls between services and tenants; not what is stored behind them.
"""

import psycopg2.extensions
from psycopg2 import sql

from deploy.local import postgres
from deploy.local.postgres import Server

# What `transaction(org_id=...)` and the handlers switch to. They own nothing and cannot log in.
TENANCY_ROLES = ("darkroom_tenant", "darkroom_system")
SERVICE_ROLE = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD"


def close_cluster(server: Server) -> None:
    """Make the tenancy roles and let nobody but the superuser into the databases every cluster has."""
    with postgres.superuser(server) as cursor:
        for role in TENANCY_ROLES:
            if not _exists(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN NOBYPASSRLS").format(sql.Identifier(role)))
        for database in ("postgres", "template1"):
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))


def create_service_database(server: Server, *, name: str, password: str) -> None:
    """Make role `name` and its database `name`; repeatable, the last password given is the role's."""
    with postgres.superuser(server) as cursor:
        role = sql.Identifier(name)
        known = _exists(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", name)
        verb = sql.SQL("ALTER" if known else "CREATE")
        rights = sql.SQL(SERVICE_ROLE)
        cursor.execute(sql.SQL("{} ROLE {} {} %s").format(verb, role, rights), (password,))
        for tenancy_role in TENANCY_ROLES:
            # Not inherited: without SET ROLE the service has only what it owns, so a forgotten switch shows.
            statement = sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE")
            cursor.execute(statement.format(sql.Identifier(tenancy_role), role))
        if not _exists(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", name):
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(role))


def clone_database(server: Server, *, template: str, name: str) -> None:
    """Make database `name` a copy of `template`, with the same owner and walls. `template` must be idle."""
    with postgres.superuser(server) as cursor:
        cursor.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s",
            (template,),
        )
        found = cursor.fetchone()
        if found is None:
            raise LookupError(f"There is no database {template!r} to copy.")
        copy, original, owner = (sql.Identifier(part) for part in (name, template, found[0]))
        cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(copy, original, owner))
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(copy))


def drop_database(server: Server, *, name: str) -> None:
    """Remove database `name` if it is there, ending the sessions in it."""
    with postgres.superuser(server) as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _exists(cursor: psycopg2.extensions.cursor, query: str, name: str) -> bool:
    cursor.execute(query, (name,))
    return cursor.fetchone() is not None
