"""Print the events of a running Darkroom: what another system does to take part.

python examples/subscriber.py                                  all events, until Ctrl-C
python examples/subscriber.py --count 5 JobFinished            five events of one type

The broker's address is taken from AMQP_URL; `make up` writes it to .local/env.
"""
# ruff: noqa: INP001  a program to copy from, not a package

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs without an installation

from shared.subscriber import Subscriber


def main() -> None:
    """Print one line an event."""
    parser = argparse.ArgumentParser(description="Print the events of a running Darkroom.")
    parser.add_argument("types", nargs="*", help="event types, e.g. JobFinished; none stands for all")
    parser.add_argument("--name", default="example", help="name of the subscription: its queue keeps what you miss")
    parser.add_argument("--count", type=int, help="end after so many events")
    asked = parser.parse_args()

    subscriber = Subscriber(os.environ["AMQP_URL"], name=asked.name, types=asked.types or None)
    for number, event in enumerate(subscriber, start=1):
        sys.stdout.write(f"{event}\n")
        sys.stdout.flush()
        if number == asked.count:
            subscriber.stop()  # not break: the event in hand would not be acknowledged, and come again


if __name__ == "__main__":
    main()
