"""Room for a few long pieces of work at a time, so that slow addresses and large pictures leave the others theirs."""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from shared.off_hub import WORKERS
from shared.problems import Unavailable

IN_ALL = 8
PER_ORGANIZATION = 3
RETRY_SECONDS = 2
# With one at work and these in line, an organization holds at most 6 of the 8 large bodies taken in at once.
IN_LINE = 5
LINE_SECONDS = 20.0
_TOO_MANY = "Too many pictures are being taken in; try again in a moment."


class Turns:
    """Lets ``in_all`` be at work at once, ``per_organization`` of them for one; the next is told to come again."""

    def __init__(self, *, in_all: int = IN_ALL, per_organization: int = PER_ORGANIZATION) -> None:
        self._in_all = in_all
        self._per_organization = per_organization
        self._at_work: Counter[str] = Counter()

    @contextmanager
    def of(self, org_id: str) -> Iterator[None]:
        """Take a turn for the time of the block.

        Raises:
            Unavailable: there is none left.
        """
        if self._at_work[org_id] >= self._per_organization or self._at_work.total() >= self._in_all:
            raise Unavailable(_TOO_MANY, retry_after=RETRY_SECONDS)
        self._at_work[org_id] += 1
        try:
            yield
        finally:
            self._at_work[org_id] -= 1
            if not self._at_work[org_id]:
                del self._at_work[org_id]


class Line:
    """The line before the image workers, or what else is scarce: no organization has all of it, and waits for its own.

    ``places`` are at work at once, ``per_organization`` of them for one. A free place goes to the organization with
    the fewest at work, of these to the one that waits longest; ``in_line`` of one may wait, for at most ``seconds``.
    """

    def __init__(
        self,
        *,
        places: int = WORKERS,
        per_organization: int = max(1, WORKERS - 1),
        in_line: int = IN_LINE,
        seconds: float = LINE_SECONDS,
        refusal: str = _TOO_MANY,
    ) -> None:
        self._places = places
        self._per_organization = per_organization
        self._in_line = in_line
        self._seconds = seconds
        self._refusal = refusal
        self._at_work: Counter[str] = Counter()
        self._waiting: deque[tuple[str, threading.Event]] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def place_of(self, org_id: str, *, seconds: float | None = None) -> Iterator[None]:
        """Wait for a place, ``seconds`` at most where they are given, and keep it for the time of the block.

        Raises:
            Unavailable: too many of the organization wait already, or no place came free in time.
        """
        mine = (org_id, threading.Event())
        self._join(mine)
        try:
            if not mine[1].wait(self._seconds if seconds is None else seconds):
                raise Unavailable(self._refusal, retry_after=RETRY_SECONDS)
            yield
        finally:  # also when the caller is cancelled while it waits
            self._leave(mine)

    def _join(self, mine: tuple[str, threading.Event]) -> None:
        with self._lock:
            self._waiting.append(mine)
            self._call()
            if mine in self._waiting and sum(org_id == mine[0] for org_id, _ in self._waiting) > self._in_line:
                self._waiting.remove(mine)
                raise Unavailable(self._refusal, retry_after=RETRY_SECONDS)

    def _leave(self, mine: tuple[str, threading.Event]) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return
            self._at_work[mine[0]] -= 1
            if not self._at_work[mine[0]]:
                del self._at_work[mine[0]]
            self._call()

    def _call(self) -> None:
        """Give the free places to who is next."""
        while self._at_work.total() < self._places:
            may = [one for one in self._waiting if self._at_work[one[0]] < self._per_organization]
            if not may:
                return
            called = min(may, key=lambda one: self._at_work[one[0]])  # the first of them: it waits longest
            self._waiting.remove(called)
            self._at_work[called[0]] += 1
            called[1].set()
