"""Statements that PostgreSQL reads and plans once for a connection, not each time: those asked many times a second.

It knows no table. One plan serves all values, and is made anew by itself when a table or its statistics change.
"""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import Database

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")
_PREPARED = "prepared statements"
# PostgreSQL would plan each five times before it tries one plan for all values. And the first plan may be made while a
# table is empty, and is kept until there are statistics: it must not read the table through when it has filled.
_PLANNED_AT_ONCE = "SET plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off"


class Prepared:
    """A statement with parameters like ``:ids``, whose types must follow from the statement: write casts where not.

    Args:
        name: tells it from the other statements of the process.
        statement: a single one.
        first: what is sent before it each time, in the same breath, with parameters of its own.
    """

    def __init__(self, name: str, statement: str, *, first: str = "") -> None:
        parameters = list(dict.fromkeys(_PARAMETER.findall(statement)))
        places = {parameter: f"${number}" for number, parameter in enumerate(parameters, start=1)}
        self._name = name
        self._prepare = f"PREPARE {name} AS {_PARAMETER.sub(lambda found: places[found[1]], statement)}"
        values = f"({', '.join(f':{parameter}' for parameter in parameters)})" if parameters else ""
        asked = f"{first}; EXECUTE {name}{values}" if first else f"EXECUTE {name}{values}"
        self._execute = _PARAMETER.sub(r"%(\1)s", asked)
        nothing = f"({', '.join('NULL' for _ in parameters)})" if parameters else ""
        self._plan = f"EXPLAIN EXECUTE {name}{nothing}"

    def plan(self, session: Session) -> None:
        """Have it planned on the session's connection, without running it."""
        connection = session.connection()
        self._prepare_on(connection)
        connection.exec_driver_sql(self._plan)

    def execute(self, session: Session, values: Mapping[str, Any]) -> sa.CursorResult[*tuple[Any, ...]]:
        """Run it in the session's transaction; ``values`` are psycopg2's, by name."""
        connection = session.connection()
        self._prepare_on(connection)
        return connection.exec_driver_sql(self._execute, dict(values))

    def _prepare_on(self, connection: sa.Connection) -> None:
        # They belong to the connection, and outlast a transaction that is rolled back.
        prepared: set[str] = connection.info.setdefault(_PREPARED, set())
        if self._name not in prepared:
            connection.exec_driver_sql(f"{_PLANNED_AT_ONCE}; {self._prepare}")
            prepared.add(self._name)


def warm(database: Database, *modules: ModuleType, connections: int) -> None:
    """Have as many connections open, with the statements of these modules planned on each, before there is work.

    Raises:
        TimeLimitExceeded, sqlalchemy.exc.OperationalError: as `Database.transaction`; what was not planned yet is so
            when it is run first.
    """
    statements = [value for module in modules for value in vars(module).values() if isinstance(value, Prepared)]
    with ExitStack() as stack:
        for session in [stack.enter_context(database.transaction()) for _ in range(connections)]:
            for statement in statements:
                statement.plan(session)
