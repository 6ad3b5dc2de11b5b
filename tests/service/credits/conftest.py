"""A way past every wall of the database, to prove that what happened behind them is found."""

from collections.abc import Callable

import psycopg2
import pytest

from deploy.local.stack import Postgres
from shared.database import Database


@pytest.fixture
def tamper(credits_db: Database, postgres: Postgres) -> Callable[..., None]:
    """Return a function that runs statements as someone who owns the server: past triggers, walls and grants."""

    def run(*statements: str) -> None:
        address = postgres.superuser_url.replace("+psycopg2", "")
        with psycopg2.connect(address, dbname=credits_db.url.database) as connection:
            cursor = connection.cursor()
            cursor.execute("SET session_replication_role = replica")
            for statement in statements:
                cursor.execute(statement)

    return run
