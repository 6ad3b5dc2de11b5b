"""Planning with what is known already: what has its analyses costs nothing, or less, from the beginning."""

from datetime import timedelta
from functools import partial

from services.generation import known_analyses, planning
from services.generation.engine import Engine
from services.generation.planning import Plan
from services.generation.submissions import Submission
from services.generation.workflows import PlannedOperation
from shared.database import Database

# What a plan counts on must still be known when its operations are due, a minute later at most.
_KNOWN_FOR_LONGER = timedelta(hours=1)


def plan(db: Database, engine: Engine, asked: Submission) -> Plan:
    """Return what a submission comes to, in the light of what is known for its organization and mode.

    Raises:
        NotFound, BadRequest, LimitExceeded, Unavailable: as `planning.plan` and `planning.part`.
    """
    about = partial(planning.plan, engine, workflow_name=asked.workflow, inputs=asked.inputs, assets=asked.assets)
    whole = planning.part(engine, about(), only=asked.only, out_of=asked.out_of)
    digests = planning.digests_of(asked.assets)
    keys = {
        key
        for item in whole.generations
        for operation in item.operations
        if (key := planning.looked_up(engine, operation, digests))
    }
    if asked.fresh or not keys:
        return whole
    with db.transaction(org_id=asked.org_id, livemode=asked.livemode) as session:
        known = known_analyses.among(
            session,
            org_id=asked.org_id,
            livemode=asked.livemode,
            keys=keys,
            kept=engine.analyses_kept - _KNOWN_FOR_LONGER,
        )
    if not known:
        return whole

    def cached(operation: PlannedOperation) -> bool:
        return planning.looked_up(engine, operation, digests) in known

    return planning.part(engine, about(cached=cached), only=asked.only, out_of=asked.out_of)
