"""Room for a few long pieces of work at a time, so that slow addresses and large pictures leave the others theirs."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.line import RETRY_SECONDS, Line
from shared.off_hub import WORKERS
from shared.problems import Unavailable

IN_ALL = 8
PER_ORGANIZATION = 3
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


def image_line(*, in_line: int = IN_LINE, seconds: float = LINE_SECONDS) -> Line:
    """Return the line before the image workers."""
    return Line(places=WORKERS, of_one=max(1, WORKERS - 1), in_line=in_line, seconds=seconds, refusal=_TOO_MANY)
