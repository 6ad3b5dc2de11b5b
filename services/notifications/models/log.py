"""The tables of organizations' logs of events."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models.table import MOMENT, Model


class EventSequence(Model):
    """The number of the last event in an organization's log.

    Whoever writes to the log holds this row until the commit, so that what a reader sees has no gap that is filled
    later.
    """

    __tablename__ = "event_sequences"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    last: Mapped[int] = mapped_column(sa.BigInteger)

    __table_args__ = (sa.CheckConstraint('"last" > 0', name="event_sequences_last"),)


class RecordedEvent(Model):
    """One event of an organization's log; ``body`` is its public CloudEvent, without ``orgsequence``.

    ``told`` says that its type had a sentence when it was recorded; ``succeeded`` and ``failed`` are a finished job's.
    """

    __tablename__ = "recorded_events"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    sequence: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[str] = mapped_column(sa.Text)
    type: Mapped[str] = mapped_column(sa.Text)
    body: Mapped[str] = mapped_column(sa.Text)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    session_id: Mapped[str | None] = mapped_column(sa.Text)
    recorded_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    of_test_key: Mapped[bool] = mapped_column(server_default=sa.false())
    told: Mapped[bool] = mapped_column(server_default=sa.false())
    succeeded: Mapped[int | None] = mapped_column(sa.BigInteger)
    failed: Mapped[int | None] = mapped_column(sa.BigInteger)

    __table_args__ = (
        sa.UniqueConstraint("org_id", "event_id", name="recorded_events_event_id"),
        sa.CheckConstraint("sequence > 0", name="recorded_events_sequence"),
        sa.Index(
            "recorded_events_of_job", "org_id", "job_id", "sequence", postgresql_where=sa.text("job_id IS NOT NULL")
        ),
        sa.Index(
            "recorded_events_of_session",
            "org_id",
            "session_id",
            "sequence",
            postgresql_where=sa.text("session_id IS NOT NULL"),
        ),
        sa.Index("recorded_events_of_type", "org_id", "type", "sequence"),
        sa.Index("recorded_events_recorded_at", "recorded_at"),
        sa.Index("recorded_events_told", "org_id", "of_test_key", "sequence", postgresql_where=sa.text("told")),
        sa.Index("recorded_events_of_test_keys", "org_id", "sequence", postgresql_where=sa.text("of_test_key")),
        sa.Index(
            "recorded_events_ends_of_jobs",
            "org_id",
            "recorded_at",
            postgresql_where=sa.text("type = 'JobFinished'"),
        ),
    )
