"""Ours: the scheduler of a worker process as production runs it; with ``alone`` each of its writes goes by itself."""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

from typing import Any

from benchmarks.contenders import one_by_one, slow_worker
from benchmarks.contenders.slow_provider import SlowProvider
from services.generation.engine import Engine
from services.generation.scheduler import Scheduler
from shared.database import Database
from shared.gathering import Gathering
from shared.storage import ObjectStore

CONNECTIONS = 20  # as in production


def make(orders: dict[str, Any], provider: SlowProvider, store: ObjectStore) -> slow_worker.Work:
    """Return the scheduler's loop."""
    if orders["way"] == "alone":
        Gathering.__call__ = one_by_one.alone  # type: ignore[method-assign, assignment]  # as its module says
    scheduler = Scheduler(
        Database(orders["database_url"], application="benchmark worker", pool_size=CONNECTIONS),
        store,
        Engine(providers={provider.name: provider}, routes={}),
        worker=orders["worker"],
        slots=orders["slots"],
        per_organization=orders["per_organization"],
    )
    scheduler.get_ready()
    return scheduler.run


if __name__ == "__main__":
    slow_worker.run(make)
