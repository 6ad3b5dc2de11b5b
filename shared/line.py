"""A line before what is scarce: a few are at work at once, and nobody has all places or waits for somebody else's."""

import itertools
import threading
from collections import Counter, OrderedDict
from types import TracebackType
from typing import Self

from shared.problems import Unavailable

RETRY_SECONDS = 2


class Line:
    """``places`` are at work at once, ``of_one`` of them for one organization, or for whatever else they are shared by.

    A free place goes to the one with the fewest at work, of these to the one that waits longest; ``in_line`` of one may
    wait, for at most ``seconds``. ``refusal`` tells the others why they have to come again.
    """

    def __init__(self, *, places: int, of_one: int, in_line: int, seconds: float, refusal: str) -> None:
        self._places = places
        self._of_one = of_one
        self._in_line = in_line
        self._seconds = seconds
        self._refusal = refusal
        self._at_work: Counter[str] = Counter()
        self._waiting: dict[str, OrderedDict[Place, int]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def place_of(self, whose: str, *, seconds: float | None = None) -> "Place":
        """Return a place that is waited for, ``seconds`` at most where they are given."""
        return Place(self, whose, self._seconds if seconds is None else seconds)

    def join(self, place: "Place") -> None:
        """Let a place be waited for.

        Raises:
            Unavailable: too many of the same one wait already.
        """
        with self._lock:
            mine = self._waiting.setdefault(place.whose, OrderedDict())
            mine[place] = next(self._numbers)
            self._call()
            if place in mine and len(mine) > self._in_line:
                self._forget(place)
                raise self.refused()

    def leave(self, place: "Place") -> None:
        """Give a place back, or wait for it no longer."""
        with self._lock:
            if not place.called:
                self._forget(place)
                return
            self._at_work[place.whose] -= 1
            if not self._at_work[place.whose]:
                del self._at_work[place.whose]
            self._call()

    def refused(self) -> Unavailable:
        """Return what who gets no place is told."""
        return Unavailable(self._refusal, retry_after=RETRY_SECONDS)

    def _call(self) -> None:
        """Give the free places to who is next."""
        while self._at_work.total() < self._places:
            may = [whose for whose in self._waiting if self._at_work[whose] < self._of_one]
            if not may:
                return
            whose = min(may, key=lambda one: (self._at_work[one], next(iter(self._waiting[one].values()))))
            place = next(iter(self._waiting[whose]))
            self._forget(place)
            self._at_work[whose] += 1
            place.call()

    def _forget(self, place: "Place") -> None:
        mine = self._waiting[place.whose]
        del mine[place]
        if not mine:
            del self._waiting[place.whose]


class Place:
    """One's place in a line: waited for as the block begins, kept until it ends."""

    def __init__(self, line: Line, whose: str, seconds: float) -> None:
        self.whose = whose
        self.called = False
        self._line = line
        self._seconds = seconds
        self._news = threading.Event()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def take(self) -> None:
        """Wait for the place; who has it has to leave it.

        Raises:
            Unavailable: too many wait already, it did not come free in time, or it was given up.
        """
        self._line.join(self)
        try:
            self._news.wait(self._seconds)
        except BaseException:  # the caller is cancelled, maybe with the place free by now
            self.leave()
            raise
        if not self.called:
            self.leave()
            raise self._line.refused()

    def leave(self) -> None:
        """Let the next have it; any thread may do so."""
        self._line.leave(self)

    def call(self) -> None:
        """Say that it is free now; for the line."""
        self.called = True
        self._news.set()

    def give_up(self) -> None:
        """Wait no longer; changes nothing for who has the place already."""
        self._news.set()
