"""`darkroom contracts`: the documents that clients and subscribers build on."""

import argparse
import sys

from services.gateway import workflows
from tools import contracts
from tools.failures import CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--check", action="store_true", help="change nothing; print the differences and exit with 1")
    parser.add_argument(
        "--breaking", action="store_true", help="write even what breaks today's readers (before a first release)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the documents, or compare them."""
    wanted = contracts.documents()
    broken = contracts.breaches(wanted)
    if broken and not arguments.breaking:
        raise CommandFailed(
            "readers of these events would break; make a new type with the suffix V2 and publish both:\n  "
            + "\n  ".join(broken)
        )
    if arguments.check:
        return _compare(wanted)
    changed = contracts.write(wanted)
    if any(path.startswith(contracts.WORKFLOWS) for path in changed):
        workflows.contracts.cache_clear()  # the API's document is made of what they say
        changed += contracts.write(contracts.documents())
    for path in dict.fromkeys(changed):
        print(f"wrote {path}")
    return 0


def _compare(wanted: dict[str, str]) -> int:
    differences = contracts.drift(wanted)
    for difference in differences:
        sys.stdout.write(difference)
    if differences:
        print(f"\n{len(differences)} contracts are not as the code has them. Run: make contracts", file=sys.stderr)
    return 1 if differences else 0
