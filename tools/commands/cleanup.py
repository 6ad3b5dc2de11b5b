"""`darkroom cleanup`: deletes what a crash left in the object store; what is younger than a day is never touched."""

import argparse

from tools import objects
from tools.failures import CommandFailed
from tools.objects import Survey

# Fewer orphans than this say nothing about whether store and databases belong together.
_TELLING = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--dry-run", action="store_true", help="list them, delete nothing")
    parser.add_argument("--force", action="store_true", help="delete even if most of the store has no row")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Find the orphans first, then delete them."""
    survey = Survey()
    with objects.opened() as store:
        found = list(objects.orphans(store, survey))
        if not (arguments.dry_run or arguments.force):
            _refuse_if_strange(survey)
        for orphan in found:
            print(f"{orphan.stored_at:%Y-%m-%d %H:%M}  {orphan.bytes:>12}  {orphan.key}")
            if not arguments.dry_run:
                store.delete(orphan.key)
    done = "would be deleted" if arguments.dry_run else "deleted"
    print(f"{survey.orphans} of {survey.looked_at} objects ({survey.orphan_bytes} bytes) {done}")
    return 0


def _refuse_if_strange(survey: Survey) -> None:
    """Stop before a store is emptied because the databases are those of another system."""
    if survey.orphans > _TELLING and survey.orphans * 2 > survey.looked_at:
        raise CommandFailed(
            f"{survey.orphans} of {survey.looked_at} objects have no row; do STORAGE_URL and the databases belong to"
            " the same system? Look with --dry-run; if it is right, use --force"
        )
