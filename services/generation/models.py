"""Tables of the engine. The rules live in jobs.py and operations.py; constraints here are their last line."""

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from services.generation.jobs import GENERATION_STEPS, JOB_STEPS, checked_step
from services.generation.staging_steps import SESSION_STEPS


class Base(DeclarativeBase):
    """The metadata of generation's tables."""

    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's documented way
        str: sa.Text,
        datetime: sa.TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
    }


class Job(Base):
    """One paid request. ``open_generations`` reaches 0 exactly when the job ends.

    ``reserve_after`` is when credits are to be asked (again) for what is not held yet; ``waiting_reason`` is what they
    said last, while generations wait for it. A retry has only some of the generations that its inputs plan, which are
    ``planned`` many. ``cap_id`` and ``daily_cap`` are of the API key it was asked for with. Of its operations
    ``cacheable`` make analyses that may be known, and ``from_cache`` of them took one that was; a ``fresh`` job takes
    none. ``retry_number`` says which attempt at the empty room of its staging session it is.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    user_id: Mapped[str | None]
    workflow: Mapped[str]
    inputs: Mapped[dict[str, Any]]
    assets: Mapped[dict[str, Any]]
    status: Mapped[str]
    livemode: Mapped[bool]
    correlation_id: Mapped[str | None]
    total: Mapped[int]
    open_generations: Mapped[int]
    estimated_seconds: Mapped[int]
    session_id: Mapped[str | None]
    session_name: Mapped[str | None]
    retry_of: Mapped[str | None]
    retry_count: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    progressed_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    deadline_at: Mapped[datetime]
    deadline_seconds: Mapped[float | None]
    finished_at: Mapped[datetime | None]
    reserve_after: Mapped[datetime | None]
    on_insufficient: Mapped[str] = mapped_column(server_default="reject")
    quote_id: Mapped[str | None]
    fingerprint: Mapped[str | None]
    waiting_reason: Mapped[str | None]
    cap_id: Mapped[str | None]
    daily_cap: Mapped[int | None]
    paused_at: Mapped[datetime | None]
    stalled_at: Mapped[datetime | None]
    planned: Mapped[int | None]
    fresh: Mapped[bool] = mapped_column(server_default=sa.false())
    cacheable: Mapped[int] = mapped_column(server_default="0")
    from_cache: Mapped[int] = mapped_column(server_default="0")
    retry_number: Mapped[int | None]

    @validates("status")
    def _follows(self, _name: str, after: str) -> str:
        return checked_step(JOB_STEPS, self.status, after)


class Generation(Base):
    """One billable result inside a job. Its id is also the id of its reservation line.

    ``amount`` is held for it, null until that is known; ``charged`` is what its result cost of that. With ``parts`` the
    price is for its first operations, of which there are so many, in equal parts. ``fallback_from`` is the provider
    that was asked for its result and that others stood in for.
    """

    __tablename__ = "generations"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("jobs.id"))
    number: Mapped[int]
    plan_number: Mapped[int | None]
    status: Mapped[str]
    sku: Mapped[str | None]
    amount: Mapped[int | None]
    charged: Mapped[int | None]
    expected_cost_microusd: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    seed: Mapped[int]
    style: Mapped[str | None]
    room_type: Mapped[str | None]
    view_type: Mapped[str | None]
    product_id: Mapped[str | None]
    revision_id: Mapped[str | None]
    settings: Mapped[dict[str, Any]]
    livemode: Mapped[bool]
    parts: Mapped[int | None]
    failure_reason: Mapped[str | None]
    failure_message: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    fallback_from: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @validates("status")
    def _follows(self, _name: str, after: str) -> str:
        return checked_step(GENERATION_STEPS, self.status, after)


class Operation(Base):
    """One piece of work for an AI provider: the work queue, and of the AI operation log what all attempts share.

    ``due_at`` is null until the credits are held; ``fence`` rises with every claim, so that a worker that lost its
    lease cannot write. ``sent_at`` is written before a request goes out, ``external_id`` is how the provider calls what
    it has taken, and at ``poll_at`` it is to be asked for that: by then no worker holds it. One that has ended and
    still has a ``poll_at`` runs on at the provider: it is cancelled there, and what it cost is found out.
    ``asked_first`` is the provider it was planned for: where ``provider`` is another by now, that one stands in for it.

    One with an ``analysis_key`` looks up first what is known: from ``waits_since`` on it waits for that, not due, until
    it takes the analysis that the operation ``taken_from`` has made, or is to be sent itself.
    """

    __tablename__ = "operations"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    user_id: Mapped[str | None]
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("jobs.id"))
    generation_id: Mapped[str] = mapped_column(sa.ForeignKey("generations.id"))
    position: Mapped[int]
    name: Mapped[str]
    status: Mapped[str]
    lane: Mapped[int]
    livemode: Mapped[bool]
    asked_first: Mapped[str | None]
    provider: Mapped[str]
    model_requested: Mapped[str]
    model_used: Mapped[str | None]
    prompt: Mapped[str]
    prompt_version: Mapped[str]
    inputs: Mapped[dict[str, Any]]
    output: Mapped[dict[str, Any] | None]
    seed: Mapped[int]
    makes_image: Mapped[bool]
    attempt: Mapped[int] = mapped_column(server_default="0")
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    worker: Mapped[str | None]
    due_at: Mapped[datetime | None]
    analysis_key: Mapped[str | None]
    waits_since: Mapped[datetime | None]
    taken_from: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    external_id: Mapped[str | None]
    phase: Mapped[str | None]
    queue_position: Mapped[int | None]
    poll_at: Mapped[datetime | None]
    polls: Mapped[int] = mapped_column(server_default="0")
    cancel_sent_at: Mapped[datetime | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_microusd: Mapped[int | None] = mapped_column(sa.BigInteger)
    duration_ms: Mapped[int | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class Attempt(Base):
    """One sending of an operation to a provider: the row of the AI operation log that is written before the request.

    The digests are SHA-256 of what was asked and of what came back; neither bytes nor secrets are ever kept.
    """

    __tablename__ = "attempts"

    operation_id: Mapped[str] = mapped_column(sa.ForeignKey("operations.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    job_id: Mapped[str]
    generation_id: Mapped[str]
    livemode: Mapped[bool]
    provider: Mapped[str]
    model_requested: Mapped[str]
    model_used: Mapped[str | None]
    seed: Mapped[int]
    worker: Mapped[str | None]
    status: Mapped[str]
    external_id: Mapped[str | None]
    sent_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_microusd: Mapped[int | None] = mapped_column(sa.BigInteger)
    request_digest: Mapped[str | None]
    response_digest: Mapped[str | None]


class Analysis(Base):
    """What is known by ``key``: the result of the operation ``operation_id``, or that this is finding it out."""

    __tablename__ = "analyses"

    org_id: Mapped[str] = mapped_column(primary_key=True)
    livemode: Mapped[bool] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    operation_id: Mapped[str]
    name: Mapped[str]
    provider: Mapped[str]
    model_used: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    made_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())


class Image(Base):
    """A stored output of a generation; sizes in bytes and pixels, ``key`` in the object store."""

    __tablename__ = "images"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("jobs.id"))
    generation_id: Mapped[str] = mapped_column(sa.ForeignKey("generations.id"))
    operation_id: Mapped[str] = mapped_column(sa.ForeignKey("operations.id"))
    key: Mapped[str]
    thumbnail_key: Mapped[str]
    content_type: Mapped[str]
    sha256: Mapped[str]
    crc32: Mapped[int] = mapped_column(sa.BigInteger)
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    seed: Mapped[int]
    style: Mapped[str | None]
    room_type: Mapped[str | None]
    product_id: Mapped[str | None]
    settings: Mapped[dict[str, Any]]
    provenance: Mapped[dict[str, Any]]
    livemode: Mapped[bool]
    parent_id: Mapped[str | None]
    pinned: Mapped[bool] = mapped_column(server_default=sa.false())
    favorite: Mapped[bool] = mapped_column(server_default=sa.false())
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    deleted_at: Mapped[datetime | None]


class StagingSession(Base):
    """A room on its way from a photo to staged variants: what was chosen, and how far it is.

    ``asset`` is the snapshot of the photo. ``empty_rooms`` and ``variants`` count what succeeded, and so number it;
    ``begun`` says that there is a job, one that could be paid for. ``status`` follows from all that: see
    staging_steps.py.
    """

    __tablename__ = "staging_sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    user_id: Mapped[str | None]
    livemode: Mapped[bool]
    name: Mapped[str | None]
    room_state: Mapped[str]
    status: Mapped[str]
    upload_id: Mapped[str]
    asset: Mapped[dict[str, Any]]
    style: Mapped[str | None]
    room_type: Mapped[str | None]
    empty_rooms: Mapped[int] = mapped_column(server_default="0")
    variants: Mapped[int] = mapped_column(server_default="0")
    begun: Mapped[bool] = mapped_column(server_default=sa.false())
    selected_image_id: Mapped[str | None]
    locked_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    deleted_at: Mapped[datetime | None]

    @validates("status")
    def _follows(self, _name: str, after: str) -> str:
        return after if after == self.status else checked_step(SESSION_STEPS, self.status, after)


class StagingResult(Base):
    """That a generation of a staging session succeeded, and its number there.

    Empty rooms are numbered from 0, as ``retry_number``, staged variants from 1; both without gaps.
    """

    __tablename__ = "staging_results"

    generation_id: Mapped[str] = mapped_column(sa.ForeignKey("generations.id"), primary_key=True)
    session_id: Mapped[str] = mapped_column(sa.ForeignKey("staging_sessions.id"))
    org_id: Mapped[str]
    livemode: Mapped[bool]
    workflow: Mapped[str]
    number: Mapped[int]


class SavedStyle(Base):
    """A style of an organization's own: one of ours, with further words and colours."""

    __tablename__ = "saved_styles"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    user_id: Mapped[str | None]
    livemode: Mapped[bool]
    name: Mapped[str]
    base: Mapped[str]
    words: Mapped[str]
    colours: Mapped[list[Any]]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    deleted_at: Mapped[datetime | None]


class Share(Base):
    """What an organization has apart from all others: its weight when it comes to turns, and its own limits."""

    __tablename__ = "shares"

    org_id: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column(server_default="1")
    operations_at_work: Mapped[int | None]
    open_generations: Mapped[int | None]


class CircuitRow(Base):
    """What is known of a provider's model (see `breaker.Circuit`), and where its turns have come to.

    ``last_served`` is the organization that had the last turn, ``last_tested`` that of the last test key.
    """

    __tablename__ = "circuits"

    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="closed")
    failures: Mapped[int] = mapped_column(server_default="0")
    opened_at: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
    probe_id: Mapped[str | None]
    paused_until: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    failure_code: Mapped[str | None]
    last_served: Mapped[str | None]
    last_tested: Mapped[str | None]


class Load(Base):
    """What a provider bears, as the last claim saw it: its token bucket, and how many operations were at work.

    ``called_back_at`` is when it last told by a webhook that it was done with something, to ten seconds.
    """

    __tablename__ = "loads"

    provider: Mapped[str] = mapped_column(primary_key=True)
    tokens: Mapped[float]
    refilled_at: Mapped[datetime]
    at_work: Mapped[int]
    most: Mapped[int]
    per_organization: Mapped[int]
    per_minute: Mapped[int | None]
    called_back_at: Mapped[datetime | None]


class OperationTime(Base):
    """How long a provider takes for an operation: a mean in which older measurements count less, and the last 50."""

    __tablename__ = "operation_times"

    provider: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    mean_seconds: Mapped[float]
    measured: Mapped[int] = mapped_column(sa.BigInteger)
    recent_seconds: Mapped[list[float]] = mapped_column(sa.ARRAY(sa.Float))


class SunsetNotice(Base):
    """That operators were told of a model's end; once for each date."""

    __tablename__ = "sunset_notices"

    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    sunset: Mapped[date] = mapped_column(primary_key=True)
    told_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
