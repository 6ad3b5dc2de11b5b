"""`darkroom audit`: recomputes all money and compares rows, objects, events and queues across the services."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from tools import audit
from tools.audit import Found, Scope, Violation


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
    violations = [violation for each in found.values() for violation in each.violations]
    if arguments.json:
        report = {
            "ok": not violations,
            "checked_at": checked_at,
            "checks": {name: len(each.violations) for name, each in found.items()},
            "measured": {name: each.measured for name, each in found.items() if each.measured},
            "violations": [dataclasses.asdict(violation) for violation in violations],
        }
        print(json.dumps(report))
    else:
        print("\n".join(table(found)))
    return 1 if violations else 0


def table(found: Mapping[str, Found]) -> list[str]:
    """Return the report's lines: one a check, with what it is about; below it what it measured, and each violation."""
    lines = []
    for name, each in found.items():
        about = str(audit.CHECKS[name].__doc__).replace("`", "")
        count = len(each.violations)
        lines.append(f"{count or 'ok':<4} {name:<20} {about}")
        if each.measured:
            lines.append("       " + ", ".join(f"{what} {value}" for what, value in each.measured.items()))
        lines += [f"       {_violation(name, violation)}" for violation in each.violations]
    total = sum(len(each.violations) for each in found.values())
    lines.append("All is as it must be." if not total else f"{total} violations.")
    return lines


def _violation(name: str, violation: Violation) -> str:
    invariant = violation.check.removeprefix(name).strip()
    said = f"{violation.subject}: expected {violation.expected}, found {violation.found}"
    return f"{invariant}: {said}" if invariant else said
