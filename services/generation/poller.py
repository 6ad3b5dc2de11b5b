"""Asking providers for what they have taken: any worker asks for any operation, and none is held while nobody asks.

A webhook is only a hint to ask now; without one the result is found all the same.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from services.generation import asking, calls, metrics, recording
from services.generation.asking import Due
from services.generation.engine import Engine
from services.generation.observing import Observer
from services.generation.operations import (
    Absent,
    Found,
    GiveUp,
    Lost,
    Outcome,
    Progress,
    Refused,
    Running,
    Spent,
    Submitted,
    next_poll_seconds,
    spent,
)
from services.generation.providers import Asynchronous, Provider
from services.generation.settling import Settlement
from services.generation.writes import AskingLater, Writes
from shared import logs
from shared.crash import crash_point
from shared.database import Database, is_unavailable

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.25
RETRY_SECONDS = 0.5
# Where many are asked for, places become free one by one: so that a claim fills several.
_BETWEEN_SECONDS = 0.01
# A batch and half of all places together leave some for others, whoever hangs.
_BATCH = 24
# How long after its time limit a provider is asked for what it did after all, and billed.
WIND_UP_SECONDS = 600.0
# A provider without a key any more, or one that cannot be searched yet, is given this long.
_PATIENCE_SECONDS = 240.0


class Poller:
    """Asks for whatever is due, up to ``at_once`` of it, until told to stop."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        settlement: Settlement,
        *,
        worker: str,
        at_once: int = 64,
        writes: Writes | None = None,
    ) -> None:
        self._db = db
        self._engine = engine
        self._settlement = settlement
        self._observer = Observer(db)
        self._writes = writes or Writes(db, engine)
        self._worker = worker
        self._at_once = at_once
        self._asking: Counter[str] = Counter()
        self._count = threading.Lock()
        self._one_is_done = threading.Event()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Ask until ``stopping()``; a database that is away is waited for."""
        with ThreadPoolExecutor(max_workers=self._at_once, thread_name_prefix="poll") as pool:
            while not stopping():
                with self._patience():
                    self._ask_for_due(pool)

    def _ask_for_due(self, pool: ThreadPoolExecutor) -> None:
        free = min(_BATCH, self._at_once - self._asking.total())
        if free <= 0:
            self._one_is_done.clear()
            self._one_is_done.wait(IDLE_SECONDS)
            return
        with self._db.transaction() as session:
            due = asking.due(session, worker=self._worker, most=free, left_alone=self._slow())
        for each in due:
            with self._count:
                self._asking[each.item.provider] += 1
            pool.submit(self._follow, each)
        time.sleep(IDLE_SECONDS if len(due) < free else _BETWEEN_SECONDS)

    def _slow(self) -> list[str]:
        """Return the providers that have enough to answer: one that hangs must not keep the others from being asked."""
        with self._count:
            return [name for name, count in self._asking.items() if count >= self._at_once // 2]

    def _follow(self, due: Due) -> None:
        try:
            with logs.bound(operation_id=due.item.id, job_id=due.item.job_id):
                self.follow(due)
        except Exception:
            # Its claim runs out, and somebody asks again.
            log.exception("poll_abandoned", operation_id=due.item.id)
        finally:
            self._settlement.release(due.item)
            with self._count:
                self._asking[due.item.provider] -= 1
            self._one_is_done.set()

    def follow(self, due: Due) -> None:
        """Ask for one operation, and do what follows."""
        provider = self._engine.providers.get(due.item.provider)
        if due.is_over:
            self._wind_up(due, provider)
        elif due.external_id is None:
            self._look_for(due, provider)
        elif not isinstance(provider, Asynchronous):
            self._wait_for_provider(due)
        else:
            self._ask(due, provider, due.external_id)

    def _ask(self, due: Due, provider: Asynchronous, external_id: str) -> None:
        progress = _polled(provider, external_id)
        crash_point("poller.after_poll")
        if not isinstance(progress, Running):
            self._count_answer(due, provider, progress)
            self._settlement.settle(due.item, progress, tries=due.tries, taken=True, seconds=due.age_seconds)
        elif due.age_seconds > provider.time_limit_seconds:
            limit = f"no result within {provider.time_limit_seconds:g} s"
            never = Refused(code="provider_timeout", detail=limit, ran=True)
            self._count_answer(due, provider, never)
            self._observer.note(due.item, never)
            self._give_up(due, GiveUp(code="provider_timeout", detail=limit))
        else:
            self._ask_later(due, provider, progress)

    def _count_answer(self, due: Due, provider: Provider, outcome: Outcome) -> None:
        what = type(outcome).__name__
        log.info("provider_answered", provider=provider.name, outcome=what, seconds=round(due.age_seconds, 3))
        metrics.operation_seconds.labels(provider.name, due.item.name).observe(due.age_seconds)
        metrics.operations.labels(provider.name, due.item.model_requested, what.lower()).inc()

    def _ask_later(self, due: Due, provider: Provider, progress: Running) -> None:
        wait = next_poll_seconds(
            due.age_seconds,
            time_limit_seconds=provider.time_limit_seconds,
            wished_seconds=progress.poll_after_seconds,
            calls_back=due.calls_back,
        )
        self._writes.ask_later(AskingLater(due=due, progress=progress, after_seconds=wait))

    def _look_for(self, due: Due, provider: Provider | None) -> None:
        """Look for an operation that was sent and never answered; where that cannot be done, its time is up."""
        if not isinstance(provider, Asynchronous) or provider.after_lost_answer != "lookup":
            self._give_up(due, GiveUp(code="outcome_unknown", detail="the answer was lost, and its time has passed"))
            return
        found = self._found(provider, due)
        if isinstance(found, Submitted):
            log.info("lost_operation_found", provider=provider.name)
            with self._db.transaction() as session:
                asking.adopt(session, due, external_id=found.external_id)
        elif isinstance(found, Absent):
            self._settlement.settle(
                due.item, Refused(code="connect_failed", detail=found.detail), tries=due.tries, taken=True
            )
        elif due.age_seconds > max(provider.time_limit_seconds, _PATIENCE_SECONDS):
            self._give_up(due, GiveUp(code="outcome_unknown", detail=found.detail))
        else:
            self._later(due, seconds=next_poll_seconds(due.age_seconds, time_limit_seconds=_PATIENCE_SECONDS))

    def _found(self, provider: Asynchronous, due: Due) -> Found:
        """Return what the provider has of this attempt; what an earlier one left there does not count."""
        try:
            found = provider.find(due.item.id, sent_at=due.sent_at)
        except Exception as error:
            log.exception("search_broke", provider=provider.name)
            return Lost(detail=type(error).__name__)
        if isinstance(found, Submitted):
            with self._db.transaction() as session:
                if asking.is_of_earlier_attempt(session, due.item, external_id=found.external_id):
                    return Absent(detail="there is only what an earlier attempt led to")
        return found

    def _wind_up(self, due: Due, provider: Provider | None) -> None:
        """Stop at the provider what nobody waits for any more, and find out what it cost."""
        if not isinstance(provider, Asynchronous) or due.age_seconds > provider.time_limit_seconds + WIND_UP_SECONDS:
            log.warning("operation_left_at_provider", provider=due.item.provider, external_id=due.external_id)
            self._let_go(due)
        elif due.external_id is None:
            self._wind_up_unknown(due, provider)
        else:
            if not due.cancel_sent:
                self._cancel_there(due, provider, due.external_id)
            progress = _polled(provider, due.external_id)
            if isinstance(progress, Running):
                self._ask_later(due, provider, progress)
            else:
                code = progress.code if isinstance(progress, Refused) else None
                with self._db.transaction() as session:
                    recording.note_late(session, due.item, spent(progress), code=code)
                self._let_go(due)

    def _wind_up_unknown(self, due: Due, provider: Asynchronous) -> None:
        found = self._found(provider, due)
        if isinstance(found, Submitted):
            with self._db.transaction() as session:
                asking.adopt(session, due, external_id=found.external_id)
        elif isinstance(found, Absent) or due.age_seconds > max(provider.time_limit_seconds, _PATIENCE_SECONDS):
            self._let_go(due)
        else:
            self._later(due, seconds=next_poll_seconds(due.age_seconds, time_limit_seconds=_PATIENCE_SECONDS))

    def _cancel_there(self, due: Due, provider: Asynchronous, external_id: str) -> None:
        """Ask the provider to stop; what keeps it from that is no reason to ask again for ever."""
        try:
            took = provider.cancel(external_id)
        except Exception:
            log.exception("cancel_broke", provider=provider.name)
            took = False
        log.info("cancelled_at_provider", provider=provider.name, took=took)
        with self._db.transaction() as session:
            asking.cancelled_there(session, due)

    def _wait_for_provider(self, due: Due) -> None:
        """Wait for a provider whose key is not here (another worker may have it), but not for ever."""
        if due.age_seconds > WIND_UP_SECONDS:
            self._give_up(due, GiveUp(code="outcome_unknown", detail=f"nobody can ask {due.item.provider}"))
        else:
            self._later(due, seconds=5.0)

    def _give_up(self, due: Due, decision: GiveUp) -> None:
        """End it here; what may still run at the provider is cancelled there, and what that cost found out."""
        with self._db.transaction() as session:
            runs_on = due.external_id is not None
            self._db.publish(session, recording.failure(session, due.item, decision=decision, runs_on=runs_on))

    def _later(self, due: Due, *, seconds: float) -> None:
        with self._db.transaction() as session:
            asking.leave_for(session, due, seconds=seconds)

    def _let_go(self, due: Due) -> None:
        with self._db.transaction() as session:
            asking.let_go(session, due)
            calls.end_attempt(session, due.item, status="late", spent=Spent(), code="outcome_unknown")

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Let nothing end the asking: say what went wrong, wait a moment, go on."""
        try:
            yield
        except Exception as error:
            if is_unavailable(error):
                log.warning("poller_waits", error_type=type(error).__name__)
            else:
                log.exception("poller_stumbled")
            time.sleep(RETRY_SECONDS)


def _polled(provider: Asynchronous, external_id: str) -> Progress:
    """Return what the provider says; an adapter that breaks has said nothing."""
    try:
        return provider.poll(external_id)
    except Exception:
        log.exception("poll_broke", provider=provider.name)
        return Running(phase="running")
