"""The tables of people: who is told things, what they want to be told, their inboxes and their mail."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models.table import MOMENT, PENDING, Model


class Organization(Model):
    """What an organization is called."""

    __tablename__ = "organizations"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)


class Person(Model):
    """Somebody who is told things, as the gateway's events have it, which may come out of order.

    Role and status are those of the newest event that says them, whose sequence stands beside them.
    """

    __tablename__ = "people"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    email: Mapped[str | None] = mapped_column(sa.Text)
    name: Mapped[str | None] = mapped_column(sa.Text)
    role: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.Text)
    status_sequence: Mapped[str] = mapped_column(sa.Text)
    role_sequence: Mapped[str] = mapped_column(sa.Text)

    __table_args__ = (sa.CheckConstraint("status IN ('invited', 'active', 'removed')", name="people_status"),)


def _asked_for(kind: str) -> sa.TextClause:
    return sa.text(f"((chosen -> 'email') ->> '{kind}') = 'true'")


class Preference(Model):
    """What somebody wants to be told and how, as far as they have chosen; ``version`` counts the changes."""

    __tablename__ = "preferences"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    chosen: Mapped[dict[str, Any]] = mapped_column(JSONB)
    version: Mapped[int] = mapped_column(server_default="1")
    updated_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.Index("preferences_weekly", "org_id", "user_id", postgresql_where=_asked_for("weekly_usage_summary")),
        sa.Index("preferences_tips", "org_id", "user_id", postgresql_where=_asked_for("tips_and_best_practices")),
    )


class Message(Model):
    """One message in somebody's inbox; ``key`` says what it is about, so that nobody is told a thing twice."""

    __tablename__ = "messages"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    text: Mapped[str] = mapped_column(sa.Text)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    session_id: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    read_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("org_id", "user_id", "key", name="messages_key"),
        sa.Index("messages_of_user", "org_id", "user_id", "id"),
        sa.Index("messages_unread", "org_id", "user_id", postgresql_where=sa.text("read_at IS NULL")),
        sa.Index("messages_created_at", "created_at"),
    )


class Mail(Model):
    """One e-mail: to whom, about what, and how far it has come. Its text is made of ``facts`` when it is sent.

    ``gathered`` ones wait for their reader's daily digest. A link's token is in no row: it is made at that time too, of
    the id and end that ``facts`` name. Claims are as those of webhooks; ``priority`` 0 goes first.
    """

    __tablename__ = "mails"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    recipient: Mapped[str] = mapped_column(sa.Text)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    priority: Mapped[int] = mapped_column(sa.SmallInteger, server_default="1")
    status: Mapped[str] = mapped_column(sa.Text, server_default="pending")
    attempt: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    lease_until: Mapped[datetime | None] = mapped_column(MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("key", name="mails_key"),
        sa.CheckConstraint(
            "status IN ('pending', 'gathered', 'sent', 'failed', 'expired', 'cancelled', 'digested')",
            name="mails_status",
        ),
        sa.CheckConstraint("(status IN ('pending', 'gathered')) = (ended_at IS NULL)", name="mails_ended"),
        sa.Index("mails_due", "priority", "due_at", postgresql_where=PENDING),
        sa.Index("mails_expiring", "expires_at", postgresql_where=PENDING),
        sa.Index("mails_gathered", "org_id", "user_id", postgresql_where=sa.text("status = 'gathered'")),
        sa.Index("mails_of_user", "org_id", "user_id"),
        sa.Index("mails_ended_at", "ended_at", postgresql_where=sa.text("ended_at IS NOT NULL")),
    )
