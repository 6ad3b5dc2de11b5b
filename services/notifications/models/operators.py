"""The tables of what operators are told, and of what they tell everybody."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models.table import MOMENT, PENDING, Model


class Incident(Model):
    """Something operators have to know: when it began, was seen last and ended, and how far the alert has come.

    ``status`` is that of its webhook, ``none`` where none is sent; claims are as those of webhooks. Only the system
    reads it: it is of no organization.
    """

    __tablename__ = "incidents"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    kind: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    text: Mapped[str] = mapped_column(sa.Text)
    remedy: Mapped[str] = mapped_column(sa.Text)
    since: Mapped[datetime] = mapped_column(MOMENT)
    seen: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    last_at: Mapped[datetime] = mapped_column(MOMENT)
    closed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    status: Mapped[str] = mapped_column(sa.Text)
    attempt: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    lease_until: Mapped[datetime | None] = mapped_column(MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.CheckConstraint("status IN ('none', 'pending', 'sent', 'failed')", name="incidents_status"),
        sa.Index("incidents_key", "key", "id"),
        sa.Index("incidents_due", "due_at", postgresql_where=PENDING),
    )


class Tip(Model):
    """What an administrator has to say to everybody who asked for it. Only the system reads it.

    Its mails are made up to the person ``reached`` of ``reached_org``.
    """

    __tablename__ = "tips"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    subject: Mapped[str] = mapped_column(sa.Text)
    paragraphs: Mapped[list[str]] = mapped_column(JSONB)
    reached_org: Mapped[str] = mapped_column(sa.Text, server_default="")
    reached: Mapped[str] = mapped_column(sa.Text, server_default="")
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (sa.Index("tips_open", "id", postgresql_where=sa.text("ended_at IS NULL")),)
