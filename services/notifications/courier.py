"""Keeps deliveries under way: claims as many as there is room for, works on each in a thread, waits to be woken.

What is delivered, and how it is claimed and recorded, is told by whoever makes one. Threads are green in our processes.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import structlog

from shared.database import Database, is_unavailable, wait_for_notify

log = structlog.get_logger(__name__)
T = TypeVar("T")
R = TypeVar("R")

IDLE_POLL_SECONDS = 0.5
BUSY_POLL_SECONDS = 0.02
RETRY_SECONDS = 0.5
PATIENCE_SECONDS = 30.0


class Courier(Generic[T]):
    """Works on up to ``slots`` things at a time until told to stop, then lets those end.

    Args:
        db: whose ``channel`` wakes it.
        channel: notified when something new is due.
        slots: how many at a time.
        claim: gets how many there is room for, and those under way; returns what it claimed.
        work: does one, from call to record.
    """

    def __init__(
        self,
        db: Database,
        *,
        channel: str,
        slots: int,
        claim: Callable[[int, Sequence[T]], Sequence[T]],
        work: Callable[[T], None],
    ) -> None:
        self._db = db
        self._channel = channel
        self._slots = slots
        self._claim = claim
        self._work = work
        self._held: dict[int, T] = {}
        self._slot_freed = threading.Event()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until ``stopping()``; a database that is away is waited for."""
        with ThreadPoolExecutor(max_workers=self._slots, thread_name_prefix=self._channel) as pool:
            while not stopping():
                with self._patience(), contextlib.closing(self._db.connect()) as listener:
                    listener.autocommit = True
                    with listener.cursor() as cursor:
                        cursor.execute(f"LISTEN {self._channel}")
                    while not stopping():
                        if not self._fill(pool):
                            self._rest(listener)

    def _rest(self, listener: Any) -> None:
        """Wait until something new is due, or something under way has ended: what it held back may go now."""
        until = time.monotonic() + IDLE_POLL_SECONDS
        while not self._slot_freed.is_set() and (left := until - time.monotonic()) > 0:
            if wait_for_notify(listener, seconds=min(left, BUSY_POLL_SECONDS) if self._held else left):
                return

    def _fill(self, pool: ThreadPoolExecutor) -> bool:
        """Claim as much as there is room for and set it to work; return False if nothing was due."""
        self._slot_freed.clear()
        free = self._slots - len(self._held)
        if free <= 0:
            self._slot_freed.wait(IDLE_POLL_SECONDS)
            return True
        claimed = self._claim(free, list(self._held.values()))
        for item in claimed:
            self._held[id(item)] = item
            pool.submit(self._do, item)
        return bool(claimed)

    def _do(self, item: T) -> None:
        try:
            self._work(item)
        except Exception:
            # The claim will run out and somebody take it again: the one path for everything unforeseen.
            log.exception("delivery_abandoned", channel=self._channel)
        finally:
            self._held.pop(id(item), None)
            self._slot_freed.set()

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Let nothing end the courier: say what went wrong, wait a moment, go on."""
        try:
            yield
        except Exception as error:
            if is_unavailable(error):
                log.warning("courier_waits", channel=self._channel, error_type=type(error).__name__)
            else:
                log.exception("courier_stumbled", channel=self._channel)
            time.sleep(RETRY_SECONDS)


def insist(write: Callable[[], R], *, seconds: float = PATIENCE_SECONDS) -> R:
    """Repeat a write while the database is away, for ``seconds`` at most: then the claim ends, and it is done again."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            return write()
        except Exception as error:
            if not is_unavailable(error) or time.monotonic() >= give_up_at:
                raise
            log.warning("record_postponed", error_type=type(error).__name__)
            time.sleep(RETRY_SECONDS)
