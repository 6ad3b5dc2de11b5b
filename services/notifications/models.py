"""The tables of notifications: the logs of events, whom they are told to, and how far that has come."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_MOMENT = sa.TIMESTAMP(timezone=True)
_PENDING = sa.text("status = 'pending'")


class Model(DeclarativeBase):
    """Holds the metadata of the tables of notifications."""


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
    """One event of an organization's log; ``body`` is its public CloudEvent, without ``orgsequence``."""

    __tablename__ = "recorded_events"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    sequence: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[str] = mapped_column(sa.Text)
    type: Mapped[str] = mapped_column(sa.Text)
    body: Mapped[str] = mapped_column(sa.Text)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    session_id: Mapped[str | None] = mapped_column(sa.Text)
    recorded_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    of_test_key: Mapped[bool] = mapped_column(server_default=sa.false())

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
    )


class WebhookEndpoint(Model):
    """Where an organization gets its events; ``types`` None stands for all of them. Secrets are encrypted.

    Until ``previous_until`` the secret before this one signs too. ``failing_since`` is the first failure after the
    last success; ``slow`` says how the last answer came, and is true until there was one; until ``paused_until`` the
    receiver wants nothing.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    url: Mapped[str] = mapped_column(sa.Text)
    description: Mapped[str | None] = mapped_column(sa.Text)
    types: Mapped[list[str] | None] = mapped_column(ARRAY(sa.Text))
    ordered: Mapped[bool] = mapped_column(server_default=sa.false())
    status: Mapped[str] = mapped_column(sa.Text, server_default="enabled")
    disabled_reason: Mapped[str | None] = mapped_column(sa.Text)
    secret: Mapped[str] = mapped_column(sa.Text)
    previous_secret: Mapped[str | None] = mapped_column(sa.Text)
    previous_until: Mapped[datetime | None] = mapped_column(_MOMENT)
    failing_since: Mapped[datetime | None] = mapped_column(_MOMENT)
    slow: Mapped[bool] = mapped_column(server_default=sa.true())
    paused_until: Mapped[datetime | None] = mapped_column(_MOMENT)
    version: Mapped[int] = mapped_column(server_default="1")
    created_by: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.UniqueConstraint("org_id", "id", name="webhook_endpoints_org_id"),
        sa.CheckConstraint("status IN ('enabled', 'disabled')", name="webhook_endpoints_status"),
        sa.CheckConstraint(
            "(status = 'disabled') = (disabled_reason IS NOT NULL)"
            " AND disabled_reason IN ('gone', 'failing', 'requested')",
            name="webhook_endpoints_disabled",
        ),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_until IS NULL)", name="webhook_endpoints_previous_secret"
        ),
    )


class WebhookDelivery(Model):
    """One event on its way to one endpoint; ``cause`` is ``event``, ``replay`` or ``test``, and only a test's is here.

    ``attempt`` counts the tries. Whoever has claimed it, up to ``lease_until``, shows ``fence`` when it writes; after
    that moment anyone may claim it.
    """

    __tablename__ = "webhook_deliveries"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    endpoint_id: Mapped[str] = mapped_column(sa.Text)
    event_id: Mapped[str] = mapped_column(sa.Text)
    type: Mapped[str] = mapped_column(sa.Text)
    sequence: Mapped[int | None] = mapped_column(sa.BigInteger)
    body: Mapped[str | None] = mapped_column(sa.Text)
    cause: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.Text, server_default="pending")
    attempt: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    lease_until: Mapped[datetime | None] = mapped_column(_MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    ended_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["org_id", "endpoint_id"],
            ["webhook_endpoints.org_id", "webhook_endpoints.id"],
            name="webhook_deliveries_endpoint",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'failed', 'cancelled')", name="webhook_deliveries_status"
        ),
        sa.CheckConstraint("(status = 'pending') = (ended_at IS NULL)", name="webhook_deliveries_ended"),
        sa.CheckConstraint(
            "CASE cause WHEN 'test' THEN body IS NOT NULL AND sequence IS NULL"
            " WHEN 'event' THEN body IS NULL AND sequence IS NOT NULL"
            " WHEN 'replay' THEN body IS NULL AND sequence IS NOT NULL ELSE false END",
            name="webhook_deliveries_cause",
        ),
        sa.Index(
            "webhook_deliveries_once",
            "endpoint_id",
            "event_id",
            unique=True,
            postgresql_where=sa.text("cause = 'event'"),
        ),
        sa.Index("webhook_deliveries_due", "endpoint_id", "due_at", "id", postgresql_where=_PENDING),
        sa.Index(
            "webhook_deliveries_under_way",
            "endpoint_id",
            postgresql_where=sa.text("status = 'pending' AND lease_until IS NOT NULL"),
        ),
        sa.Index("webhook_deliveries_first", "endpoint_id", "id", postgresql_where=_PENDING),
        sa.Index("webhook_deliveries_of_endpoint", "org_id", "endpoint_id", "id"),
        sa.Index("webhook_deliveries_ended_at", "ended_at", postgresql_where=sa.text("ended_at IS NOT NULL")),
    )


class WebhookAttempt(Model):
    """One try of a delivery and what came back; ``response`` is how the answer began."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[int] = mapped_column(
        sa.ForeignKey("webhook_deliveries.id", name="webhook_attempts_delivery", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    org_id: Mapped[str] = mapped_column(sa.Text)
    url: Mapped[str] = mapped_column(sa.Text)
    ended_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    duration_ms: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(sa.Text)
    response: Mapped[str] = mapped_column(sa.Text)


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


class Preference(Model):
    """What somebody wants to be told and how, as far as they have chosen; ``version`` counts the changes."""

    __tablename__ = "preferences"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    chosen: Mapped[dict[str, Any]] = mapped_column(JSONB)
    version: Mapped[int] = mapped_column(server_default="1")
    updated_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())


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
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    read_at: Mapped[datetime | None] = mapped_column(_MOMENT)

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
    due_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    lease_until: Mapped[datetime | None] = mapped_column(_MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    ended_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("key", name="mails_key"),
        sa.CheckConstraint(
            "status IN ('pending', 'gathered', 'sent', 'failed', 'expired', 'cancelled', 'digested')",
            name="mails_status",
        ),
        sa.CheckConstraint("(status IN ('pending', 'gathered')) = (ended_at IS NULL)", name="mails_ended"),
        sa.Index("mails_due", "priority", "due_at", postgresql_where=_PENDING),
        sa.Index("mails_expiring", "expires_at", postgresql_where=_PENDING),
        sa.Index("mails_gathered", "org_id", "user_id", postgresql_where=sa.text("status = 'gathered'")),
        sa.Index("mails_open_of_user", "org_id", "user_id", postgresql_where=sa.text("ended_at IS NULL")),
        sa.Index("mails_ended_at", "ended_at", postgresql_where=sa.text("ended_at IS NOT NULL")),
    )


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
    since: Mapped[datetime] = mapped_column(_MOMENT)
    seen: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    last_at: Mapped[datetime] = mapped_column(_MOMENT)
    closed_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    status: Mapped[str] = mapped_column(sa.Text)
    attempt: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    lease_until: Mapped[datetime | None] = mapped_column(_MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.CheckConstraint("status IN ('none', 'pending', 'sent', 'failed')", name="incidents_status"),
        sa.Index("incidents_key", "key", "id"),
        sa.Index("incidents_due", "due_at", postgresql_where=_PENDING),
    )


class HeadshotFact(Model):
    """One thing that happened to a headshot, at the event's own time; see headshot_facts.py."""

    __tablename__ = "headshot_facts"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    event_id: Mapped[str] = mapped_column(sa.Text)
    at: Mapped[datetime] = mapped_column(_MOMENT)
    kind: Mapped[str] = mapped_column(sa.Text)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    style: Mapped[str | None] = mapped_column(sa.Text)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    duration_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    amount: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (sa.Index("headshot_facts_at", "at"),)


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
