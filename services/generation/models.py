"""Tables of the engine. The rules live in jobs.py and operations.py; constraints here are their last line."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from services.generation.jobs import GENERATION_STEPS, JOB_STEPS, checked_step


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
    said last, while generations wait for it.
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
    paused_at: Mapped[datetime | None]

    @validates("status")
    def _follows(self, _name: str, after: str) -> str:
        return checked_step(JOB_STEPS, self.status, after)


class Generation(Base):
    """One billable result inside a job. Its id is also the id of its reservation line.

    ``amount`` is held for it, null until that is known; ``charged`` is what its result cost of that.
    """

    __tablename__ = "generations"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("jobs.id"))
    number: Mapped[int]
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
    failure_reason: Mapped[str | None]
    failure_message: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @validates("status")
    def _follows(self, _name: str, after: str) -> str:
        return checked_step(GENERATION_STEPS, self.status, after)


class Operation(Base):
    """One call to an AI provider, with its attempt number: the row of the AI operation log, and the work queue.

    ``due_at`` is null until the credits are held; ``fence`` rises with every claim, so that a worker that lost its
    lease cannot write.
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
    lease_until: Mapped[datetime | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_microusd: Mapped[int | None] = mapped_column(sa.BigInteger)
    duration_ms: Mapped[int | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


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
