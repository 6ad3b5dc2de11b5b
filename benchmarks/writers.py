"""Writers that hold credits side by side, each one after the other, under the orders of the benchmark.

The threads are green where the program made its process green, and plain ones otherwise.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.child import Conversation
from shared.ids import new_id

WARM_UP_HOLDS = 10  # by each writer: its connection is open, its statements are prepared
DEADLINE = "2099-01-01T00:00:00Z"
SKU = "staging.variant"
AMOUNT = 10  # what the price book says of it


class WriterFailed(Exception):
    """A hold was refused or broke; the cause says why."""


def work(connect: Callable[[dict[str, Any]], Callable[[str, list[str]], None]]) -> None:
    """Warm up, then hold ``count`` times from `go` on with as many writers as ordered.

    Args:
        connect: makes of the orders a function that holds ``(org_id, line_ids)`` for a new job and returns when that
            is committed.
    """
    talk = Conversation()
    orders = talk.orders()
    hold = connect(orders)
    lines = orders["lines"]
    _spread(
        [lambda _: hold(orders["warm_up_org_id"], new_lines(lines))] * orders["writers"],
        range(WARM_UP_HOLDS * orders["writers"]),
    )
    batches = [new_lines(lines) for _ in range(orders["count"])]
    talk.say("ready")
    talk.wait()
    _spread([lambda number: hold(orders["org_id"], batches[number])] * orders["writers"], range(orders["count"]))
    talk.say("done")
    talk.wait()


def new_lines(count: int) -> list[str]:
    """Return the ids of so many new lines."""
    return [new_id("gen") for _ in range(count)]


def _spread(writers: list[Callable[[int], None]], numbers: Iterable[int]) -> None:
    """Give the numbers out in turn, each writer's one after the other; end when all are done."""
    failures: list[Exception] = []

    def write(write_one: Callable[[int], None], share: Iterable[int]) -> None:
        try:
            for number in share:
                write_one(number)
        except Exception as error:  # noqa: BLE001  raised below, in the thread that ends the program
            failures.append(error)

    shares = list(numbers)
    threads = [
        threading.Thread(target=write, args=(writer, shares[place :: len(writers)]))
        for place, writer in enumerate(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise WriterFailed(f"{len(failures)} writers failed") from failures[0]
