"""What is different about a job of a test key: it costs nothing, so only so much of that may be open at a time.

Credits never hears of such a job, except where it names a quote or asks for prices.
"""

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.engine import Engine
from services.generation.holding import Credits
from services.generation.models import Job
from services.generation.planning import Plan
from shared.database import Database
from shared.problems import LimitExceeded

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('test jobs of ' || :org_id, 0))")


def require_room(session: Session, engine: Engine, *, org_id: str, more: int = 0) -> None:
    """Make sure that no more is open for an organization's test keys than may be, with ``more`` generations to come.

    Two jobs at once wait for each other here, until the transaction ends.

    Raises:
        LimitExceeded: it would be more.
    """
    session.execute(_LOCK, {"org_id": org_id})
    unfinished = sa.and_(Job.org_id == org_id, Job.livemode.is_(False), Job.finished_at.is_(None))
    open_now = session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Job.open_generations), 0)).where(unfinished))
    limit, wanted = engine.open_test_generations, int(open_now or 0) + more
    if wanted > limit:
        raise LimitExceeded(
            f"Test keys of an organization may have {limit} generations open, and with this there would be {wanted}:"
            " ask for fewer, or wait until some have ended. Live keys have no such limit.",
            limit=limit,
            excess=wanted - limit,
        )


@dataclass(frozen=True, kw_only=True)
class Named:
    """A job, and the quote it names, if it does."""

    org_id: str
    job_id: str
    quote_id: str | None


def take_quote(db: Database, credits_service: Credits, engine: Engine, job: Named, *, plan: Plan) -> None:
    """Have a job's quote checked and used up as a live one's would be; a job that is there already has done so.

    It is asked for before the job is written down, and again if that fails: the quote knows its job.

    Raises:
        LimitExceeded: there is no room for the job, which would have used the quote in vain.
        NotFound, QuoteExpired, QuoteUsed, QuoteMismatch: the quote is no good for this job.
        Unavailable: credits did not answer.
    """
    if job.quote_id is None:
        return
    with db.transaction(org_id=job.org_id, livemode=False) as session:
        if session.get(Job, job.job_id) is not None:
            return
        require_room(session, engine, org_id=job.org_id, more=len(plan.generations))
    credits_service.take_test_quote(**asdict(job), fingerprint=plan.fingerprint)


def estimate(credits_service: Credits, job: Named, *, plan: Plan) -> list[dict[str, Any]]:
    """Return what a job would cost a live key, ``[{sku, unit, count, unit_amount, amount}]``: at its quote's prices.

    Raises:
        NotFound, QuoteExpired, QuoteUsed, QuoteMismatch: the quote is no good for this job.
        Unavailable: credits did not answer.
    """
    if job.quote_id:
        answer = credits_service.take_test_quote(**asdict(job), fingerprint=plan.fingerprint, dry_run=True)
    else:
        answer = credits_service.prices(skus=plan.skus)
    names = ("sku", "unit", "count", "unit_amount", "amount")
    return [{name: line[name] for name in names} for line in answer["lines"]]
