"""A ledger as one would write it with an ORM: the columns, keys and indexes of ours, without roles and policies."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

_MOMENT = sa.TIMESTAMP(timezone=True)
_HISTORY = sa.text("org_id IS NOT NULL AND (version IS NOT NULL OR kind = 'capture')")


class Model(DeclarativeBase):
    """Holds the metadata."""


class Account(Model):
    """A wallet, or what is held of it."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    available: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    version: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    held_total: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")

    __table_args__ = (
        sa.UniqueConstraint("org_id", "unit", "kind", name="accounts_org_unit_kind"),
        sa.CheckConstraint("available >= 0", name="accounts_available"),
        {"postgresql_with": {"fillfactor": "50"}},
    )


class Reservation(Model):
    """What is held for a job."""

    __tablename__ = "reservations"

    job_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    id: Mapped[str] = mapped_column(sa.Text, unique=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    deadline_at: Mapped[datetime] = mapped_column(_MOMENT)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    closed_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    lines: Mapped[list["Line"]] = relationship()


class Line(Model):
    """One held amount."""

    __tablename__ = "lines"

    job_id: Mapped[str] = mapped_column(sa.ForeignKey("reservations.job_id"), primary_key=True)
    line_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    sku: Mapped[str] = mapped_column(sa.Text)
    product: Mapped[str] = mapped_column(sa.Text)
    price_version: Mapped[int]
    unit: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    status: Mapped[str] = mapped_column(sa.Text, server_default="held")
    captured_amount: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    settled_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.Index("lines_open", "job_id", "line_id", postgresql_where=sa.text("status = 'held'")),
        sa.Index("lines_of_generation", "line_id"),
    )


class Entry(Model):
    """One leg of a transfer."""

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    transfer_id: Mapped[str] = mapped_column(sa.Text)
    account_id: Mapped[int] = mapped_column(sa.BigInteger)
    org_id: Mapped[str] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    available_after: Mapped[int | None] = mapped_column(sa.BigInteger)
    version: Mapped[int | None] = mapped_column(sa.BigInteger)
    job_id: Mapped[str] = mapped_column(sa.Text)
    line_id: Mapped[str] = mapped_column(sa.Text)
    sku: Mapped[str] = mapped_column(sa.Text)
    product: Mapped[str] = mapped_column(sa.Text)
    actor: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.UniqueConstraint("transfer_id", "account_id", name="entries_transfer_account"),
        sa.Index(
            "entries_wallet_history",
            "account_id",
            "version",
            unique=True,
            postgresql_where=sa.text("version IS NOT NULL"),
        ),
        sa.Index(
            "entries_history",
            "org_id",
            "id",
            postgresql_include=["product", "kind", "unit", "created_at"],
            postgresql_where=_HISTORY,
        ),
        sa.Index("entries_of_job", "job_id", "id", postgresql_where=_HISTORY),
    )


class Outbox(Model):
    """An event to be sent."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    event_id: Mapped[str] = mapped_column(sa.Text)
    type: Mapped[str] = mapped_column(sa.Text)
    body: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
