"""What the engine counts and measures, by the names of the contract. Decides nothing."""

import sqlalchemy as sa
from prometheus_client import Gauge
from sqlalchemy.orm import Session

from services.generation.jobs import INTERACTIVE, STANDARD, TEST
from services.generation.models import CircuitRow, Job, Operation
from shared.metrics import counter, histogram

LANES = {INTERACTIVE: "interactive", STANDARD: "standard", TEST: "test"}

jobs = counter("darkroom_jobs", "Jobs that ended", ["workflow", "status"])
operations = counter("darkroom_operations", "Provider calls", ["provider", "model", "outcome"])
operations_unknown = counter("darkroom_operations_unknown", "Requests sent whose answer was lost", ["provider"])
operation_seconds = histogram("darkroom_operation_seconds", "Time of a provider's answer", ["provider", "operation"])
provider_cost_usd = counter("darkroom_provider_cost_usd", "What providers charged us", ["provider"])
cache_hits = counter("darkroom_cache_hits", "Analyses that were known, or found out together", ["operation"])
cache_misses = counter("darkroom_cache_misses", "Analyses that were looked up and had to be made", ["operation"])
queue_wait_seconds = histogram("darkroom_queue_wait_seconds", "From due to claimed", ["lane"])
queue_depth = Gauge("darkroom_queue_depth", "Operations that are due", ["lane"])
circuit_open = Gauge("darkroom_circuit_open", "Models whose circuit is open", ["provider"])
jobs_past_deadline = Gauge("darkroom_jobs_past_deadline", "Open jobs past their deadline; paused ones do not count")


def measure(session: Session) -> None:
    """Set the gauges from the database; every worker shows the same."""
    due = dict.fromkeys(LANES, 0)
    statement = (
        sa.select(Operation.lane, sa.func.count())
        .where(Operation.status == "queued", Operation.due_at <= sa.func.clock_timestamp())
        .group_by(Operation.lane)
    )
    due.update(dict(session.execute(statement).all()))
    for lane, count in due.items():
        queue_depth.labels(LANES[lane]).set(count)
    opened = sa.func.count().filter(CircuitRow.state != "closed")
    for provider, count in session.execute(sa.select(CircuitRow.provider, opened).group_by(CircuitRow.provider)):
        circuit_open.labels(provider).set(count)
    overdue = sa.select(sa.func.count()).where(
        Job.finished_at.is_(None), Job.deadline_at < sa.func.clock_timestamp(), Job.status != "paused"
    )
    jobs_past_deadline.set(session.scalar(overdue) or 0)
