"""`darkroom audit`: recomputes all money and compares rows, objects, events and queues across the services."""

import argparse
import dataclasses
import json
from datetime import UTC, datetime

from tools import audit
from tools.audit import Scope, Violation


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--deep", action="store_true", help="read every stored object again and compare its digests")
    parser.add_argument(
        "--grace",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="ignore what is younger, it may be on its way (60); 0 for a system at rest",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; the exit status is 1 if that is anything."""
    checked_at = datetime.now(UTC).isoformat(timespec="seconds")
    found = audit.run(Scope(grace_seconds=arguments.grace, deep=arguments.deep))
    violations = [violation for each in found.values() for violation in each]
    if arguments.json:
        listed = [dataclasses.asdict(violation) for violation in violations]
        counts = {name: len(each) for name, each in found.items()}
        print(json.dumps({"ok": not listed, "checked_at": checked_at, "checks": counts, "violations": listed}))
    else:
        print("\n".join(table(found)))
    return 1 if violations else 0


def table(found: dict[str, list[Violation]]) -> list[str]:
    """Return the report's lines: one a check, with what it is about, and below it one a violation."""
    lines = []
    for name, violations in found.items():
        about = str(audit.CHECKS[name].__doc__).replace("`", "")
        lines.append(f"{'ok  ' if not violations else f'{len(violations):<4}'} {name:<20} {about}")
        lines += [f"       {each.subject}: expected {each.expected}, found {each.found}" for each in violations]
    total = sum(map(len, found.values()))
    lines.append("All is as it must be." if not total else f"{total} violations.")
    return lines
