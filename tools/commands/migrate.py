"""`darkroom migrate`: every service's database, one line each."""

import argparse

import sqlalchemy as sa

from shared.config import SERVICES, ConfigurationError
from shared.database import address
from shared.migrations import upgrade
from tools import databases
from tools.environment import database_url
from tools.failures import CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("services", nargs="*", metavar="SERVICE", help="only these (default: all)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Migrate and say from where to where."""
    unknown = sorted(set(arguments.services) - set(SERVICES))
    if unknown:
        raise CommandFailed(f"no service is called {', '.join(unknown)}; there are {', '.join(SERVICES)}")
    for service in arguments.services or SERVICES:
        before, after = migrate(service)
        state = "up to date" if before == after else f"was {before or 'empty'}"
        print(f"{service:<14} at {after} ({state})", flush=True)
    return 0


def migrate(service: str) -> tuple[str | None, str | None]:
    """Bring one service's database to its newest version; return the versions before and after.

    Raises:
        CommandFailed: the database does not answer, or misses a role that only its administrator can make.
    """
    url = address(database_url(service))
    try:
        before = _version(url)
        upgrade(service, url=url.render_as_string(hide_password=False))
        return before, _version(url)
    except ConfigurationError as error:
        raise CommandFailed(str(error)) from error
    except sa.exc.OperationalError as error:
        raise databases.unreachable(service, url, error) from error


def _version(url: sa.URL) -> str | None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
