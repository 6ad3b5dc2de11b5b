"""`darkroom organization create`: an organization with its first owner; prints its key, which is shown only here."""

import argparse
import json
from typing import Any

from tools import gateway
from tools.environment import setting
from tools.failures import CommandFailed

FIRST = {"name": "Demo Studio", "credits": 1000}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    create = actions.add_parser("create", help="make one", description=__doc__)
    create.add_argument("name", nargs="*", metavar="NAME", help="its name; several words are joined")
    create.add_argument("--first", action="store_true", help=f"make {FIRST['name']} with {FIRST['credits']} credits")
    create.add_argument("--credits", type=int, dest="amount", metavar="N", help="credits to start with")
    create.add_argument("--plan", choices=("free", "pro", "team"), help="default: pro")
    create.add_argument("--owner-email", metavar="ADDRESS")
    create.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the gateway for it and print ``{"org_id", "api_key", …}``."""
    body = asked_for(arguments)
    created = gateway.post(
        f"{setting('GATEWAY_PUBLIC_URL').rstrip('/')}/v1/admin/organizations",
        key=setting("ADMIN_API_KEY"),
        body=body,
    )
    print(json.dumps({"org_id": created["id"], "api_key": created["api_key"], **created}, indent=2))
    return 0


def asked_for(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the request's body.

    Raises:
        CommandFailed: there is no name, or two.
    """
    name = " ".join(arguments.name)
    if bool(name) == arguments.first:
        raise CommandFailed("give either a NAME or --first")
    options = {"credits": arguments.amount, "plan": arguments.plan, "owner_email": arguments.owner_email}
    given = {field: value for field, value in options.items() if value is not None}
    return {**(FIRST if arguments.first else {"name": name}), **given}
