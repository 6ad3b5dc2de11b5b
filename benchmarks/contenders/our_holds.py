"""Ours: `reserve` of credits as its RPC method calls it, in a green process, with and without gathering.

The two functions below are all that knows how credits is asked.
"""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

from collections.abc import Callable
from typing import Any

from benchmarks import writers
from services.credits import handlers
from shared import budget, logs
from shared.database import Database, is_unavailable
from shared.ids import new_id

CALL_SECONDS = 2.0


def reserve_alone(db: Database, *, org_id: str, **asked: Any) -> None:
    """Hold the lines for a job in a transaction of its own."""
    request = handlers.request_of(org_id=org_id, **asked)
    handlers.hold(
        (db, org_id), [handlers.Asked(request=request, correlation_id=logs.correlation()[0], causation_id=None)]
    )


def reserve_gathered(db: Database, **asked: Any) -> None:
    """Hold the lines for a job together with whoever wants to hold something of the same organization now."""
    handlers.reserve(db, **asked)


_WAYS = {"alone": reserve_alone, "gathered": reserve_gathered}


def connect(orders: dict[str, Any]) -> Callable[[str, list[str]], None]:
    """Return the way to hold that was ordered, with what the RPC server puts around each call."""
    database = Database(orders["database_url"], application="our holds", pool_size=orders["writers"])
    reserve = _WAYS[orders["way"]]

    def hold(org_id: str, line_ids: list[str]) -> None:
        asked = {
            "org_id": org_id,
            "job_id": new_id("job"),
            "deadline_at": writers.DEADLINE,
            "lines": [{"line_id": each, "sku": writers.SKU} for each in line_ids],
        }
        while not is_held(asked):
            pass

    def is_held(asked: dict[str, Any]) -> bool:
        try:
            with budget.limited_to(CALL_SECONDS), logs.bound(correlation_id=new_id("req")):
                reserve(database, **asked)
        except Exception as error:
            if not is_unavailable(error):
                raise
            return False  # as its caller does: the same call again holds nothing twice
        return True

    return hold


if __name__ == "__main__":
    writers.work(connect)
