"""How much of one organization may be open at a time: what is more is refused before anything is written or held.

Test keys have a limit of their own: see `trials`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.engine import Engine
from services.generation.submissions import Planned
from shared.problems import LimitExceeded, Problem

RETRY_SECONDS = 300
# Below half of a cap as large as this nobody waits for anybody: what is on its way just now does not fill the rest.
_LARGE = 5_000

_LOCK = sa.text("""
SELECT pg_advisory_xact_lock(hashtextextended('queue of ' || org_id, 0))
FROM (SELECT DISTINCT unnest(CAST(:org_ids AS text[])) AS org_id ORDER BY org_id) AS asked
""")
_OPEN = sa.text("""
SELECT asked.org_id, coalesce(shares.open_generations, :most) AS most, (
    SELECT coalesce(sum(j.open_generations), 0) FROM jobs j
    WHERE j.org_id = asked.org_id AND j.livemode AND j.finished_at IS NULL
) AS open
FROM unnest(CAST(:org_ids AS text[])) AS asked (org_id) LEFT JOIN shares ON shares.org_id = asked.org_id
""")
_THERE = sa.text("SELECT id FROM jobs WHERE id = ANY (:job_ids)")


class QueueFull(Problem):
    """So much of the organization is open that there is no room for more; nothing was taken in."""

    status = 503
    code = "queue_full"
    title = "System busy, try again in 5 minutes"
    remedy = "Send the same request again after `Retry-After` seconds, or wait until some of your jobs have ended."
    retryable = True


def refusals(session: Session, engine: Engine, several: Sequence[Planned]) -> dict[str, Problem]:
    """Return why jobs of live keys cannot be taken in, by job; a job that is there already always can.

    Jobs of one organization wait for each other here until the transaction ends, where it comes near its cap.

    Args:
        session: of the system role, in which the others are taken in.
        engine: its ``open_generations`` is the cap of every organization that has none of its own.
        several: in the order in which they are to have what room there is.

    Returns:
        ``QueueFull``, or ``LimitExceeded`` where a job is larger than the cap.
    """
    by_organization = defaultdict(list)
    for each in several:
        by_organization[each.asked.org_id].append(each)
    near = _near_their_cap(_open(session, engine, by_organization), by_organization)
    if not near:
        return {}
    session.execute(_LOCK, {"org_ids": sorted(near)})
    # Whoever held the lock before has been committed: only now is seen what it took in.
    counted = _open(session, engine, near)
    waiting = [each for org_id in near for each in by_organization[org_id]]
    there = set(session.execute(_THERE, {"job_ids": [each.asked.job_id for each in waiting]}).scalars())
    refused: dict[str, Problem] = {}
    for org_id in near:
        new = [each for each in by_organization[org_id] if each.asked.job_id not in there]
        refused |= _without_room(new, counted[org_id])
    return refused


def _open(session: Session, engine: Engine, org_ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return how many generations are open of each organization, and how many may be."""
    found = session.execute(_OPEN, {"org_ids": sorted(org_ids), "most": engine.open_generations})
    return {org_id: (int(is_open), most) for org_id, most, is_open in found}


def _near_their_cap(
    counted: Mapping[str, tuple[int, int]], by_organization: Mapping[str, Sequence[Planned]]
) -> list[str]:
    wanted = Counter({org_id: sum(map(_size, several)) for org_id, several in by_organization.items()})
    return [
        org_id for org_id, (is_open, most) in counted.items() if most < _LARGE or is_open + wanted[org_id] > most // 2
    ]


def _without_room(new: Sequence[Planned], counted: tuple[int, int]) -> dict[str, Problem]:
    is_open, most = counted
    refused: dict[str, Problem] = {}
    for each in new:
        size = _size(each)
        if size > most:
            refused[each.asked.job_id] = LimitExceeded(
                f"An organization may have {most} generations open, and this is {size} at once: ask for fewer.",
                limit=most,
                excess=size - most,
            )
        elif is_open + size > most:
            refused[each.asked.job_id] = QueueFull(
                f"{is_open} of your generations are open and {most} may be: there is no room for {size} more now.",
                retry_after=RETRY_SECONDS,
                limit=most,
                excess=is_open + size - most,
            )
        else:
            is_open += size
    return refused


def _size(each: Planned) -> int:
    return len(each.generations)
