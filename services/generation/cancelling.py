"""Cancelling a job: what is unfinished ends and is given back, what is finished is paid for. One transaction decides.

What a provider has taken is cancelled there afterwards, by the poller; what it bills all the same is ours to bear.
"""

from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import endings, queries
from services.generation.jobs import GENERATION_ENDS, JOB_ENDS
from services.generation.models import Generation, Job, Operation
from shared.database import Database
from shared.events import Event
from shared.problems import NotFound

log = structlog.get_logger(__name__)


def cancel(db: Database, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
    """Cancel a job, and return it as clients see it; one that has ended stays as it ended.

    A generation whose result is being stored just now is finished: it is kept, and the job ends with it.

    Raises:
        NotFound: the organization has no such job in this mode.
    """
    with db.transaction() as session:
        job = endings.lock_jobs(session, [job_id]).get(job_id)
        if job is None or (job.org_id, job.livemode) != (org_id, livemode):
            raise NotFound("There is no such job.")
        if job.status not in JOB_ENDS:
            log.info("job_cancelled", job_id=job_id, status=job.status)
            db.publish(session, _cancel(session, job))
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        return queries.job(session, org_id=org_id, livemode=livemode, job_id=job_id)


def _cancel(session: Session, job: Job) -> list[Event]:
    now = endings.database_now(session)
    waiting, running = _unfinished(session, job)
    if job.status == "awaiting_credit":
        ends_as: str | None = "cancelled"
    else:
        ends_as = None
        if job.status != "cancelling":
            job.status, job.paused_at = "cancelling", None
    job.reserve_after = job.waiting_reason = None
    session.flush()
    events: list[Event] = []
    for ids, code in ((waiting, "cancelled_before_start"), (running, "cancelled_running")):
        if ids:
            events += endings.fail(session, job, ids, code=code, now=now, job_ends_as=ends_as)
    return events


def _unfinished(session: Session, job: Job) -> tuple[list[str], list[str]]:
    """Return the ids of a job's open generations that were not begun, and of those that are being made."""
    stored_now = sa.exists().where(Operation.generation_id == Generation.id, Operation.status == "storing")
    statement = (
        sa.select(Generation.id, Generation.status)
        .where(Generation.job_id == job.id, Generation.status.not_in(GENERATION_ENDS), sa.not_(stored_now))
        .order_by(Generation.number)
    )
    rows = session.execute(statement).all()
    waiting = [row.id for row in rows if row.status == "queued"]
    return waiting, [row.id for row in rows if row.status != "queued"]
