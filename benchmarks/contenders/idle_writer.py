"""Commits single events at random moments, as requests would, each stamped with the time it was written at."""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

import random
import time

from benchmarks import samples
from benchmarks.child import Conversation
from shared.database import Database


def main() -> None:
    """Write as many events as ordered, at the rate ordered, with exponential gaps."""
    talk = Conversation()
    orders = talk.orders()
    database = Database(orders["database_url"], application="idle writer")
    randomness = random.Random(orders["run"])
    org_ids = orders.get("org_ids", [samples.ORGANIZATION])
    events = samples.captured(orders["run"], count=orders["count"], org_ids=org_ids)
    with database.transaction():
        pass  # the connection and its first statement are no part of what is measured
    talk.say("ready")
    talk.wait()
    due = time.monotonic()
    for item in events:
        due += randomness.expovariate(orders["per_second"])
        time.sleep(max(0.0, due - time.monotonic()))
        with database.transaction() as session:
            database.publish(session, [samples.stamped(item, time.monotonic_ns(), padding=orders.get("padding", 0))])
    talk.say("done")
    talk.wait()


if __name__ == "__main__":
    main()
