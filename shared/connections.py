"""Connections to PostgreSQL that waste no round trip: BEGIN goes out with the first statement, the last with COMMIT.

psycopg2 sends each of them by itself. Nothing here knows of pools, sessions and tables.
"""

from collections.abc import Mapping
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import (
    ISOLATION_LEVEL_AUTOCOMMIT,
    ISOLATION_LEVEL_READ_COMMITTED,
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
)


class Connection(psycopg2.extensions.connection):
    """Closes its socket when connecting is interrupted: half a connection keeps a backend for a minute."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.close()
            raise


class TransactionConnection(Connection):
    """Begins a transaction with any statement while none is open, as psycopg2's connections do; for SQLAlchemy's pool.

    Isolation is PostgreSQL's default, READ COMMITTED. There are no named cursors.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.autocommit = True  # to psycopg2, which would send BEGIN by itself
        self._begins = True
        self._last: list[tuple[str, Mapping[str, Any] | None]] = []

    @property
    def is_to_begin(self) -> bool:
        """Whether the next statement is the first of a transaction."""
        return self._begins and self.get_transaction_status() == TRANSACTION_STATUS_IDLE

    def leave_for_commit(self, statement: str, values: Mapping[str, Any] | None = None) -> None:
        """Run ``statement`` last of all in the transaction that is open; a rollback forgets it."""
        self._last.append((statement, values))

    def commit(self) -> None:
        """Run what was left, and commit, if a transaction is open.

        Raises:
            psycopg2.Error: one of them failed, so nothing is committed; an `InternalError` where a statement had failed
                before, which PostgreSQL itself would answer with a silent rollback. Or the connection broke, and nobody
                knows.
        """
        status = self.get_transaction_status()
        if status == TRANSACTION_STATUS_IDLE:
            return
        if status == TRANSACTION_STATUS_INERROR:
            raise psycopg2.InternalError("a statement of this transaction has failed: it can only be rolled back")
        with self.cursor() as cursor:
            last = [cursor.mogrify(statement, values) for statement, values in self._last]
            self._last.clear()
            cursor.execute(b"; ".join([*last, b"COMMIT"]))

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        self._last.clear()
        if self.closed or self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            with self.cursor() as cursor:
                cursor.execute("ROLLBACK")

    def set_isolation_level(self, level: int | None) -> None:
        """Begin transactions by itself or, with AUTOCOMMIT, none.

        Raises:
            psycopg2.NotSupportedError: for any other level than these two.
        """
        if level not in (ISOLATION_LEVEL_AUTOCOMMIT, ISOLATION_LEVEL_READ_COMMITTED):
            raise psycopg2.NotSupportedError(
                f"isolation level {level}: only READ COMMITTED and AUTOCOMMIT are used here"
            )
        self._begins = level == ISOLATION_LEVEL_READ_COMMITTED


class _Cursor(psycopg2.extensions.cursor):
    connection: TransactionConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002  psycopg2's name for it
        if self.connection.is_to_begin:
            query = b"BEGIN; " + query if isinstance(query, bytes) else f"BEGIN; {query}"
        super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        if self.connection.is_to_begin:
            super().execute("BEGIN")
        super().executemany(query, vars_list)
