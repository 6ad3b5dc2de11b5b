"""The tables of the ledger and the constraints that hold whatever the code does; queries only, no rules.

Money moves in `ledger` alone. Entries are never changed or deleted: a trigger and missing grants both refuse it.
"""

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CREDITS = "credits"
PLAN_GENERATIONS = "plan_generations"
UNITS = (CREDITS, PLAN_GENERATIONS)

_MOMENT = sa.TIMESTAMP(timezone=True)
# What an organization reads as its history: what changed its wallet, and what it finally paid.
_HISTORY = sa.text("org_id IS NOT NULL AND (version IS NOT NULL OR kind = 'capture')")
_OPEN = sa.text("status = 'held'")


class Model(DeclarativeBase):
    """Holds the metadata of the tables of credits."""


class Plan(Model):
    """What an organization may subscribe to; ``monthly_generations`` empty is without limit.

    ``daily_cost_cap_microusd`` is what its work may cost us at providers in a day (UTC); empty is without limit.
    """

    __tablename__ = "plans"

    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    monthly_generations: Mapped[int | None]
    price_usd_cents: Mapped[int]
    daily_cost_cap_microusd: Mapped[int | None] = mapped_column(sa.BigInteger)


class OrganizationPlan(Model):
    """The plan an organization has, and its own cost cap where that differs; the row says that its account is open."""

    __tablename__ = "organization_plans"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    plan: Mapped[str] = mapped_column(sa.ForeignKey("plans.name", name="organization_plans_plan"))
    since: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    daily_cost_cap_microusd: Mapped[int | None] = mapped_column(sa.BigInteger)


class Price(Model):
    """What one line of a SKU costs while the row is in force: the one that began last, until it ends.

    ``id`` is the price version a line keeps. An ended row refuses the SKU: nothing is ever free by default. Rows
    begin and end in the future only (a trigger sees to it), so what a job or quote was priced by never changes.
    """

    __tablename__ = "price_book"

    id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    sku: Mapped[str] = mapped_column(sa.Text)
    product: Mapped[str] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    valid_from: Mapped[datetime] = mapped_column(_MOMENT)
    valid_to: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.UniqueConstraint("sku", "valid_from", name="price_book_sku_valid_from"),
        sa.CheckConstraint(f"unit IN {UNITS}", name="price_book_unit"),
        sa.CheckConstraint("amount >= 0", name="price_book_amount"),
        sa.CheckConstraint("valid_to > valid_from", name="price_book_interval"),
    )


class Account(Model):
    """One side of every transfer: an organization's ``wallet`` or ``held``, or one of the system's own per unit.

    A wallet caches its balance as ``available``, and ``version`` counts its entries. What is held right now is
    the wallet's ``held_total`` (ever held, less what came back) minus the ``captured_total`` of the held account:
    two rows, so that a capture never waits for, or delays, a hold. What open lines are expected to cost us at
    providers is likewise the wallet's ``expected_cost_total`` minus the held account's ``released_cost_total``.
    """

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    org_id: Mapped[str | None] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    available: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    version: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    held_total: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    captured_total: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    expected_cost_total: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    released_cost_total: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")

    __table_args__ = (
        sa.UniqueConstraint(
            "org_id", "unit", "kind", name="accounts_org_unit_kind", postgresql_nulls_not_distinct=True
        ),
        sa.CheckConstraint(f"unit IN {UNITS}", name="accounts_unit"),
        sa.CheckConstraint(
            "kind IN ('wallet', 'held') AND org_id IS NOT NULL"
            " OR kind IN ('issuance', 'revenue', 'expiry') AND org_id IS NULL",
            name="accounts_kind",
        ),
        sa.CheckConstraint("available >= 0", name="accounts_available"),
        sa.CheckConstraint(
            "kind = 'wallet' OR available = 0 AND version = 0 AND held_total = 0", name="accounts_wallet"
        ),
        sa.CheckConstraint("kind = 'held' OR captured_total = 0", name="accounts_held"),
        sa.CheckConstraint("held_total >= 0 AND captured_total >= 0", name="accounts_totals"),
    )


class Entry(Model):
    """One leg of a transfer: ``amount`` is signed, the legs of one ``transfer_id`` sum to zero.

    The wallet's leg also says what was ``available_after`` it and which ``version`` of the wallet it made. No
    foreign keys: each would lock the shared accounts' rows at every capture; the audit checks what they would.
    """

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    transfer_id: Mapped[str] = mapped_column(sa.Text)
    account_id: Mapped[int] = mapped_column(sa.BigInteger)
    org_id: Mapped[str | None] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    kind: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    available_after: Mapped[int | None] = mapped_column(sa.BigInteger)
    version: Mapped[int | None] = mapped_column(sa.BigInteger)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    line_id: Mapped[str | None] = mapped_column(sa.Text)
    sku: Mapped[str | None] = mapped_column(sa.Text)
    product: Mapped[str | None] = mapped_column(sa.Text)
    grant_id: Mapped[str | None] = mapped_column(sa.Text)
    reason: Mapped[str | None] = mapped_column(sa.Text)
    actor: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.UniqueConstraint("transfer_id", "account_id", name="entries_transfer_account"),
        sa.CheckConstraint("amount <> 0", name="entries_amount"),
        sa.CheckConstraint("available_after >= 0", name="entries_available_after"),
        sa.CheckConstraint("(version IS NULL) = (available_after IS NULL)", name="entries_wallet_leg"),
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


class Reservation(Model):
    """What credits knows of a job: whose it is, until when it may hold, and from ``closed_at`` on that it has ended.

    A job that ended before anything was held has a row too, without a deadline: a late `reserve` finds it. A row
    is never without lines otherwise. No second unique key may hold the job's id: where two sessions insert the same
    job at once, ON CONFLICT answers for one key only, and the other key would raise. ``priced_at`` is the moment whose
    prices all its lines have: that of its quote, or its own begin.
    """

    __tablename__ = "reservations"

    job_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    id: Mapped[str] = mapped_column(sa.Text)
    org_id: Mapped[str] = mapped_column(sa.Text)
    deadline_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    closed_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    overdue_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    priced_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    quote_id: Mapped[str | None] = mapped_column(sa.Text)
    workflow: Mapped[str | None] = mapped_column(sa.Text)
    session_id: Mapped[str | None] = mapped_column(sa.Text)
    actor: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.UniqueConstraint("id", name="reservations_id"),
        sa.CheckConstraint("deadline_at IS NOT NULL OR closed_at IS NOT NULL", name="reservations_deadline"),
        sa.Index("reservations_of_session", "org_id", "session_id", postgresql_where=sa.text("session_id IS NOT NULL")),
    )


class Line(Model):
    """One held amount, for one generation; ``line_id`` is the generation's id. Ends exactly once.

    ``grant_ids`` and ``grant_amounts`` say what was taken from which grant, in the order of spending: what is captured
    came from the first of them, and what is given back returns to the last. ``returned_amount`` was given back after
    it had been captured. ``cost_microusd`` is what the generation was expected to cost us at a provider.
    """

    __tablename__ = "lines"

    job_id: Mapped[str] = mapped_column(
        sa.ForeignKey("reservations.job_id", name="lines_reservation"), primary_key=True
    )
    line_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    sku: Mapped[str] = mapped_column(sa.Text)
    product: Mapped[str] = mapped_column(sa.Text)
    price_version: Mapped[int]
    unit: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    status: Mapped[str] = mapped_column(sa.Text, server_default="held")
    captured_amount: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    reason: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    settled_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    cost_microusd: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    grant_ids: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    grant_amounts: Mapped[list[int]] = mapped_column(ARRAY(sa.BigInteger))
    returned_amount: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    return_reason: Mapped[str | None] = mapped_column(sa.Text)
    returned_by: Mapped[str | None] = mapped_column(sa.Text)
    returned_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.CheckConstraint("amount > 0", name="lines_amount"),
        sa.CheckConstraint("captured_amount BETWEEN 0 AND amount", name="lines_captured_amount"),
        sa.CheckConstraint("cost_microusd >= 0", name="lines_cost"),
        sa.CheckConstraint("cardinality(grant_ids) = cardinality(grant_amounts)", name="lines_grants"),
        sa.CheckConstraint(
            "returned_amount BETWEEN 0 AND captured_amount"
            " AND (returned_amount > 0) = (num_nonnulls(return_reason, returned_by, returned_at) = 3)",
            name="lines_returned",
        ),
        sa.CheckConstraint(
            "CASE status WHEN 'held' THEN captured_amount = 0 AND settled_at IS NULL AND reason IS NULL"
            " WHEN 'captured' THEN captured_amount > 0 AND settled_at IS NOT NULL"
            " AND (captured_amount = amount) = (reason IS NULL)"
            " WHEN 'refunded' THEN captured_amount = 0 AND settled_at IS NOT NULL AND reason IS NOT NULL"
            " ELSE false END",
            name="lines_status",
        ),
        sa.Index("lines_open", "job_id", "line_id", postgresql_where=_OPEN),
        sa.Index("lines_of_generation", "line_id"),
        sa.Index("lines_returned", "org_id", "unit", postgresql_where=sa.text("returned_amount > 0")),
    )


class Grant(Model):
    """Credits given to an organization, once per ``id``, with what is left of them in ``remaining``.

    Of what was given (``amount``), lines take their part, and the rest is ``expired``, ``withdrawn`` by a smaller
    plan, ``taken_back`` by an administrator (of an allowance that counts as used), or ``remaining``: those of one unit
    sum up to the wallet. The soonest-expiring is spent first, then the one of lower ``priority``, then the older. A
    plan's monthly allowance is one too: it begins at ``starts_at``, and ``notified_percent`` is the highest threshold
    that was told. ``origin_id`` is the expired grant that an amount came from which was given back too late for it.
    """

    __tablename__ = "grants"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    kind: Mapped[str] = mapped_column(sa.Text)
    reason: Mapped[str] = mapped_column(sa.Text)
    actor: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    remaining: Mapped[int] = mapped_column(sa.BigInteger)
    expired: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    withdrawn: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    taken_back: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    priority: Mapped[int] = mapped_column(sa.SmallInteger, server_default="0")
    starts_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    expires_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    origin_id: Mapped[str | None] = mapped_column(sa.Text)
    notified_percent: Mapped[int] = mapped_column(sa.SmallInteger, server_default="0")

    __table_args__ = (
        sa.CheckConstraint(f"unit IN {UNITS}", name="grants_unit"),
        sa.CheckConstraint("amount > 0", name="grants_amount"),
        sa.CheckConstraint(
            "least(remaining, expired, withdrawn, taken_back) >= 0"
            " AND remaining + expired + withdrawn + taken_back <= amount",
            name="grants_remaining",
        ),
        sa.CheckConstraint("expires_at > coalesce(starts_at, '-infinity')", name="grants_interval"),
        sa.CheckConstraint("kind IN ('purchased', 'promotional', 'compensation', 'monthly')", name="grants_kind"),
        sa.Index("grants_org_id", "org_id", "created_at"),
        sa.Index("grants_open", "org_id", "unit", postgresql_where=sa.text("remaining > 0")),
        sa.Index("grants_expiring", "expires_at", postgresql_where=sa.text("remaining > 0")),
    )


class Quote(Model):
    """A price that was promised for one job until ``expires_at``; ``job_id`` is the job that took it.

    What a test key was promised (not ``livemode``) no job is ever charged.

    ``fingerprint`` is the hash of workflow and inputs, ``lines`` are ``{sku, unit, count, unit_amount, amount,
    price_version}``.
    """

    __tablename__ = "quotes"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    workflow: Mapped[str] = mapped_column(sa.Text)
    fingerprint: Mapped[str] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    lines: Mapped[list[Any]] = mapped_column(JSONB)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    images: Mapped[int]
    estimated_seconds: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    job_id: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.CheckConstraint("amount >= 0", name="quotes_amount"),
        sa.CheckConstraint("expires_at > created_at", name="quotes_interval"),
        sa.Index("quotes_unused", "expires_at", postgresql_where=sa.text("job_id IS NULL")),
    )


class Adjustment(Model):
    """A correction of a wallet by an administrator, once per ``id``; negative where credits were taken back."""

    __tablename__ = "adjustments"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    unit: Mapped[str] = mapped_column(sa.Text)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    reason: Mapped[str] = mapped_column(sa.Text)
    actor: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.CheckConstraint(f"unit IN {UNITS}", name="adjustments_unit"),
        sa.CheckConstraint("amount <> 0", name="adjustments_amount"),
    )


class DailyUsage(Model):
    """What an organization got out of a workflow on a day (UTC), and what that cost it, and us at providers."""

    __tablename__ = "daily_usage"

    org_id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    workflow: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    generations: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    credits: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    plan_generations: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    provider_cost_microusd: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")


class EntrySeal(Model):
    """An entry's place in the hash chain; ``hash`` is that of the link before it and of all the entry says."""

    __tablename__ = "entry_seals"

    position: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[int] = mapped_column(sa.BigInteger)
    hash: Mapped[bytes]

    __table_args__ = (
        sa.UniqueConstraint("entry_id", name="entry_seals_entry_id"),
        sa.CheckConstraint("octet_length(hash) = 32", name="entry_seals_hash"),
    )


class Seal(Model):
    """One run of the sealer, and the head of the chain after it.

    ``up_to_entry_id`` is the highest entry sealed so far; below ``settled_entry_id`` all are sealed that ever will be.
    """

    __tablename__ = "seals"

    number: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    sealed_at: Mapped[datetime] = mapped_column(_MOMENT)
    last_position: Mapped[int] = mapped_column(sa.BigInteger)
    up_to_entry_id: Mapped[int] = mapped_column(sa.BigInteger)
    settled_entry_id: Mapped[int] = mapped_column(sa.BigInteger)
    hash: Mapped[bytes]

    __table_args__ = (sa.CheckConstraint("octet_length(hash) = 32", name="seals_hash"),)


class Audit(Model):
    """What the audit of a night found: how many violations, and the ``first`` of them. Unfinished while it runs."""

    __tablename__ = "audits"

    night: Mapped[date] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(_MOMENT)
    finished_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    violations: Mapped[int | None] = mapped_column(sa.BigInteger)
    first: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    __table_args__ = (
        sa.CheckConstraint("(finished_at IS NULL) = (violations IS NULL)", name="audits_finished"),
        sa.CheckConstraint("(coalesce(violations, 0) > 0) = (first IS NOT NULL)", name="audits_first"),
    )
