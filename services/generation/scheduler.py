"""The worker: claims due operations and sends them to their providers. Rows, never deliveries.

What a provider answers at once is settled at once; what it takes is let go of, and asked for by the poller.

It uses the standard library's threads, which are green in our processes; the host is none of its business.
"""

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from services.generation import adopting, asking, calls, claims, metrics, recording
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.holding import OPERATIONS_CHANNEL
from services.generation.operations import Refused, Submission, Submitted, next_poll_seconds
from services.generation.poller import Poller
from services.generation.providers import Asynchronous, Request
from services.generation.settling import Settlement
from services.generation.writes import Sending, Taking, Writes
from shared import logs, prepared
from shared.crash import crash_point
from shared.database import Database, is_unavailable, wait_for_notify
from shared.storage import ObjectMissing, ObjectStore, StorageUnavailable

log = structlog.get_logger(__name__)

IDLE_POLL_SECONDS = 0.5
# A claim may bring fewer than there is room for although more are due; the places of those that end are filled at once.
NEXT_CLAIM_SECONDS = 0.02
# Answers come one by one: a claim for each would cost more than all else.
BETWEEN_CLAIMS_SECONDS = 0.01
# So much at a time, that the other workers get their share of what a provider has room for.
CLAIMED_AT_MOST = 50
# An organization that has more at work here waits in a line with others like it. And what has just become due is looked
# for with a claim of so few, which is short, and for which there is room though all else is taken.
FEW = 8
# As many as are in use at a time.
WARM_CONNECTIONS = 8
RETRY_SECONDS = 0.5
# Between writing down that a request goes out and sending it; less than the lease that begins with the former.
SEND_WITHIN_SECONDS = claims.LEASE_SECONDS / 2


class Scheduler:
    """Keeps up to ``slots`` operations at work until told to stop, then lets them end."""

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        engine: Engine,
        *,
        worker: str,
        slots: int,
        per_organization: int,
    ) -> None:
        self._db = db
        self._objects = store
        self._engine = engine
        self._worker = worker
        self._slots = slots
        self._per_organization = per_organization
        self._limits = {name: provider.concurrency for name, provider in engine.providers.items()}
        self._rates = {name: provider.requests_per_minute for name, provider in engine.providers.items()}
        self._held: dict[str, Claimed] = {}
        self._answered: dict[str, Claimed] = {}
        # There may be room for another operation; and: something has become due.
        self._room = threading.Event()
        self._due = threading.Event()
        self._writes = Writes(db, engine)
        self._settlement = Settlement(
            db,
            store,
            engine,
            held=self._held,
            writes=self._writes,
            answered=self._answered,
            has_answered=self._room.set,
        )
        self._poller = Poller(db, engine, self._settlement, worker=worker, writes=self._writes)

    def get_ready(self) -> None:
        """Have the database know all statements before there is work: the first operations would wait for that."""
        with self._patience("getting ready"):
            modules = (adopting, asking, calls, claims, recording)
            prepared.warm(self._db, *modules, connections=WARM_CONNECTIONS)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until ``stopping()``; a database that is away is waited for."""
        with ThreadPoolExecutor(max_workers=self._slots + FEW + 3, thread_name_prefix="operation") as pool:
            pool.submit(self._keep_leases, stopping)
            pool.submit(self._poller.run, stopping)
            pool.submit(self._listen, stopping)
            while not stopping():
                with self._patience("claiming"):
                    self._room.clear()
                    is_new = self._due.is_set()
                    self._due.clear()
                    began = time.monotonic()
                    wait_seconds = self._fill(pool, is_new=is_new)
                    # Claims of all workers come one after the other. Whoever has claimed leaves the others as much
                    # time, and claims more at once then; but nobody who has just come waits for that.
                    took = time.monotonic() - began
                    self._due.wait(min(max(took, BETWEEN_CLAIMS_SECONDS), NEXT_CLAIM_SECONDS))
                    self._room.wait(wait_seconds)

    def _listen(self, stopping: Callable[[], bool]) -> None:
        """Have claimed what becomes due, as soon as it does."""
        while not stopping():
            with self._patience("listening"), contextlib.closing(self._db.connect()) as listener:
                listener.autocommit = True
                with listener.cursor() as cursor:
                    cursor.execute(f"LISTEN {OPERATIONS_CHANNEL}")
                while not stopping():
                    if wait_for_notify(listener, seconds=IDLE_POLL_SECONDS):
                        self._room.set()
                        self._due.set()

    def _fill(self, pool: ThreadPoolExecutor, *, is_new: bool) -> float:
        """Claim as much as there is room for and set it to work; return how long to wait at most before the next.

        ``is_new``: something has become due just now.
        """
        slots, most = (self._slots + FEW, FEW) if is_new else (self._slots, CLAIMED_AT_MOST)
        free = min(slots - len(self._held), most)
        claimed = self._claim(free) if free > 0 else []
        # Whoever has little at work goes first, and does not wait for the many of another to be written down.
        at_work = Counter(item.org_id for item in [*self._held.values(), *claimed])
        for item in sorted(claimed, key=lambda item: at_work[item.org_id]):
            self._held[item.id] = item
            metrics.queue_wait_seconds.labels(metrics.LANES[item.lane]).observe(item.waited_seconds)
            pool.submit(self._work, item, one_of_many=at_work[item.org_id] > FEW)
        return NEXT_CLAIM_SECONDS if claimed else IDLE_POLL_SECONDS

    def _claim(self, free: int) -> list[Claimed]:
        with self._db.transaction() as session:
            claimed = claims.claim(
                session,
                worker=self._worker,
                free=free,
                limits=self._limits,
                rates=self._rates,
                per_organization=self._per_organization,
                answered=list(self._answered.values()),
            )
        if claimed:
            crash_point("scheduler.after_claim")
        return claimed

    def _work(self, item: Claimed, *, one_of_many: bool) -> None:
        """Do one operation from call to record; the claim is given up only when the outcome is written down."""
        try:
            with logs.bound(operation_id=item.id, job_id=item.job_id):
                self.carry(item, one_of_many=one_of_many)
        except Exception:
            # The lease will run out and the sweeper decide: the one path for everything unforeseen.
            log.exception("operation_abandoned", operation_id=item.id)
        finally:
            self._held.pop(item.id, None)
            self._room.set()

    def carry(self, item: Claimed, *, one_of_many: bool = False) -> None:
        """Send a claimed operation, and do what follows. ``one_of_many``: its organization has much at work."""
        asked = self.request(item)
        if not isinstance(asked, Request):
            self._settlement.settle(item, asked, tries=item.attempt)
            return
        began = time.monotonic()
        tries = self._sent(Sending(item=item, digest=digest_of(asked), one_of_many=one_of_many))
        if tries is None:
            return
        crash_point("scheduler.after_sent")
        # A process that was stopped until just now must not send what somebody else has decided about.
        if time.monotonic() - began > SEND_WITHIN_SECONDS:
            self._withhold(item, why="the process was held up")
            return
        answer, seconds = self._call(item, asked)
        crash_point("scheduler.after_provider_call")
        if isinstance(answer, Submitted):
            self._hand_over(item, answer)
        else:
            self._settlement.settle(item, answer, tries=tries, seconds=seconds)

    def request(self, item: Claimed) -> Request | Refused:
        """Return what the provider is to be asked, or why it cannot be."""
        try:
            sources = [b"".join(self._objects.open(key)) for key in item.inputs["sources"]]
        except ObjectMissing as error:
            return Refused(code="source_missing", detail=str(error))
        except StorageUnavailable as error:
            return Refused(code="storage_failed", detail=str(error))
        return Request(
            operation_id=item.id,
            name=item.name,
            prompt=item.prompt,
            model=item.model_requested,
            seed=item.seed,
            sources=sources,
            parameters=item.inputs["parameters"],
            callback_url=self._engine.callback_url(item.provider, operation_id=item.id),
        )

    def _sent(self, sending: Sending) -> int | None:
        """Write down that the request goes out now; return the try, or None where it must not go out."""
        try:
            tries = self._writes.send(sending)
        except Exception as error:
            if not is_unavailable(error):
                raise
            self._withhold(sending.item, why=f"it could not be written down: {type(error).__name__}")
            return None
        if tries is None:
            log.warning("operation_not_sent", claim_lost=True)
        return tries

    def _withhold(self, item: Claimed, *, why: str) -> None:
        """Queue again what may stand in the rows as sent: only this worker knows that it never was."""
        log.warning("operation_not_sent", claim_lost=False, why=why)
        self._settlement.settle(item, Refused(code="connect_failed", detail=f"not sent: {why}"), tries=item.attempt)

    def _call(self, item: Claimed, asked: Request) -> tuple[Submission, float]:
        """Return what the provider says, and after how many seconds."""
        provider = self._engine.providers[item.provider]
        started = time.monotonic()
        answer = provider.submit(asked)
        took = time.monotonic() - started
        log.info("provider_answered", provider=item.provider, outcome=type(answer).__name__, seconds=round(took, 3))
        metrics.operation_seconds.labels(item.provider, item.name).observe(took)
        metrics.operations.labels(item.provider, item.model_requested, type(answer).__name__.lower()).inc()
        return answer, took

    def _hand_over(self, item: Claimed, taken: Submitted) -> None:
        """Let go of an operation that its provider has taken; what is nobody's any more is cancelled there."""
        provider = self._engine.providers[item.provider]
        wait = next_poll_seconds(0, time_limit_seconds=provider.time_limit_seconds)
        taking = Taking(item=item, taken=taken, poll_after_seconds=wait)
        if self._settlement.insist(lambda: self._writes.taken(taking)):
            return
        log.warning("operation_taken_for_nobody", provider=item.provider, external_id=taken.external_id)
        if isinstance(provider, Asynchronous):
            provider.cancel(taken.external_id)

    def _keep_leases(self, stopping: Callable[[], bool]) -> None:
        """Prolong the leases of everything at work; one that is lost is noticed when its result is recorded."""
        due = time.monotonic()
        while self._held or not stopping():
            time.sleep(0.2)
            if time.monotonic() < due or not self._held:
                continue
            due = time.monotonic() + claims.HEARTBEAT_SECONDS
            with self._patience("heartbeat"), self._db.transaction() as session:
                held = list(self._held.values())
                kept = claims.heartbeat(session, held)
                lost = {item.id for item in held} - kept
                if lost:
                    log.warning("leases_lost", operation_ids=sorted(lost))

    @contextlib.contextmanager
    def _patience(self, what: str) -> Iterator[None]:
        """Let nothing end the engine: say what went wrong, wait a moment, go on.

        Claiming and heartbeats wait for each other at the end, so that one which left would leave a dead engine.
        """
        try:
            yield
        except Exception as error:
            if is_unavailable(error):
                log.warning("engine_waits", what=what, error_type=type(error).__name__)
            else:
                log.exception("engine_stumbled", what=what)
            time.sleep(RETRY_SECONDS)


def digest_of(asked: Request) -> str:
    """Return the SHA-256, in hex, of what a provider is asked, pictures included."""
    about = [asked.operation_id, asked.name, asked.prompt, asked.model, asked.seed, dict(asked.parameters)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for source in asked.sources:
        digest.update(hashlib.sha256(source).digest())
    return digest.hexdigest()
