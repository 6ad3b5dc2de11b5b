"""A worker whose provider takes operations and is at them for a while; it counts what it asks the database."""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.contenders import engine_worker, slow_worker
from benchmarks.contenders.taking_provider import TakingProvider
from services.generation import asking
from shared.storage import ObjectStore

T = TypeVar("T")
_asked: list[float] = []


def counted(work: Callable[..., T]) -> Callable[..., T]:
    """Return ``work``, which notes when it is done."""

    def noting(*args: Any, **options: Any) -> T:
        _asked.append(time.monotonic())
        return work(*args, **options)

    return noting


def make(orders: dict[str, Any], provider: TakingProvider, store: ObjectStore) -> slow_worker.Work:
    """Return the scheduler's loop; what its poller asks the database is counted."""
    asking.due = counted(asking.due)
    asking.ask_later = counted(asking.ask_later)
    work = engine_worker.make(orders, provider, store)

    def working(stopping: Callable[[], bool]) -> None:
        work(stopping)
        Path(orders["counts"]).write_text(json.dumps({"queries": _asked, "polls": provider.polled}))

    return working


if __name__ == "__main__":
    slow_worker.run(make, provider_class=TakingProvider)
