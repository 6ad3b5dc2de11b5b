"""`darkroom analytics`: makes the daily table of headshots anew from the log of events."""

import argparse

import sqlalchemy as sa

from services.notifications import headshot_statistics
from shared.database import Database, is_unavailable
from tools.databases import LOOK_SECONDS, unreachable
from tools.environment import database_url


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    rebuilt = actions.add_parser("rebuild", help="count every day anew, as far back as the log goes")
    rebuilt.set_defaults(run=rebuild)


def rebuild(_arguments: argparse.Namespace) -> int:
    """Count anew, and print of how much."""
    database = Database(str(database_url("notifications")), application="darkroom tools", pool_size=1)
    try:
        with database.transaction(time_limit_seconds=LOOK_SECONDS) as session:
            told = headshot_statistics.rebuild(session)
    except sa.exc.DBAPIError as error:
        if not is_unavailable(error):
            raise
        raise unreachable("notifications", sa.make_url(database_url("notifications")), error) from error
    finally:
        database.engine.dispose()
    print(f"counted anew: {told} things that happened to headshots")
    return 0
