"""Writing a job down as it was asked for: its row, its generations, their first operations. Asks nobody for credits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from services.generation import endings
from services.generation.engine import Engine
from services.generation.holding import RESERVE_AGAIN
from services.generation.jobs import deadline, lane
from services.generation.models import Generation, Job, Operation
from services.generation.planning import Plan, digests_of, expected_cost_microusd, looked_up, provider_of
from services.generation.rows import insert_new_rows, insert_rows
from services.generation.trials import Named
from services.generation.turns import in_turns
from services.generation.workflows import PlannedGeneration, PlannedOperation
from shared import logs
from shared.events import Event, JobAccepted, correlated
from shared.ids import new_id


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as the gateway hands it over: ids from the credential, assets resolved to snapshots.

    ``on_insufficient`` is ``reject``, ``partial`` or ``pause``: what to do when not everything can be paid for. Its
    credits count against ``cap_id``, which allows ``daily_cap`` of them a day: None where it was asked for without one.
    ``correlation_id`` is of the request it came with; that of the current context unless given. A retry of the job
    ``retry_of`` makes ``only`` those of the ``out_of`` planned generations, by number. A ``fresh`` job takes
    nothing that is known. ``retry_number`` says which attempt at the empty room of the staging session ``session_id``
    it is.
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
    cap_id: str | None = None
    daily_cap: int | None = None
    correlation_id: str | None = None
    retry_of: str | None = None
    retry_count: int = 0
    only: tuple[int, ...] | None = None
    out_of: int | None = None
    fresh: bool = False
    retry_number: int | None = None

    @property
    def named(self) -> Named:
        """The job and its quote."""
        return Named(org_id=self.org_id, job_id=self.job_id, quote_id=self.quote_id)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A submission and what its workflow makes of it, with the rows of that; times are added when it is written."""

    asked: Submission
    plan: Plan
    generations: Sequence[Mapping[str, Any]]
    operations: Sequence[Mapping[str, Any]]

    @property
    def pays(self) -> bool:
        """Whether anything has to be held for it: not for what is free of charge, nor for a test key's."""
        return self.asked.livemode and not self.plan.free


def planned(engine: Engine, asked: Submission, plan: Plan) -> Planned:
    """Return a submission ready to be written.

    Raises:
        Unavailable: no provider that is set up does one of its operations.
    """
    told = asked if asked.correlation_id else replace(asked, correlation_id=logs.correlation()[0])
    generations, operations = [], []
    job = {
        "id": asked.job_id,
        "org_id": asked.org_id,
        "user_id": asked.user_id,
        "livemode": asked.livemode,
        "generations": len(plan.generations),
        "fresh": asked.fresh,
    }
    digests = digests_of(asked.assets)
    numbers = asked.only or range(1, len(plan.generations) + 1)
    for number, (item, of_plan) in enumerate(zip(in_turns(plan.generations), numbers, strict=True), start=1):
        generation = _generation_row(engine, item, number=number, plan_number=of_plan, job=job)
        generations.append(generation)
        operations += [
            operation_row(
                engine,
                one,
                position=position,
                job=job,
                generation_id=generation["id"],
                due_at=None,
                digests=digests,
            )
            for position, one in enumerate(item.operations)
        ]
    return Planned(asked=told, plan=plan, generations=generations, operations=operations)


def take_in(session: Session, several: Sequence[Planned]) -> tuple[list[Event], dict[str, dict[str, Any]]]:
    """Write new jobs, each once, with their generations and operations: a statement for each of the three tables.

    Returns:
        The events of those that were written now, and their rows by id; of a job that is there already nothing.
    """
    now = endings.database_now(session)
    rows = {each.asked.job_id: _job_row(each, now=now) for each in several}
    # In the one order of ids: two that take in the same jobs must not lock each other out.
    added = insert_new_rows(session, Job, [rows[job_id] for job_id in sorted(rows)])
    new = [each for each in several if each.asked.job_id in added]
    insert_rows(session, Generation, [row for each in new for row in each.generations])
    insert_rows(session, Operation, [row for each in new for row in _operations(each, now=now)])
    return [_accepted(each, rows[each.asked.job_id]) for each in new], {job_id: rows[job_id] for job_id in added}


def operation_row(
    engine: Engine,
    planned: PlannedOperation,
    *,
    position: int,
    job: Mapping[str, Any],
    generation_id: str,
    due_at: datetime | None,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """Return the row of a planned operation, with the provider its route leads to.

    ``digests`` are the SHA-256 of pictures by their keys. An analysis is looked up before it is due, unless the job is
    to be fresh.

    Raises:
        Unavailable: no provider that is set up does this operation.
    """
    provider = provider_of(engine, planned.name)
    known_by = looked_up(engine, planned, digests)
    inputs: dict[str, Any] = {"sources": list(planned.sources), "parameters": planned.parameters}
    if known_by:
        # By these its answer is kept, also where nobody looks for one.
        inputs["digests"] = [digests[source] for source in planned.sources]
    if job["fresh"]:
        known_by = None
    return {
        "id": new_id("op"),
        "org_id": job["org_id"],
        "user_id": job["user_id"],
        "job_id": job["id"],
        "generation_id": generation_id,
        "position": position,
        "name": planned.name,
        "status": "queued",
        # What follows on work that was begun names no size: it is interactive, so that it is soon out of the way.
        "lane": lane(livemode=job["livemode"], generations=job.get("generations", 1)),
        "livemode": job["livemode"],
        "asked_first": provider.name,
        "provider": provider.name,
        "model_requested": provider.model_for(planned.name),
        "prompt": planned.prompt,
        "prompt_version": planned.prompt_version,
        "inputs": inputs,
        "seed": planned.seed,
        "makes_image": planned.makes_image,
        "analysis_key": known_by,
        **_when(known_by, due_at),
    }


def _job_row(each: Planned, *, now: datetime) -> dict[str, Any]:
    asked, plan = each.asked, each.plan
    return {
        "id": asked.job_id,
        "org_id": asked.org_id,
        "user_id": asked.user_id,
        "workflow": plan.workflow,
        "inputs": dict(plan.inputs),
        "assets": {name: dict(value) for name, value in asked.assets.items()},
        "status": "awaiting_credit" if each.pays else "queued",
        "livemode": asked.livemode,
        "correlation_id": asked.correlation_id,
        "total": len(plan.generations),
        "open_generations": len(plan.generations),
        "estimated_seconds": plan.estimated_seconds,
        "session_id": asked.session_id,
        "session_name": asked.session_name,
        "retry_of": asked.retry_of,
        "retry_count": asked.retry_count,
        "retry_number": asked.retry_number,
        "planned": asked.out_of or len(plan.generations),
        "created_at": now,
        "deadline_at": deadline(now, estimated_seconds=plan.estimated_seconds, asked_seconds=asked.deadline_seconds),
        "deadline_seconds": asked.deadline_seconds,
        "reserve_after": now + RESERVE_AGAIN if each.pays else None,
        "on_insufficient": asked.on_insufficient,
        "quote_id": asked.quote_id,
        "fingerprint": plan.fingerprint,
        "cap_id": asked.cap_id,
        "daily_cap": asked.daily_cap,
        "fresh": asked.fresh,
        "cacheable": sum("digests" in row["inputs"] for row in each.operations),
    }


def _operations(each: Planned, *, now: datetime) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a job's operations; of one that costs nothing they are due at once."""
    return each.operations if each.pays else [{**row, **_when(row["analysis_key"], now)} for row in each.operations]


def _when(known_by: str | None, due_at: datetime | None) -> dict[str, datetime | None]:
    """Return what says that an operation is due: one that is looked up waits until it is known what becomes of it."""
    return {"due_at": due_at, "waits_since": None} if known_by is None else {"due_at": None, "waits_since": due_at}


def _accepted(each: Planned, row: Mapping[str, Any]) -> JobAccepted:
    return JobAccepted(
        meta=correlated(each.asked.correlation_id),
        job_id=each.asked.job_id,
        org_id=each.asked.org_id,
        user_id=each.asked.user_id,
        workflow=each.plan.workflow,
        generations=len(each.generations),
        deadline_at=row["deadline_at"].isoformat(),
        livemode=each.asked.livemode,
        session_id=each.asked.session_id,
    )


def _generation_row(
    engine: Engine, item: PlannedGeneration, *, number: int, plan_number: int, job: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": new_id("gen"),
        "org_id": job["org_id"],
        "job_id": job["id"],
        "number": number,
        "plan_number": plan_number,
        "status": "queued",
        "sku": item.sku,
        "expected_cost_microusd": expected_cost_microusd(engine, item),
        "seed": item.seed,
        "style": item.style,
        "room_type": item.room_type,
        "product_id": item.product_id,
        "revision_id": item.revision_id,
        "view_type": item.view_type,
        "settings": item.settings,
        "livemode": job["livemode"],
        "parts": len(item.operations) if item.priced_by_operation else None,
        # A test key's job holds nothing, and what nothing is held for is free: it waits for nobody.
        "amount": None if job["livemode"] else 0,
    }
