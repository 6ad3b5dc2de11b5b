"""What happened to headshots, by which their use is told: the facts, and what they come to by day."""

from datetime import date, datetime
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models.table import MOMENT, Model


class HeadshotFact(Model):
    """One thing that happened to a headshot, at the event's own time; see headshot_facts.py."""

    __tablename__ = "headshot_facts"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    event_id: Mapped[str] = mapped_column(sa.Text)
    at: Mapped[datetime] = mapped_column(MOMENT)
    kind: Mapped[str] = mapped_column(sa.Text)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    style: Mapped[str | None] = mapped_column(sa.Text)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    duration_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    amount: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(sa.Text)
    sequence: Mapped[str] = mapped_column(sa.Text, server_default="")

    __table_args__ = (sa.Index("headshot_facts_at", "at"),)


class HeadshotDayDue(Model):
    """A day that is to be counted anew."""

    __tablename__ = "headshot_days_due"

    date: Mapped[date] = mapped_column(sa.Date, primary_key=True)


class HeadshotDay(Model):
    """What came of a style on a day in UTC, of live or of test keys, in all organizations; rates are percent."""

    __tablename__ = "headshot_days"

    date: Mapped[date] = mapped_column(sa.Date, primary_key=True)
    style: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    livemode: Mapped[bool] = mapped_column(primary_key=True)
    started: Mapped[int]
    total_generations: Mapped[int]
    succeeded: Mapped[int]
    failed: Mapped[int]
    cancelled: Mapped[int]
    credits: Mapped[int]
    success_rate: Mapped[Decimal | None] = mapped_column(sa.Numeric(5, 2))
    avg_processing_time_ms: Mapped[int | None]
    users: Mapped[int]
    favorites: Mapped[int]
    selected: Mapped[int]
    downloaded: Mapped[int]
    shared: Mapped[int]
