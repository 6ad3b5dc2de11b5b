"""The services' databases as an operator's command opens them: across organizations, with time to look at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import Database, is_unavailable
from tools.environment import database_url
from tools.failures import CommandFailed

LOOK_SECONDS = 300.0
PAGE = 5000


@contextmanager
def reading(service: str) -> Iterator[Session]:
    """Yield a session in the system role on a service's database; what it sees is one moment.

    Raises:
        CommandFailed: the database cannot be reached or is not migrated; the message never holds its password.
    """
    url = sa.make_url(database_url(service))
    database = Database(str(database_url(service)), application="darkroom tools", pool_size=1)
    try:
        with database.transaction(time_limit_seconds=LOOK_SECONDS) as session:
            session.execute(sa.text("SET TRANSACTION READ ONLY"))
            yield session
    except sa.exc.ProgrammingError as error:
        raise CommandFailed(
            f"the database of {service} is not as this version needs it ({_first_line(error)});"
            " run: bin/darkroom migrate"
        ) from error
    except sa.exc.DBAPIError as error:
        if not is_unavailable(error):
            raise
        raise unreachable(service, url, error) from error
    finally:
        database.engine.dispose()


def rows(service: str, statement: str, **parameters: Any) -> Sequence[Any]:
    """Return all rows of a query that has few."""
    with reading(service) as session:
        return session.execute(sa.text(statement), parameters).all()


def pages(service: str, statement: str, **parameters: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a query that may have millions, page by page; no transaction is open between two.

    The statement selects ``id`` first, takes only rows with ``id > :after``, and ends in ``ORDER BY id LIMIT :page``.
    """
    after = ""
    while True:
        page = rows(service, statement, after=after, page=PAGE, **parameters)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1][0]


def unreachable(service: str, url: sa.URL, error: Exception) -> CommandFailed:
    """Return the failure of a database that does not answer."""
    return CommandFailed(
        f"the database of {service} at {url.host}:{url.port} does not answer ({_first_line(error)});"
        " start it, or correct its address"
    )


def _first_line(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
