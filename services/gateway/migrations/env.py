"""Entry point alembic calls; everything is in shared.migrations."""

from shared.migrations import run

run()
