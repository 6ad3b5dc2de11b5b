"""Clients that follow streams of events together: one thread, raw sockets, `select.epoll`."""

import contextlib
import random
import resource
import select
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.audit import AuditFailed
from benchmarks.follower import OPEN_SECONDS, Follower

_FILES = 4_096
_AT_ONCE = 50
_RETRY_SECONDS = 5.0
_LONGEST_SECONDS = 20.0


class Crowd:
    """All clients, and how long each is to wait before it comes back."""

    def __init__(self, port: int, followers: Sequence[Follower]) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most) if most > 0 else _FILES, most))
        self.followers = followers
        self._port = port
        self._poll = select.epoll()
        self._by_number: dict[int, Follower] = {}
        self._randomness = random.Random(7)

    def open(self) -> None:
        """Open every stream, some at a time, and wait until each has begun."""
        for first in range(0, len(self.followers), _AT_ONCE):
            some = self.followers[first : first + _AT_ONCE]
            for follower in some:
                self._open(follower)
            self.listen(partial(_have_begun, some), seconds=OPEN_SECONDS, what=f"streams {first} and after it to begin")
        for follower in self.followers:
            follower.read()

    def listen(self, done: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Keep what comes until ``done()``, which is asked every 50 ms.

        Raises:
            AuditFailed: it is not done after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        asked = 0.0
        while True:
            for number, _ in self._poll.poll(0.05):
                follower = self._by_number[number]
                if not follower.take():
                    self._left(follower, number)
            now = time.monotonic()
            if now - asked >= 0.05:
                asked = now
                self._come_back(now)
                if done():
                    return
            if now > deadline:
                raise AuditFailed(f"not within {seconds:.0f} s: {what}")

    def heard(self) -> int:
        """Return about how many events have come to all of them."""
        return sum(follower.heard for follower in self.followers)

    def close(self) -> None:
        """Leave."""
        for follower in self.followers:
            follower.leave()
        self._poll.close()

    def _open(self, follower: Follower) -> None:
        follower.open(self._port)
        number = follower.number()
        self._by_number[number] = follower
        self._poll.register(number, select.EPOLLIN)

    def _left(self, follower: Follower, number: int) -> None:
        self._poll.unregister(number)
        del self._by_number[number]
        begun = follower.has_begun()
        follower.leave()
        if begun:
            follower.read()
            follower.reconnects += 1
            follower.refused_in_a_row = 0
        self._wait(follower)

    def _come_back(self, now: float) -> None:
        for follower in self.followers:
            if follower.sock is None and follower.again_at <= now:
                try:
                    self._open(follower)
                except OSError:
                    follower.leave()
                    self._wait(follower)

    def _wait(self, follower: Follower) -> None:
        """Let a client wait as the stream's `retry` says, and the longer the more often it was refused."""
        longest = min(_RETRY_SECONDS * 2**follower.refused_in_a_row, _LONGEST_SECONDS)
        follower.again_at = time.monotonic() + self._randomness.uniform(1, longest)


def _have_begun(some: Sequence[Follower]) -> bool:
    return all(follower.has_begun() for follower in some)


@contextlib.contextmanager
def crowd(port: int, followers: Sequence[Follower]) -> Iterator[Crowd]:
    """Open streams, and leave after the block."""
    made = Crowd(port, followers)
    with contextlib.closing(made):
        made.open()
        yield made
