"""Whom things are told to, what they want to be told, their inboxes and their mail."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import SYSTEM_ROLE, TENANT_ROLE
from shared.migrations import protect

revision = "0004"
down_revision = "0003"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.func.now()


def upgrade() -> None:
    create_people()
    create_preferences()
    create_messages()
    create_mails()
    for table in ("organizations", "people"):
        protect(table, writes=())
        op.execute(f"GRANT INSERT, UPDATE ON {table} TO {SYSTEM_ROLE}")
    protect("preferences")
    protect("messages", writes=("UPDATE",))
    op.execute(f"GRANT INSERT, DELETE ON messages TO {SYSTEM_ROLE}")
    protect("mails", writes=("INSERT",))
    op.execute(f"GRANT UPDATE, DELETE ON mails TO {SYSTEM_ROLE}")
    op.execute(f"GRANT UPDATE (status, ended_at, due_at) ON mails TO {TENANT_ROLE}")


def create_people() -> None:
    op.create_table(
        "organizations",
        sa.Column("org_id", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
    )
    op.create_table(
        "people",
        sa.Column("org_id", TEXT, primary_key=True),
        sa.Column("user_id", TEXT, primary_key=True),
        sa.Column("email", TEXT),
        sa.Column("name", TEXT),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("status_sequence", TEXT, nullable=False),
        sa.Column("role_sequence", TEXT, nullable=False),
        sa.CheckConstraint("status IN ('invited', 'active', 'removed')", name="people_status"),
    )


def create_preferences() -> None:
    op.create_table(
        "preferences",
        sa.Column("org_id", TEXT, primary_key=True),
        sa.Column("user_id", TEXT, primary_key=True),
        sa.Column("chosen", JSONB, nullable=False),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
    )


def create_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("job_id", TEXT),
        sa.Column("session_id", TEXT),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("read_at", TIME),
        sa.UniqueConstraint("org_id", "user_id", "key", name="messages_key"),
    )
    unread = sa.text("read_at IS NULL")
    op.create_index("messages_of_user", "messages", ["org_id", "user_id", "id"])
    op.create_index("messages_unread", "messages", ["org_id", "user_id"], postgresql_where=unread)
    op.create_index("messages_created_at", "messages", ["created_at"])


def create_mails() -> None:
    op.create_table(
        "mails",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("recipient", TEXT, nullable=False),
        sa.Column("facts", JSONB, nullable=False),
        sa.Column("priority", sa.SmallInteger, server_default="1", nullable=False),
        sa.Column("status", TEXT, server_default="pending", nullable=False),
        sa.Column("attempt", sa.Integer, server_default="0", nullable=False),
        sa.Column("due_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("lease_until", TIME),
        sa.Column("fence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("failure", TEXT),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("ended_at", TIME),
        sa.UniqueConstraint("key", name="mails_key"),
        sa.CheckConstraint(
            "status IN ('pending', 'gathered', 'sent', 'failed', 'expired', 'cancelled', 'digested')",
            name="mails_status",
        ),
        sa.CheckConstraint("(status IN ('pending', 'gathered')) = (ended_at IS NULL)", name="mails_ended"),
    )
    for name, columns, condition in (
        ("mails_due", ["priority", "due_at"], "status = 'pending'"),
        ("mails_expiring", ["expires_at"], "status = 'pending'"),
        ("mails_gathered", ["org_id", "user_id"], "status = 'gathered'"),
        ("mails_open_of_user", ["org_id", "user_id"], "ended_at IS NULL"),
        ("mails_ended_at", ["ended_at"], "ended_at IS NOT NULL"),
    ):
        op.create_index(name, "mails", columns, postgresql_where=sa.text(condition))
