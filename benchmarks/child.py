"""A contender's side of the talk with the process that measures it: orders as one JSON line, then `go`, then its end.

Standard output belongs to this talk; what the contender prints or logs goes to its log file.
"""

import json
import os
import select
import sys
from typing import Any


class Conversation:
    """The talk over standard input and output; see `benchmarks.children` for the other side."""

    def __init__(self) -> None:
        # Unbuffered: a buffered reader would swallow `go` together with the orders.
        self._heard = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  lives as long as we do
        self._said = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        sys.stdout = sys.stderr

    def orders(self) -> dict[str, Any]:
        """Return the addresses and numbers this contender is to work with."""
        orders: dict[str, Any] = json.loads(self._heard.readline())
        return orders

    def say(self, word: str) -> None:
        """Tell the other side that we are `ready` or `done`."""
        self._said.write(f"{word}\n")
        self._said.flush()

    def is_over(self, seconds: float) -> bool:
        """Wait for ``seconds`` and tell whether the other side has spoken or gone meanwhile."""
        readable, _, _ = select.select([self._heard], [], [], seconds)
        return bool(readable)

    def wait(self) -> str:
        """Wait for the next word; an empty one means that the other side is gone or wants us to end."""
        return self._heard.readline().decode().strip()
