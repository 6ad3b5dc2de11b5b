"""`darkroom credits grant`: gives an organization credits, by RPC to the credits service."""

# ruff: noqa: E402  the patch must come before anything that imports sockets: the RPC client runs in green threads
import eventlet

eventlet.monkey_patch()

import argparse
import getpass
from typing import Any

from shared.ids import new_id
from shared.problems import Problem
from shared.rpc import RpcConnection
from tools.environment import setting
from tools.failures import CommandFailed

KINDS = ("promotional", "purchased", "compensation")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    grant = actions.add_parser("grant", help="give credits", description=__doc__)
    grant.add_argument("org_id", metavar="ORG", help="the organization's id, org_…")
    grant.add_argument("amount", type=int, metavar="AMOUNT", help="how many credits")
    grant.add_argument("--reason", required=True, help="why; it is kept with the entry")
    grant.add_argument("--kind", choices=KINDS, default=KINDS[0])
    grant.add_argument(
        "--grant-id", metavar="ID", help="repeat a grant whose answer was lost: the same id gives credits once"
    )
    grant.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Give the credits and print the balance after it."""
    grant_id = arguments.grant_id or new_id("grt")
    balance = call(
        "grant",
        grant_id=grant_id,
        org_id=arguments.org_id,
        amount=arguments.amount,
        kind=arguments.kind,
        reason=arguments.reason,
        actor=f"operator {getpass.getuser()}",
    )
    print(f"{arguments.org_id} has {balance['available']} credits now (grant {grant_id})")
    return 0


def call(method: str, **arguments: Any) -> Any:
    """Call a method of the credits service.

    Raises:
        CommandFailed: it was refused, or nobody answered.
    """
    connection = RpcConnection(setting("AMQP_URL"), name="darkroom tools")
    reader = eventlet.spawn(connection.run)
    try:
        return connection.call("credits", method, arguments)
    except Problem as problem:
        repeatable = problem.retryable and "grant_id" in arguments
        again = f"; to be sure, repeat it with --grant-id {arguments['grant_id']}" if repeatable else ""
        raise CommandFailed(f"{problem.code}: {problem.detail}{again}") from problem
    finally:
        connection.stop()
        reader.kill()
