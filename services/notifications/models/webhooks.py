"""The tables of webhooks: where they go, each on its way, and each try."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models.table import MOMENT, PENDING, Model


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
    previous_until: Mapped[datetime | None] = mapped_column(MOMENT)
    failing_since: Mapped[datetime | None] = mapped_column(MOMENT)
    slow: Mapped[bool] = mapped_column(server_default=sa.true())
    paused_until: Mapped[datetime | None] = mapped_column(MOMENT)
    version: Mapped[int] = mapped_column(server_default="1")
    created_by: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())

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
    due_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    lease_until: Mapped[datetime | None] = mapped_column(MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

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
        sa.Index("webhook_deliveries_due", "endpoint_id", "due_at", "id", postgresql_where=PENDING),
        sa.Index(
            "webhook_deliveries_under_way",
            "endpoint_id",
            postgresql_where=sa.text("status = 'pending' AND lease_until IS NOT NULL"),
        ),
        sa.Index("webhook_deliveries_first", "endpoint_id", "id", postgresql_where=PENDING),
        sa.Index("webhook_deliveries_of_endpoint", "org_id", "endpoint_id", "id"),
        sa.Index("webhook_deliveries_by_status", "endpoint_id", "status", "id"),
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
    ended_at: Mapped[datetime] = mapped_column(MOMENT, server_default=sa.func.now())
    duration_ms: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(sa.Text)
    response: Mapped[str] = mapped_column(sa.Text)
