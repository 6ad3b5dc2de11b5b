"""Group commit: calls for the same key that come while one is at work gather, and are then run as one batch.

Nobody waits for company: where nothing is at work a call runs at once. It does not know what it runs.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context, copy_context
from typing import Generic, TypeVar

import structlog

from shared import budget
from shared.database import is_unavailable

log = structlog.get_logger(__name__)

MOST = 100

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")


def taken_apart(run: Callable[[Sequence[T]], Sequence[R | Exception]], items: Sequence[T]) -> list[R | Exception]:
    """Run ``items`` together, and where that raises each alone; return one outcome per item, in order.

    What ``run`` raises undoes all it did, so one bad item fails only itself. Where it raises that the database is
    unavailable, all get that error at once.
    """
    if not items:
        return []
    try:
        return list(run(items))
    except Exception as error:  # noqa: BLE001  handed to the callers
        if len(items) == 1 or is_unavailable(error):
            return [error] * len(items)
        log.warning("batch_taken_apart", items=len(items), error_type=type(error).__name__)
    return [outcome for item in items for outcome in taken_apart(run, [item])]


class Gathering(Generic[K, T, R]):
    """Runs concurrent calls for one key as few: ``gathering(key, item)`` returns the item's own outcome.

    Batches of one key follow one another, batches of different keys do not wait for each other. A call that finds
    nothing at work, and nobody else calling, runs directly, as if there were no gathering; those that come meanwhile
    are run by a thread of their own afterwards. So a caller that gives up, or is killed, takes nobody else's work with
    it; its item may have been done all the same, as with any call that was not answered.

    An item that is alone has its caller's context (correlation id, time budget). Several together have an empty one,
    and as much time as the most patient of their callers: a correlation id they need must be part of the items.

    Args:
        run: gets a key and items in the order of their calls; returns one outcome per item, an exception for one that
            is refused. What it raises undoes all it did: then each item is taken again alone, so that one bad item
            fails only itself. Where it raises that the database is unavailable, all get that error at once.
            It must not call the gathering for the same key.
        most: the size of a batch at most; a larger item goes alone.
        size: how much of that an item takes.
    """

    def __init__(
        self,
        run: Callable[[K, Sequence[T]], Sequence[R | Exception]],
        *,
        most: int = MOST,
        size: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._run = run
        self._most = most
        self._size = size
        self._lock = threading.Lock()
        self._gathered: dict[K, deque[_Call[T, R]]] = {}  # a key is in it while something of it is at work

    def __call__(self, key: K, item: T) -> R:
        """Run ``item``, together with others of its key where some wait already, and return its outcome.

        Raises:
            TimeLimitExceeded: the caller's budget is used up. An item that had not begun is not run.
            Exception: the item's outcome is this exception, or running it raised it.
        """
        budget.remaining_seconds(0)
        call: _Call[T, R] = _Call(item, size=self._size(item))
        with self._lock:
            is_first = key not in self._gathered
            if is_first:
                self._gathered[key] = deque()
            else:
                self._gathered[key].append(call)
        if is_first and self._stays_alone(key, call):
            return self._go_ahead(key, call)
        try:
            return call.outcome()
        finally:
            call.is_over = True

    def _stays_alone(self, key: K, call: "_Call[T, R]") -> bool:
        """Let those join who are calling in this very moment, mostly since one batch before has answered them all.

        Without this the first of them would go alone, and the others only after it. Nobody is waited for: the time it
        takes is that of threads which could run anyway.
        """
        try:
            time.sleep(0)
        except BaseException:  # the caller's time is up, or it was killed: those who joined are not
            self._hand_over(key)
            raise
        with self._lock:
            alone = not self._gathered[key]
            if not alone:
                self._gathered[key].appendleft(call)
        if not alone:
            self._hand_over(key)
        return alone

    def _go_ahead(self, key: K, call: "_Call[T, R]") -> R:
        try:
            (outcome,) = self._outcomes(key, [call])
        finally:
            self._hand_over(key)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _hand_over(self, key: K) -> None:
        """Let a thread work for those who have gathered; without any, the key is no longer at work."""
        with self._lock:
            if not self._gathered[key]:
                del self._gathered[key]
                return
        try:
            threading.Thread(target=self._work, args=(key,), name="gathering", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            with self._lock:
                stranded = self._gathered.pop(key)
            _end(stranded, error)

    def _work(self, key: K) -> None:
        while batch := self._next_batch(key):
            try:
                self._run_batch(key, batch)
            except BaseException as error:  # noqa: BLE001  whatever it is, nobody may be left waiting
                _end(batch, budget.TimeLimitExceeded(f"the work was interrupted: {error!r}"))
            # Those just answered may have more to ask. Without this they would miss the next batch every time, and
            # half of the callers would always wait for the other half (measured: 1.5 times as fast with 16 callers).
            time.sleep(0)

    def _next_batch(self, key: K) -> "list[_Call[T, R]]":
        """Take the calls that came first and fit together; without any, the key is no longer at work."""
        batch: list[_Call[T, R]] = []
        room = self._most
        with self._lock:
            gathered = self._gathered[key]
            while gathered and (gathered[0].is_over or not batch or gathered[0].size <= room):
                call = gathered.popleft()
                if not call.is_over:
                    batch.append(call)
                    room -= call.size
            if not batch:
                del self._gathered[key]
        return batch

    def _run_batch(self, key: K, batch: "list[_Call[T, R]]") -> None:
        if len(batch) == 1:
            self._run_each(key, batch)
            return
        try:
            outcomes = Context().run(self._run_together, key, batch)
        except Exception as error:  # noqa: BLE001  handed to the callers
            if is_unavailable(error):
                _end(batch, error)
                return
            log.warning("batch_taken_apart", items=len(batch), error_type=type(error).__name__)
            self._run_each(key, batch)
            return
        for call, outcome in zip(batch, outcomes, strict=True):
            call.end(outcome)

    def _run_together(self, key: K, batch: "list[_Call[T, R]]") -> Sequence[R | Exception]:
        deadlines = [call.deadline for call in batch if call.deadline is not None]
        if len(deadlines) < len(batch):
            return self._outcomes(key, batch)
        with budget.limited_to(max(deadlines) - time.monotonic()):
            return self._outcomes(key, batch)

    def _run_each(self, key: K, batch: "list[_Call[T, R]]") -> None:
        for place, call in enumerate(batch):
            if call.is_over:
                continue
            try:
                (outcome,) = call.context.run(self._outcomes, key, [call])
            except Exception as error:  # noqa: BLE001  handed to the callers
                if is_unavailable(error) and not call.is_overdue():
                    _end(batch[place:], error)
                    return
                call.end(error)
            else:
                call.end(outcome)

    def _outcomes(self, key: K, batch: "list[_Call[T, R]]") -> Sequence[R | Exception]:
        outcomes = self._run(key, [call.item for call in batch])
        if len(outcomes) != len(batch):
            raise ValueError(f"{len(batch)} items were run, and {len(outcomes)} outcomes came back")
        return outcomes


class _Call(Generic[T, R]):
    """One caller, its item, and how long and in which context it waits for the outcome."""

    def __init__(self, item: T, *, size: int) -> None:
        limit = budget.limit_seconds()
        self.item = item
        self.size = size
        self.deadline = None if limit is None else time.monotonic() + limit
        self.context = copy_context()
        self.is_over = False  # nobody waits any more
        # Held until there is an outcome: of all the standard library has to wait by, this costs least.
        self._waiting = threading.Lock()
        self._waiting.acquire()
        self._has_ended = False

    def is_overdue(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def end(self, outcome: R | Exception) -> None:
        """Let the caller go on; only the first outcome counts."""
        if not self._has_ended:
            self._has_ended = True
            self._outcome = outcome
            self._traceback = outcome.__traceback__ if isinstance(outcome, Exception) else None
            self._waiting.release()

    def outcome(self) -> R:
        if not self._waiting.acquire(
            timeout=-1 if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        ):
            raise budget.TimeLimitExceeded("the time for this request was used up before its batch was done")
        if isinstance(self._outcome, Exception):
            # Many may raise the same error: each with the traceback it came with, not with that of the others.
            raise self._outcome.with_traceback(self._traceback)
        return self._outcome


def _end(calls: Sequence[_Call[T, R]], error: Exception) -> None:
    for call in calls:
        call.end(error)
