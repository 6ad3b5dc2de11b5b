"""What follows a provider's outcome: its images into the store, the outcome into the rows. Asks no provider.

Whoever has an outcome in hand comes here, whether it was waited for or asked for.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from services.generation import calls, provenance, recording
from services.generation.adopting import Result
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.failures import reason
from services.generation.jobs import TEST
from services.generation.observing import Observer
from services.generation.operations import (
    Answered,
    AwaitCall,
    GiveUp,
    LookUp,
    MadeImage,
    Outcome,
    Refused,
    Repeat,
    Spent,
    Succeed,
    decide,
    spent,
)
from services.generation.providers import fallback
from services.generation.recording import StoredImage
from services.generation.substitutes import as_asked
from services.generation.writes import Ending, Noted, Writes
from shared import images
from shared.crash import crash_point
from shared.database import Database, is_unavailable
from shared.gathering import Gathering
from shared.ids import new_id
from shared.off_hub import WORKERS, WorkFailed, off_hub
from shared.problems import Problem
from shared.storage import NewObject, ObjectStore, StorageUnavailable, TooLarge

log = structlog.get_logger(__name__)
T = TypeVar("T")
Look = Callable[[bytes], images.Preview]

RETRY_SECONDS = 0.5
MAX_RESULT_BYTES = 50_000_000
# When what may have arrived is looked for first; it may still be on its way.
_LOOK_AFTER_SECONDS = 2.0
# What is looked at together at most; a larger image is looked at alone.
_LOOK_BYTES = 2_000_000
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


class Settlement:
    """Takes outcomes of one process's operations. ``held`` are those whose leases are prolonged meanwhile.

    ``answered`` are those to which there is an answer, until that is written down; ``has_answered`` is called for each.
    """

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        engine: Engine,
        *,
        held: dict[str, Claimed],
        writes: Writes | None = None,
        answered: dict[str, Claimed] | None = None,
        has_answered: Callable[[], object] = lambda: None,
    ) -> None:
        self._db = db
        self._objects = store
        self._engine = engine
        self._held = held
        self._writes = writes or Writes(db, engine)
        self._observer = Observer(db)
        self._answered = {} if answered is None else answered
        self._has_answered = has_answered
        # Each of the processes that look at images gets what has come while it was at the last ones.
        self._looking: Gathering[int, bytes, images.Preview] = Gathering(_looked_at, most=_LOOK_BYTES, size=len)
        self._eyes = itertools.cycle(range(WORKERS))

    def settle(
        self, item: Claimed, outcome: Outcome, *, tries: int, taken: bool = False, seconds: float | None = None
    ) -> None:
        """Do what follows ``outcome``, and return when it is written down.

        Args:
            item: the claim under which it came.
            outcome: what the provider's adapter said.
            tries: how often the operation was sent to this provider.
            taken: the provider had said that it took it; one that has lost it since need not be searched.
            seconds: after how long the provider said so; None where it did not.
        """
        outcome = as_asked(outcome, provider=item.provider, asked=item.model_requested)
        provider = self._engine.providers[item.provider]
        policy = provider.after_lost_answer
        decision = decide(
            outcome,
            attempt=tries,
            after_lost_answer="give_up" if taken and policy == "lookup" else policy,
            makes_image=item.makes_image,
        )
        if seconds is not None and isinstance(outcome, Answered):
            self._observer.measure(item, seconds=seconds)
        if isinstance(decision, Succeed):
            self._keep(item, decision.answer, tries=tries)
            return
        if seconds is not None:
            self._observer.note(item, outcome)
        if isinstance(decision, LookUp):
            self.insist(lambda: self._record_unknown(item, decision, after_seconds=_LOOK_AFTER_SECONDS))
        elif isinstance(decision, AwaitCall):
            self.insist(lambda: self._record_unknown(item, decision, after_seconds=provider.time_limit_seconds))
        else:
            self.insist(lambda: self._end(item, self._elsewhere(item, outcome, decision), spent(outcome)))

    def release(self, item: Claimed) -> None:
        """Prolong its lease no longer."""
        self._held.pop(item.id, None)

    def insist(self, write: Callable[[], T]) -> T:
        """Repeat a write while the database is away: the result is paid for, and the fence guards against lateness."""
        while True:
            try:
                return write()
            except Exception as error:
                if not is_unavailable(error):
                    raise
                log.warning("record_postponed", error_type=type(error).__name__)
                time.sleep(RETRY_SECONDS)

    def _keep(self, item: Claimed, answer: Answered, *, tries: int) -> None:
        """Store an answer's images, then record it; what is not adopted leaves no bytes behind."""
        noted = self._noted(item)
        if noted != "well":
            self._observer.note(item, answer)
        if noted == "lost":
            self.insist(lambda: self._note_late(item, answer))
            return
        self._held[item.id] = item
        answer = provenance.completed(item, answer) if answer.images else answer
        stored: list[StoredImage] = []
        try:
            for number, image in enumerate(answer.images):
                stored.append(self._stored(item, number, image, answer))
        except (StorageUnavailable, WorkFailed) as error:
            # It was made, and is paid for: the provider is not asked for it once more.
            lost = GiveUp(code="storage_failed", detail=str(error))
            self._discard(stored)
            self.insist(lambda: self._end(item, lost, spent(answer)))
        except (Problem, TooLarge) as problem:
            self._discard(stored)
            cost = answer.cost_microusd
            corrupt = Refused(code="result_corrupt", detail=str(problem), ran=True, cost_microusd=cost)
            self.settle(item, corrupt, tries=tries)
        else:
            crash_point("scheduler.after_store")
            adopted = self.insist(lambda: self._writes.record(Result(item=item, answer=answer, images=stored)))
            crash_point("scheduler.after_record")
            if not adopted:
                self._discard(stored)

    def _noted(self, item: Claimed) -> Noted:
        """Write down that the provider is no longer at it; its place is free from this moment on."""
        self._answered[item.id] = item
        self._has_answered()
        try:
            return self.insist(lambda: self._writes.storing(item))
        finally:
            self._answered.pop(item.id, None)

    def _stored(self, item: Claimed, number: int, image: MadeImage, answer: Answered) -> StoredImage:
        """Store an image, again and again while it is we who cannot, as often as the taxonomy says."""
        look = self._look_with_others
        for wait_seconds in reason("storage_failed").waits_seconds:
            try:
                return self._store(item, number, image, answer, look)
            except (StorageUnavailable, WorkFailed) as error:
                log.warning("store_postponed", operation_id=item.id, error=str(error), again_in_seconds=wait_seconds)
                time.sleep(wait_seconds)
                look = _look_alone  # it may be this very image that those who look at it cannot bear
        return self._store(item, number, image, answer, look)

    def _store(self, item: Claimed, number: int, image: MadeImage, answer: Answered, look: Look) -> StoredImage:
        """Write an image and its thumbnail, both marked, under keys that only this claim uses."""
        seen = look(image.data)
        image_id = new_id("img")
        words = provenance.packet(provenance.of_result(item, answer, image_id=image_id))
        stem = f"images/{item.org_id}/{image_id}.{item.fence}"
        whole = NewObject(
            key=f"{stem}.{_EXTENSIONS[seen.content_type]}",
            data=provenance.mark(image.data, words, upright=seen.upright),
            content_type=seen.content_type,
        )
        marked = provenance.mark(seen.thumbnail, words)
        small = NewObject(key=f"{stem}.thumb.jpg", data=marked, content_type="image/jpeg")
        stored, thumbnail = self._objects.put_together([whole, small], max_bytes=MAX_RESULT_BYTES)
        log.debug("image_stored", image_id=image_id, number=number, key=stored.key)
        return StoredImage(
            image_id=image_id,
            key=stored.key,
            thumbnail_key=thumbnail.key,
            content_type=stored.content_type,
            sha256=stored.sha256,
            crc32=stored.crc32,
            bytes=stored.bytes,
            width=seen.width,
            height=seen.height,
        )

    def _look_with_others(self, picture: bytes) -> images.Preview:
        return self._looking(next(self._eyes), picture)

    def _note_late(self, item: Claimed, answer: Answered) -> None:
        with self._db.transaction() as session:
            recording.note_late(session, item, spent(answer))

    def _end(self, item: Claimed, decision: Repeat | GiveUp, used: Spent) -> None:
        self._writes.record(Ending(item=item, decision=decision, used=used))

    def _record_unknown(self, item: Claimed, decision: LookUp | AwaitCall, *, after_seconds: float) -> None:
        with self._db.transaction() as session:
            events = recording.unknown(session, item, detail=decision.detail, after_seconds=after_seconds)
            self._db.publish(session, events)

    def _elsewhere(self, item: Claimed, outcome: Outcome, decision: Repeat | GiveUp) -> Repeat | GiveUp:
        """Return ``decision``, unless it gives up and another provider of the route may do it."""
        engine = self._engine.in_mode(livemode=item.lane != TEST)
        others = set(engine.routes.get(item.name, ())) - {item.provider}
        if isinstance(decision, Repeat) or not isinstance(outcome, Refused) or not others:
            return decision
        with self._db.transaction() as session:
            tried = calls.providers_tried(session, item.id) or [item.provider]
        other = fallback(item.name, outcome, tried=tried, routes=engine.routes, providers=engine.providers)
        if other is None:
            return decision
        again = Repeat(after_seconds=0.0, code=decision.code, detail=decision.detail)
        return replace(again, provider=other.name, model=other.model_for(item.name))

    def _discard(self, stored: Iterable[StoredImage]) -> None:
        """Delete objects no row names; what cannot be deleted now is an orphan, collected after 24 h."""
        for image in stored:
            with contextlib.suppress(StorageUnavailable):
                self._objects.delete(image.key)
                self._objects.delete(image.thumbnail_key)


def _look_alone(picture: bytes) -> images.Preview:
    return off_hub(images.preview, picture)


def _looked_at(_eye: int, pictures: Sequence[bytes]) -> Sequence[images.Preview | WorkFailed]:
    """Return what there is to see; where it took too much, each is told at once, and looks alone the next time."""
    try:
        return off_hub(images.previews, list(pictures))
    except WorkFailed as error:
        return [error] * len(pictures)
