"""Writing a job down as it was asked for: its row, its generations, their first operations. Asks nobody for credits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import endings
from services.generation.engine import Engine
from services.generation.holding import RESERVE_AGAIN
from services.generation.jobs import deadline
from services.generation.models import Generation, Job, Operation
from services.generation.planning import Plan, expected_cost_microusd, provider_of
from services.generation.rows import insert_rows
from services.generation.turns import in_turns
from services.generation.workflows import PlannedGeneration, PlannedOperation
from shared import logs
from shared.events import Event, JobAccepted
from shared.ids import new_id


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as the gateway hands it over: ids from the credential, assets resolved to snapshots.

    ``on_insufficient`` is ``reject``, ``partial`` or ``pause``: what to do when not everything can be paid for.
    """

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    inputs: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]
    livemode: bool = True
    deadline_seconds: float | None = None
    on_insufficient: str = "reject"
    quote_id: str | None = None
    dry_run: bool = False
    session_id: str | None = None
    session_name: str | None = None


def take_in(session: Session, engine: Engine, asked: Submission, plan: Plan) -> list[Event]:
    """Write a new job with its generations and operations; return nothing if the job is there already."""
    now = endings.database_now(session)
    row = _job_row(asked, plan, now=now)
    added = session.execute(insert(Job).values(row).on_conflict_do_nothing().returning(Job.id)).scalar_one_or_none()
    if added is None:
        return []
    _write_generations(session, engine, plan.generations, job=row, due_at=now if plan.free else None)
    return [
        JobAccepted(
            job_id=asked.job_id,
            org_id=asked.org_id,
            user_id=asked.user_id,
            workflow=plan.workflow,
            generations=len(plan.generations),
            deadline_at=row["deadline_at"].isoformat(),
        )
    ]


def operation_row(
    engine: Engine,
    planned: PlannedOperation,
    *,
    position: int,
    job: Mapping[str, Any],
    generation_id: str,
    due_at: datetime | None,
) -> dict[str, Any]:
    """Return the row of a planned operation, with the provider its route leads to.

    Raises:
        Unavailable: no provider that is set up does this operation.
    """
    provider = provider_of(engine, planned.name)
    return {
        "id": new_id("op"),
        "org_id": job["org_id"],
        "user_id": job["user_id"],
        "job_id": job["id"],
        "generation_id": generation_id,
        "position": position,
        "name": planned.name,
        "status": "queued",
        "lane": 0,
        "provider": provider.name,
        "model_requested": provider.model_for(planned.name),
        "prompt": planned.prompt,
        "prompt_version": planned.prompt_version,
        "inputs": {"sources": list(planned.sources), "parameters": planned.parameters},
        "seed": planned.seed,
        "makes_image": planned.makes_image,
        "due_at": due_at,
    }


def _job_row(asked: Submission, plan: Plan, *, now: datetime) -> dict[str, Any]:
    return {
        "id": asked.job_id,
        "org_id": asked.org_id,
        "user_id": asked.user_id,
        "workflow": plan.workflow,
        "inputs": dict(plan.inputs),
        "assets": {name: dict(value) for name, value in asked.assets.items()},
        "status": "queued" if plan.free else "awaiting_credit",
        "livemode": asked.livemode,
        "correlation_id": logs.correlation()[0],
        "total": len(plan.generations),
        "open_generations": len(plan.generations),
        "estimated_seconds": plan.estimated_seconds,
        "session_id": asked.session_id,
        "session_name": asked.session_name,
        "created_at": now,
        "deadline_at": deadline(now, estimated_seconds=plan.estimated_seconds, asked_seconds=asked.deadline_seconds),
        "deadline_seconds": asked.deadline_seconds,
        "reserve_after": None if plan.free else now + RESERVE_AGAIN,
        "on_insufficient": asked.on_insufficient,
        "quote_id": asked.quote_id,
        "fingerprint": plan.fingerprint,
    }


def _write_generations(
    session: Session,
    engine: Engine,
    planned: Sequence[PlannedGeneration],
    *,
    job: Mapping[str, Any],
    due_at: datetime | None,
) -> None:
    generations, operations = [], []
    for number, item in enumerate(in_turns(planned), start=1):
        generation = _generation_row(engine, item, number=number, job=job)
        generations.append(generation)
        operations += [
            operation_row(engine, one, position=position, job=job, generation_id=generation["id"], due_at=due_at)
            for position, one in enumerate(item.operations)
        ]
    insert_rows(session, Generation, generations)
    insert_rows(session, Operation, operations)


def _generation_row(engine: Engine, item: PlannedGeneration, *, number: int, job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id("gen"),
        "org_id": job["org_id"],
        "job_id": job["id"],
        "number": number,
        "status": "queued",
        "sku": item.sku,
        "expected_cost_microusd": expected_cost_microusd(engine, item),
        "seed": item.seed,
        "style": item.style,
        "room_type": item.room_type,
        "settings": item.settings,
    }
