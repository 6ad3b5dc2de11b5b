"""What one organization is given apart from all others: more weight when it comes to turns, or limits of its own."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation.models import Share
from shared.problems import BadRequest

MOST_WEIGHT = 1000


@dataclass(frozen=True, kw_only=True)
class Given:
    """An organization's share. Of ``weight`` 2 it has two turns where others have one.

    ``operations_at_work`` and ``open_generations`` are how many of it may be; None: as many as of any other.
    """

    weight: int = 1
    operations_at_work: int | None = None
    open_generations: int | None = None


def give(session: Session, *, org_id: str, share: Given) -> dict[str, Any]:
    """Write an organization's share, in place of what it had; return it. It counts from the next claim on.

    Args:
        session: of the system role.
        org_id: whose it is; nobody here knows whether there is such an organization.
        share: all of it.

    Raises:
        BadRequest: a number is out of its range.
    """
    limits = [limit for limit in (share.operations_at_work, share.open_generations) if limit is not None]
    if not 1 <= share.weight <= MOST_WEIGHT or any(limit < 0 for limit in limits):
        raise BadRequest(f"A weight is a number from 1 to {MOST_WEIGHT}, and a limit 0 or more, or null for the usual.")
    values = asdict(share)
    statement = insert(Share).values(org_id=org_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=[Share.org_id], set_=values))
    return {"org_id": org_id, **values}
