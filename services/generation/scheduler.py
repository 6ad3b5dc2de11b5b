"""The worker: claims due operations, calls their providers, stores what comes back, records it. Rows, never deliveries.

It uses the standard library's threads, which are green in our processes; the host is none of its business.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from services.generation import claims, metrics, recording
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.holding import OPERATIONS_CHANNEL
from services.generation.observing import Observer
from services.generation.operations import Answered, GiveUp, MadeImage, Outcome, Refused, Repeat, Succeed, decide
from services.generation.providers import Request
from services.generation.providers.waiting import carry_out
from services.generation.recording import StoredImage
from shared import images, logs
from shared.crash import crash_point
from shared.database import Database, is_unavailable, wait_for_notify
from shared.ids import new_id
from shared.off_hub import off_hub
from shared.problems import Problem
from shared.storage import ObjectMissing, ObjectStore, StorageUnavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

IDLE_POLL_SECONDS = 0.5
RETRY_SECONDS = 0.5
MAX_RESULT_BYTES = 50_000_000
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


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
        self._observer = Observer(db)
        self._held: dict[str, Claimed] = {}
        self._slot_freed = threading.Event()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until ``stopping()``; a database that is away is waited for."""
        with ThreadPoolExecutor(max_workers=self._slots + 1, thread_name_prefix="operation") as pool:
            pool.submit(self._keep_leases, stopping)
            while not stopping():
                with self._patience("claiming"), contextlib.closing(self._db.connect()) as listener:
                    listener.autocommit = True
                    with listener.cursor() as cursor:
                        cursor.execute(f"LISTEN {OPERATIONS_CHANNEL}")
                    while not stopping():
                        if not self._fill(pool):
                            wait_for_notify(listener, seconds=IDLE_POLL_SECONDS)

    def _fill(self, pool: ThreadPoolExecutor) -> bool:
        """Claim as much as there is room for and set it to work; return False if nothing was due."""
        free = self._slots - len(self._held)
        if free <= 0:
            self._slot_freed.clear()
            self._slot_freed.wait(IDLE_POLL_SECONDS)
            return True
        live = self._claim(free)
        for item in live:
            self._held[item.id] = item
            metrics.queue_wait_seconds.labels(metrics.LANES[item.lane]).observe(item.waited_seconds)
            pool.submit(self._work, item)
        return bool(live)

    def _claim(self, free: int) -> list[Claimed]:
        with self._db.transaction() as session:
            claimed = claims.claim(
                session,
                worker=self._worker,
                free=free,
                limits=self._limits,
                rates=self._rates,
                per_organization=self._per_organization,
            )
        if not claimed:
            return []
        crash_point("scheduler.after_claim")
        with self._db.transaction() as session:
            live, events = claims.begin(session, claimed)
            self._db.publish(session, events)
        return live

    def _work(self, item: Claimed) -> None:
        """Do one operation from call to record; the claim is given up only when the outcome is written down."""
        try:
            with logs.bound(operation_id=item.id, job_id=item.job_id):
                outcome = self._call(item)
                crash_point("scheduler.after_provider_call")
                self._settle(item, outcome)
        except Exception:
            # The lease will run out and the sweeper decide: the one path for everything unforeseen.
            log.exception("operation_abandoned", operation_id=item.id)
        finally:
            self._held.pop(item.id, None)
            self._slot_freed.set()

    def _call(self, item: Claimed) -> Outcome:
        provider = self._engine.providers[item.provider]
        started = time.monotonic()
        try:
            sources = [b"".join(self._objects.open(key)) for key in item.inputs["sources"]]
        except ObjectMissing as error:
            return Refused(code="source_missing", detail=str(error))
        except StorageUnavailable as error:
            return Refused(code="storage_failed", detail=str(error))
        outcome = carry_out(
            provider,
            Request(
                operation_id=item.id,
                name=item.name,
                prompt=item.prompt,
                model=item.model_requested,
                seed=item.seed,
                sources=sources,
                parameters=item.inputs["parameters"],
            ),
        )
        took = time.monotonic() - started
        log.info("provider_answered", provider=item.provider, outcome=type(outcome).__name__, seconds=round(took, 3))
        metrics.operation_seconds.labels(item.provider, item.name).observe(took)
        metrics.operations.labels(item.provider, item.model_requested, type(outcome).__name__.lower()).inc()
        self._observer.note(item, outcome, seconds=took)
        return outcome

    def _settle(self, item: Claimed, outcome: Outcome) -> None:
        decision = decide(
            outcome,
            attempt=item.attempt,
            after_lost_answer=self._engine.providers[item.provider].after_lost_answer,
            makes_image=item.makes_image,
        )
        if isinstance(decision, Succeed):
            self._keep(item, decision.answer)
        else:
            self._insist(lambda: self._record(item, decision))

    def _keep(self, item: Claimed, answer: Answered) -> None:
        """Store an answer's images, then record it; what is not adopted leaves no bytes behind."""
        if not self._insist(lambda: self._note_storing(item)):
            return
        stored: list[StoredImage] = []
        try:
            stored += [self._store(item, number, image) for number, image in enumerate(answer.images)]
        except StorageUnavailable as error:
            failed: Outcome = Refused(code="storage_failed", detail=str(error))
        except Problem as problem:
            failed = Refused(code="result_corrupt", detail=problem.detail)
        else:
            crash_point("scheduler.after_store")
            if not self._insist(lambda: self._adopt(item, answer, stored)):
                self._discard(stored)
            return
        self._discard(stored)
        self._settle(item, failed)

    def _store(self, item: Claimed, number: int, image: MadeImage) -> StoredImage:
        """Write an image and its thumbnail under keys that only this claim uses."""
        info = off_hub(images.inspect, image.data)
        image_id = new_id("img")
        stem = f"images/{item.org_id}/{image_id}/{item.fence}"
        stored = self._objects.put(
            key=f"{stem}.{_EXTENSIONS[info.content_type]}",
            chunks=image.data,
            content_type=info.content_type,
            max_bytes=MAX_RESULT_BYTES,
        )
        crash_point("scheduler.between_image_and_thumbnail")
        thumbnail = self._objects.put(
            key=f"{stem}.thumb.jpg", chunks=off_hub(images.thumbnail, image.data), content_type="image/jpeg"
        )
        log.debug("image_stored", image_id=image_id, number=number, key=stored.key)
        return StoredImage(
            image_id=image_id,
            key=stored.key,
            thumbnail_key=thumbnail.key,
            content_type=stored.content_type,
            sha256=stored.sha256,
            crc32=stored.crc32,
            bytes=stored.bytes,
            width=info.width,
            height=info.height,
        )

    def _note_storing(self, item: Claimed) -> bool:
        with self._db.transaction() as session:
            return recording.storing(session, item)

    def _adopt(self, item: Claimed, answer: Answered, stored: Sequence[StoredImage]) -> bool:
        with self._db.transaction() as session:
            recorded = recording.success(session, self._engine, item, answer=answer, images=stored)
            self._db.publish(session, recorded.events)
        crash_point("scheduler.after_record")
        return recorded.adopted

    def _record(self, item: Claimed, decision: Repeat | GiveUp) -> None:
        with self._db.transaction() as session:
            if isinstance(decision, Repeat):
                events = recording.repeat(session, item, decision=decision)
            else:
                events = recording.failure(session, item, decision=decision)
            self._db.publish(session, events)

    def _insist(self, write: Callable[[], T]) -> T:
        """Repeat a write while the database is away: the result is paid for, and the fence guards against lateness."""
        while True:
            try:
                return write()
            except Exception as error:
                if not is_unavailable(error):
                    raise
                log.warning("record_postponed", error_type=type(error).__name__)
                time.sleep(RETRY_SECONDS)

    def _discard(self, stored: Iterable[StoredImage]) -> None:
        """Delete objects no row names; what cannot be deleted now is an orphan, collected after 24 h."""
        for image in stored:
            with contextlib.suppress(StorageUnavailable):
                self._objects.delete(image.key)
                self._objects.delete(image.thumbnail_key)

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
