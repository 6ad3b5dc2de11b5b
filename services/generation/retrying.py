"""Making failed generations again: a new job that names the one it repeats, pays its own way, may change settings.

An ended job never opens again; its failures stay as they were told.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import handlers, sources
from services.generation.engine import Engine
from services.generation.holding import Credits
from services.generation.jobs import JOB_ENDS
from services.generation.models import Generation, Job
from services.generation.queries import job_row
from services.generation.submissions import Submission
from shared.database import Database
from shared.problems import BadRequest, Conflict, NotFound


def retry(  # noqa: PLR0913  each says which part of the new job
    db: Database,
    credits_service: Credits,
    engine: Engine,
    *,
    org_id: str,
    livemode: bool,
    job_id: str,
    new_job_id: str,
    user_id: str | None,
    generation_ids: Collection[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    on_insufficient: str | None = None,
    deadline_seconds: float | None = None,
    quote_id: str | None = None,
    dry_run: bool = False,
    fresh: bool = False,
    cap_id: str | None = None,
    daily_cap: int | None = None,
) -> dict[str, Any]:
    """Submit a job for failed generations of an ended one, at today's prices. Idempotent by ``new_job_id``.

    Args:
        db: of this service.
        credits_service: holds what the new job costs.
        engine: plans it.
        org_id: whose job it is.
        livemode: in which mode.
        job_id: the ended job.
        new_job_id: the id of the new one.
        user_id: who asks.
        generation_ids: which of its failed generations; all of them where None.
        settings: inputs to change, by name; they can name no other uploads.
        on_insufficient: what to do when not all of it can be paid for; as the ended job had it where None.
        deadline_seconds: when to give up; as the ended job had it where None.
        quote_id: charge at most what this says.
        dry_run: only tell what it would cost.
        fresh: take nothing that is known.
        cap_id: of the API key it was asked for with.
        daily_cap: of that key.

    Returns:
        As `handlers.submit`.

    Raises:
        NotFound: there is no such job, or no such generation of it.
        Conflict: it has not ended, or nothing of it has failed.
        BadRequest: the changed settings do not fit, or plan other generations than there were.
        SourceGone: what it works on was deleted.
        HoldRefused, Unavailable: as `handlers.submit`.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        job = job_row(session, org_id=org_id, livemode=livemode, job_id=job_id)
        numbers = _numbers(session, job, generation_ids)
        sources.require_there(session, job.assets)
        asked = Submission(
            job_id=new_job_id,
            org_id=org_id,
            user_id=user_id,
            workflow=job.workflow,
            inputs={**job.inputs, **(settings or {})},
            assets=_OfTheJob(job.assets),
            livemode=livemode,
            deadline_seconds=job.deadline_seconds if deadline_seconds is None else deadline_seconds,
            on_insufficient=on_insufficient or job.on_insufficient,
            quote_id=quote_id,
            dry_run=dry_run,
            fresh=fresh,
            session_id=job.session_id,
            session_name=job.session_name,
            retry_number=job.retry_number,
            cap_id=cap_id,
            daily_cap=daily_cap,
        )
        again = replace(
            asked,
            retry_of=job.id,
            retry_count=job.retry_count + 1,
            only=tuple(numbers),
            out_of=job.planned or job.total,
        )
    return handlers.submit(db, credits_service, engine, again)


class _OfTheJob(dict[str, Any]):
    """The uploads of the ended job, by id."""

    def __missing__(self, upload_id: str) -> Any:
        # Nobody has looked whether there is such an upload, or whose it is.
        raise BadRequest("A retry works on the uploads of its job: change no upload, or submit a new job.")


def _numbers(session: Session, job: Job, generation_ids: Collection[str] | None) -> list[int]:
    """Return which of the planned generations are to be made again."""
    if job.status not in JOB_ENDS:
        raise Conflict("The job has not ended yet: wait for its end, or cancel it.")
    rows = session.execute(
        sa.select(Generation.id, Generation.plan_number, Generation.number, Generation.status).where(
            Generation.job_id == job.id
        )
    ).all()
    wanted = {row.id for row in rows if row.status == "failed"} if generation_ids is None else set(generation_ids)
    known = {row.id: row for row in rows}
    if wanted - set(known):
        raise NotFound("There is no such generation of this job.")
    if any(known[one].status != "failed" for one in wanted):
        raise BadRequest("Only failed generations can be made again.")
    if not wanted:
        raise Conflict("Nothing of this job has failed.")
    return sorted(known[one].plan_number or known[one].number for one in wanted)
