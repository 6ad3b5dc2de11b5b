"""`darkroom organization create`: an organization with its first owner; prints its key, which is shown only here."""

import argparse
import json
from typing import Any

from darkroom_client import Darkroom, DarkroomError, NoAnswer, ServiceUnavailable
from tools.environment import setting
from tools.failures import CommandFailed

PATIENCE_SECONDS = 30.0  # the gateway, or what is behind it, may be starting
_ONE_TRY_SECONDS = 10.0
FIRST = {"name": "Demo Studio", "credits": 1000}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    create = actions.add_parser("create", help="make one", description=__doc__)
    create.add_argument("name", nargs="*", metavar="NAME", help="its name; several words are joined")
    create.add_argument("--first", action="store_true", help=f"make {FIRST['name']} with {FIRST['credits']} credits")
    create.add_argument("--credits", type=int, dest="amount", metavar="N", help="credits to start with")
    create.add_argument("--plan", choices=("free", "pro", "team"), help="default: pro")
    create.add_argument(
        "--owner-email",
        metavar="ADDRESS",
        help="invite the owner: by mail, or without SMTP_URL by the link in the answer",
    )
    create.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the gateway for it and print ``{"org_id", "api_key", …}``."""
    created = _created(asked_for(arguments))
    print(json.dumps({"org_id": created["id"], "api_key": created["api_key"], **created}, indent=2))
    return 0


def _created(body: dict[str, Any]) -> dict[str, Any]:
    """Make the organization, once however often it takes.

    Raises:
        CommandFailed: it was refused, or the patience ended.
    """
    address = setting("GATEWAY_PUBLIC_URL")
    limits = {"timeout_seconds": _ONE_TRY_SECONDS, "retry_seconds": PATIENCE_SECONDS}
    try:
        with Darkroom(setting("ADMIN_API_KEY"), base_url=address, **limits) as admin:
            return dict(admin.request("POST", "/v1/admin/organizations", body=body))
    except (DarkroomError, ValueError) as error:
        tried = f", for {PATIENCE_SECONDS:.0f} s. See what is not ready: make status"
        again = isinstance(error, NoAnswer | ServiceUnavailable)
        raise CommandFailed(f"{address}: {error}{tried if again else ''}") from error


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
