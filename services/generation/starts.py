"""What is held for many jobs at once: the usual case, in a few statements however many they are.

Whoever calls has locked the jobs' rows. What is out of the ordinary is left to `holding`, job by job.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.jobs import JOB_ENDS
from services.generation.models import Job

_OPEN = "g.status NOT IN ('succeeded', 'failed')"
_WAITS = "g.sku IS NOT NULL AND g.amount IS NULL"

_NOTE_HELD = sa.text(f"""
UPDATE generations AS g SET amount = held.amount
FROM unnest(CAST(:ids AS text[]), CAST(:amounts AS integer[])) AS held (id, amount)
WHERE g.id = held.id AND g.job_id = ANY (:job_ids) AND {_OPEN} AND {_WAITS}
""")
_MAKE_DUE = sa.text(f"""
UPDATE operations AS o SET
    due_at = CASE WHEN o.analysis_key IS NULL THEN clock_timestamp() END,
    waits_since = CASE WHEN o.analysis_key IS NOT NULL THEN clock_timestamp() END
WHERE o.job_id = ANY (:job_ids) AND o.status = 'queued' AND o.due_at IS NULL AND o.waits_since IS NULL
  AND EXISTS (SELECT FROM generations AS g WHERE g.id = o.generation_id AND {_OPEN} AND NOT ({_WAITS}))
RETURNING o.job_id
""")
_BEGIN = sa.text(f"""
UPDATE jobs AS j SET
    status = CASE WHEN j.id = ANY (:begun) THEN 'queued' ELSE j.status END,
    reserve_after = CASE WHEN w.waits THEN clock_timestamp() END,
    waiting_reason = CASE WHEN w.waits THEN j.waiting_reason END
FROM (
    SELECT id, EXISTS (SELECT FROM generations AS g WHERE g.job_id = asked.id AND {_OPEN} AND {_WAITS}) AS waits
    FROM unnest(CAST(:job_ids AS text[])) AS asked (id)
) AS w
WHERE j.id = w.id
""")
_UNSETTLED = sa.text(f"""
SELECT DISTINCT g.job_id FROM generations AS g
WHERE g.job_id = ANY (:job_ids)
  AND (({_OPEN} AND {_WAITS}) OR (g.status = 'failed' AND coalesce(g.amount, 0) = 0))
""")


def begin_whole(session: Session, held: Mapping[str, Mapping[str, int]]) -> None:
    """Queue jobs that waited for their first hold and have all of it.

    Args:
        session: of the system role; the jobs' rows are locked, and were ``awaiting_credit``.
        held: by job, what is held by line.
    """
    if not held:
        return
    amounts = {line_id: amount for lines in held.values() for line_id, amount in lines.items()}
    job_ids = list(held)
    session.execute(_NOTE_HELD, {"job_ids": job_ids, "ids": list(amounts), "amounts": list(amounts.values())})
    begun = set(session.execute(_MAKE_DUE, {"job_ids": job_ids}).scalars())
    session.execute(_BEGIN, {"job_ids": job_ids, "begun": list(begun)})


def settled(session: Session, jobs: Sequence[Job]) -> set[str]:
    """Return the ids of those open jobs to which no hold of their lines can bring anything new.

    All that has a price is held and known to be, and nothing has failed of which credits might not know.
    """
    maybe = [
        job.id
        for job in jobs
        if job.status not in {"awaiting_credit", "paused", *JOB_ENDS}
        and job.reserve_after is None
        and job.waiting_reason is None
    ]
    if not maybe:
        return set()
    return set(maybe).difference(session.execute(_UNSETTLED, {"job_ids": maybe}).scalars())
