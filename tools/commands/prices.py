"""`darkroom prices`: shows the price book, and changes it from some time on, by RPC to the credits service."""

import argparse
import getpass
from collections.abc import Mapping
from typing import Any

from tools.commands.credits import call  # patches the process first of all


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    shown = actions.add_parser("list", help="the prices in force, and those to come")
    shown.set_defaults(run=show)
    changed = actions.add_parser("change", help="let a SKU cost something else; open jobs and quotes keep their prices")
    changed.add_argument("sku", metavar="SKU")
    changed.add_argument("amount", type=int, metavar="AMOUNT")
    changed.add_argument("--unit", help="credits or plan_generations; needed for a new SKU")
    changed.add_argument("--from", dest="valid_from", metavar="TIME", help="RFC 3339; in 15 s unless given")
    changed.set_defaults(run=change)
    ended = actions.add_parser("end", help="let a SKU have no price: jobs that need it are refused from then on")
    ended.add_argument("sku", metavar="SKU")
    ended.add_argument("--at", dest="valid_to", metavar="TIME", help="RFC 3339; in 15 s unless given")
    ended.set_defaults(run=end)


def show(_arguments: argparse.Namespace) -> int:
    """Print the price book: what is in force, then what is announced."""
    pricing = call("pricing")
    for price in (*pricing["data"], *pricing["upcoming"]):
        print(_line(price))
    return 0


def change(arguments: argparse.Namespace) -> int:
    """Add a price and print it."""
    price = call(
        "change_price",
        sku=arguments.sku,
        amount=arguments.amount,
        unit=arguments.unit,
        valid_from=arguments.valid_from,
        actor=f"operator {getpass.getuser()}",
    )
    print(_line(price))
    return 0


def end(arguments: argparse.Namespace) -> int:
    """End a price and print it."""
    actor = f"operator {getpass.getuser()}"
    print(_line(call("end_price", sku=arguments.sku, valid_to=arguments.valid_to, actor=actor)))
    return 0


def _line(price: Mapping[str, Any]) -> str:
    until = f" until {price['valid_to']}" if price.get("valid_to") else ""
    return f"{price['sku']:<28}{price['amount']:>5} {price['unit']:<18}from {price['valid_from']}{until}"
