"""What a job waits for, and how long it will take: one question for a page of jobs, and the rules. Locks nothing.

It asks as the organization does, which sees no other's operations: of those it knows what the last claim wrote down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.jobs import AT_WORK
from services.generation.pace import eta_seconds

_AT_WORK = ", ".join(f"'{status}'" for status in AT_WORK)

_STANDINGS = sa.text(f"""
SELECT j.id AS job_id, coalesce(c.state, 'closed') <> 'closed' AS circuit_open,
       coalesce(c.paused_until > clock_timestamp(), false) OR coalesce(
           l.per_minute IS NOT NULL
           AND l.tokens + l.per_minute / 60.0 * extract(epoch FROM clock_timestamp() - l.refilled_at) < 1, false
       ) AS rate_limited,
       (SELECT count(*) FROM operations w
        WHERE w.org_id = j.org_id AND w.livemode = j.livemode AND w.status IN ({_AT_WORK})) AS at_work,
       CASE WHEN j.livemode THEN coalesce(s.operations_at_work, l.per_organization) ELSE 1 END AS most_of_organization,
       l.at_work AS at_work_of_provider, l.most AS most_of_provider, t.mean_seconds
FROM jobs j
CROSS JOIN LATERAL (
    (SELECT o.provider, o.model_requested, o.name FROM operations o
     WHERE o.org_id = j.org_id AND o.livemode = j.livemode AND o.job_id = j.id
       AND o.status = 'queued' AND o.due_at IS NOT NULL LIMIT 1)
    UNION ALL
    (SELECT o.provider, o.model_requested, o.name FROM operations o
     WHERE o.org_id = j.org_id AND o.job_id = j.id AND o.status IN ({_AT_WORK}) LIMIT 1)
    LIMIT 1
) AS next
LEFT JOIN circuits c ON c.provider = next.provider AND c.model = next.model_requested
LEFT JOIN loads l ON l.provider = next.provider
LEFT JOIN shares s ON s.org_id = j.org_id
LEFT JOIN operation_times t ON t.provider = next.provider AND t.name = next.name
WHERE j.id = ANY (:job_ids)
""")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How it stands about a job's next operation. What nobody has measured or claimed yet is None.

    ``at_work`` are the operations of its organization (and mode) that are at work, at most ``most_of_organization``.
    """

    job_id: str
    circuit_open: bool = False
    rate_limited: bool = False
    at_work: int = 0
    most_of_organization: int | None = None
    at_work_of_provider: int | None = None
    most_of_provider: int | None = None
    mean_seconds: float | None = None


def of(session: Session, job_ids: Sequence[str]) -> dict[str, Standing]:
    """Return how it stands about jobs, by id; those with nothing that is due or at work are left out."""
    if not job_ids:
        return {}
    return {row["job_id"]: Standing(**row) for row in session.execute(_STANDINGS, {"job_ids": job_ids}).mappings()}


def waiting_reason(standing: Standing, *, ahead: int) -> str:
    """Return what a job's next operation waits for; ``ahead`` is how many of its organization's are due before it."""
    if standing.circuit_open:
        return "circuit_open"
    if standing.rate_limited:
        return "rate_limit"
    if _is_full(standing.at_work, standing.most_of_organization):
        return "organization_limit"
    if _is_full(standing.at_work_of_provider, standing.most_of_provider):
        return "provider_limit"
    return "behind_others" if ahead else "free_worker"


def eta(standing: Standing, *, ahead: int, remaining: int) -> int | None:
    """Return in how many seconds the ``remaining`` operations will have ended; None where nothing was measured yet."""
    if standing.mean_seconds is None:
        return None
    limits = [most for most in (standing.most_of_organization, standing.most_of_provider) if most]
    return eta_seconds(standing.mean_seconds, ahead=ahead, remaining=remaining, at_once=min(limits, default=1))


def _is_full(at_work: int | None, most: int | None) -> bool:
    return at_work is not None and most is not None and at_work >= most
