"""Room for a few long pieces of work at a time, so that slow addresses and large pictures leave the others theirs."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.problems import Unavailable

IN_ALL = 8
PER_ORGANIZATION = 3
RETRY_SECONDS = 2


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
            raise Unavailable("Too many pictures are being taken in; try again in a moment.", retry_after=RETRY_SECONDS)
        self._at_work[org_id] += 1
        try:
            yield
        finally:
            self._at_work[org_id] -= 1
            if not self._at_work[org_id]:
                del self._at_work[org_id]
