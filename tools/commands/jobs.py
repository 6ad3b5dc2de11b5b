"""`darkroom jobs show`: one job through all services, for a person who has to find out what became of it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tools import databases
from tools.failures import CommandFailed

_QUERIES = {
    "job": (
        "generation",
        """SELECT id, org_id, workflow, status, total, open_generations, created_at, progressed_at, deadline_at,
            finished_at, retry_of, correlation_id FROM jobs WHERE id = :job""",
    ),
    "generations": (
        "generation",
        """SELECT id, number, status, sku, amount, style, room_type, seed, failure_reason, failure_message,
            started_at, finished_at FROM generations WHERE job_id = :job ORDER BY number""",
    ),
    "operations": (
        "generation",
        """SELECT id, generation_id, name, status, provider, model_requested, attempt, worker, due_at, lease_until,
            duration_ms, error_code, error_detail FROM operations WHERE job_id = :job
            ORDER BY generation_id, position""",
    ),
    "images": (
        "generation",
        "SELECT id, generation_id, key, bytes, width, height, sha256 FROM images WHERE job_id = :job ORDER BY id",
    ),
    "reservation": (
        "credits",
        "SELECT id, deadline_at, created_at, closed_at, overdue_at FROM reservations WHERE job_id = :job",
    ),
    "lines": (
        "credits",
        """SELECT line_id, sku, unit, amount, status, captured_amount, reason, settled_at FROM lines
            WHERE job_id = :job ORDER BY line_id""",
    ),
    "entries": (
        "credits",
        """SELECT id, transfer_id, kind, unit, amount, available_after, line_id, reason, created_at FROM entries
            WHERE job_id = :job ORDER BY id""",
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    show = actions.add_parser("show", help="everything known of one job", description=__doc__)
    show.add_argument("job_id", metavar="JOB", help="its id, job_…")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the job's rows, section by section."""
    known = of_job(arguments.job_id)
    if not any(known.values()):
        raise CommandFailed(f"neither generation nor credits knows a job {arguments.job_id}")
    if arguments.json:
        print(json.dumps(known, default=_plain))
        return 0
    for name, rows in known.items():
        print(f"{name} ({len(rows)})")
        for row in rows:
            print("\n".join(_lines(row)))
    return 0


def of_job(job_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return every row about a job, by kind."""
    return {
        name: [dict(row._mapping) for row in databases.rows(service, statement, job=job_id)]  # noqa: SLF001  SQLAlchemy's documented name
        for name, (service, statement) in _QUERIES.items()
    }


def _lines(row: Mapping[str, Any]) -> Sequence[str]:
    """Return a row as its first column and, indented, what else it has."""
    (name, first), *rest = row.items()
    told = [f"{column}={_plain(value)}" for column, value in rest if value is not None]
    return [f"  {name} {_plain(first)}", *(f"      {'  '.join(told[at : at + 4])}" for at in range(0, len(told), 4))]


def _plain(value: Any) -> str:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
