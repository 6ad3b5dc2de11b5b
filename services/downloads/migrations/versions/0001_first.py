"""Inbox and outbox."""

from shared.migrations import create_delivery_tables, create_roles

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_roles()
    create_delivery_tables()
