"""The saga in one process: real services on real databases, a provider by script, and a bus that is as bad as allowed.

The bus encodes and decodes every event, delivers it at least twice, in any order and in batches of any size. Calls
between services lose answers. Workers die between any two steps.
"""

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from services.credits import audit
from services.credits.service import Credits
from services.generation import claims, coalescing, sweeper, writes
from services.generation.adopting import Result
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Image, Job
from services.generation.operations import GiveUp, Repeat, Succeed, decide
from services.generation.providers import Request
from services.generation.recording import StoredImage
from services.generation.service import Generation
from services.generation.sweeper import Suspects
from services.generation.writes import Ending
from shared import events, problems
from shared.database import Batch, Database
from shared.events import Event
from shared.ids import new_id
from shared.problems import Problem, Unavailable
from shared.storage import ObjectStore
from tests.fakes import ScriptedProvider
from tools.topology import bindings_of

SOURCE = "assets/org/a.jpg"
ANSWERS_LOST = 0.2
REQUESTS_LOST = 0.1
# How often what came meanwhile is written down, when another operation is brought home.
TOGETHER = 0.4


class Remote:
    """Calls a service in this process as if over the wire: through JSON, and sometimes the answer gets lost."""

    def __init__(self, service: Any, chance: random.Random) -> None:
        self._service = service
        self._chance = chance
        self.loses_answers = True
        self.answers_lost = ANSWERS_LOST
        self.requests_lost = REQUESTS_LOST

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            over_the_wire = json.loads(json.dumps(arguments))
            if self.loses_answers and self._chance.random() < self.requests_lost:
                raise Unavailable
            try:
                answer = getattr(self._service, method)(**over_the_wire)
            except Problem as problem:
                answer = problems.from_dict(json.loads(json.dumps(problem.as_dict())))
            if self.loses_answers and self._chance.random() < self.answers_lost:
                raise Unavailable
            if isinstance(answer, Problem):
                raise answer
            return json.loads(json.dumps(answer))

        return call


@dataclass
class Delivery:
    """One event on its way to one handler."""

    deliver: Callable[[Batch[Event]], None]
    consumer: str
    body: bytes


@dataclass
class Bus:
    """Takes events out of the outboxes and brings each to every subscriber, twice and in any order."""

    outboxes: Sequence[Database]
    services: Sequence[Any]
    chance: random.Random
    waiting: list[Delivery] = field(default_factory=list)
    published: list[Event] = field(default_factory=list)

    def collect(self) -> int:
        """Relay everything that is committed; return how many events that were."""
        count = 0
        for database in self.outboxes:
            with database.transaction() as session:
                rows = session.execute(sa.text("DELETE FROM outbox RETURNING body")).scalars().all()
            count += len(rows)
            for body in rows:
                self.published.append(events.decode(body.encode()))
                self.waiting += [copy for copy in self._deliveries(body.encode()) for _ in range(2)]
        self.chance.shuffle(self.waiting)
        return count

    def deliver_some(self) -> None:
        """Deliver one batch of 1 to 20 to one handler."""
        if not self.waiting:
            return
        first = self.waiting[0]
        same = [item for item in self.waiting if item.consumer == first.consumer]
        batch = same[: self.chance.randint(1, 20)]
        for item in batch:
            self.waiting.remove(item)
        first.deliver(Batch([events.decode(item.body) for item in batch], consumer=first.consumer))

    def _deliveries(self, body: bytes) -> Iterator[Delivery]:
        name = type(events.decode(body)).__name__
        for service in self.services:
            for binding in bindings_of(type(service), service=service.name):
                if binding.event_types is None or name in binding.event_types:
                    method = binding.queue.partition(".")[2]
                    yield Delivery(getattr(service, method), binding.queue, body)


class World:
    """Credits and generation with their databases, one organization with a balance, and a worker that may die."""

    def __init__(
        self,
        *,
        credits_db: Database,
        generation_db: Database,
        store: ObjectStore,
        seed: int,
        balance: int,
        plan: str = "pro",
    ) -> None:
        self.chance = random.Random(seed)  # noqa: S311  a walk that can be repeated, no secret
        self.provider = ScriptedProvider()
        self.engine = Engine(providers={"local": self.provider}, routes={})
        self.store = store
        self.store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")
        self.credits_db, self.generation_db = credits_db, generation_db
        self.credits, self.generation = Credits(), Generation()
        self.credits.db = credits_db
        self.remote_credits = Remote(self.credits, self.chance)
        self.generation.db, self.generation.engine = generation_db, self.engine
        self.generation.credits_service = self.remote_credits
        self.remote_generation = Remote(self.generation, self.chance)
        self.bus = Bus([credits_db, generation_db], [self.credits, self.generation], self.chance)
        self.org_id, self.balance = new_id("org"), balance
        self.credits.open_account(org_id=self.org_id, plan=plan, amount=balance)
        self.claimed: list[Claimed] = []
        self.outcomes: list[Result | Ending] = []
        self.asked: list[dict[str, Any]] = []
        self.accepted: set[str] = set()

    # --- what clients and machines do

    def submit(self, *, again: dict[str, Any] | None = None, **asked: Any) -> None:
        """Send a job in, as the gateway would; whatever comes back, a lost answer is asked for again later."""
        submission = again or self.a_submission(**asked)
        if again is None:
            self.asked.append(submission)
        with contextlib.suppress(Problem):
            self.remote_generation.submit(**submission)
            self.accepted.add(submission["job_id"])

    def a_submission(self, *, variants: int = 2, **more: Any) -> dict[str, Any]:
        """Return what the gateway would hand over for a staging, 10 credits a variant."""
        upload = new_id("ast")
        return {
            "job_id": new_id("job"),
            "org_id": self.org_id,
            "user_id": None,
            "workflow": "staging",
            "inputs": {"upload_id": upload, "style": "modern", "room_type": "bedroom", "variants": variants},
            "assets": {upload: {"key": SOURCE}},
            "livemode": True,
            **more,
        }

    def a_studio_submission(self, *, products: int, variants: int, **more: Any) -> dict[str, Any]:
        """Return what the gateway would hand over for studio images, one plan generation each."""
        uploads = [new_id("ast") for _ in range(products)]
        inputs = {"upload_ids": uploads, "style": "modern", "room_type": "bedroom", "variants": variants}
        assets = {upload: {"key": SOURCE} for upload in uploads}
        return self.a_submission(**{"workflow": "studio", "inputs": inputs, "assets": assets, **more})

    def grant(self, amount: int) -> None:
        """Let somebody buy credits."""
        self.credits.grant(
            grant_id=new_id("grt"), org_id=self.org_id, amount=amount, kind="purchased", reason="bought", actor="test"
        )
        self.balance += amount

    def claim(self, most: int | None = None) -> None:
        """Let a worker take some operations."""
        free = most or self.chance.randint(1, 6)
        with self.generation_db.transaction() as session:
            self.claimed += claims.claim(session, worker="w", free=free, limits={"local": 100}, per_organization=100)

    def work(self) -> None:
        """Bring one claimed operation home, or die on the way at one of the steps between."""
        if self.chance.random() < TOGETHER:
            self.record()
        if not self.claimed:
            return
        item = self.claimed.pop(self.chance.randrange(len(self.claimed)))
        dies_at = self.chance.choice([None, None, None, "claimed", "begun", "called", "stored"])
        if dies_at == "claimed":
            return
        with self.generation_db.transaction() as session:
            live, told = claims.begin(session, [item])
            self.generation_db.publish(session, told)
        if not live or dies_at == "begun":
            return
        self._finish(item, dies_at)

    def lose_leases(self) -> None:
        """Let time pass until no worker holds anything; some workers wake up later and try to write."""
        self._age("operations", "lease_until", "status IN ('running', 'storing')")
        sweeper.recover_lost_operations(self.generation_db, self.engine, Suspects(patience_seconds=0))

    def expire_a_job(self) -> None:
        """Let one open job pass its deadline."""
        with self.generation_db.transaction() as session:
            open_jobs = session.scalars(sa.select(Job.id).where(Job.finished_at.is_(None))).all()
            if open_jobs:
                past = sa.func.clock_timestamp() - sa.text("interval '1 second'")
                session.execute(sa.update(Job).where(Job.id == self.chance.choice(open_jobs)).values(deadline_at=past))
        sweeper.end_overdue_jobs(self.generation_db)

    def repeat_reservations(self) -> None:
        """Let 10 s pass for jobs whose hold was not answered, and 10 min for those that wait for credits."""
        self._age("jobs", "reserve_after", "reserve_after IS NOT NULL")
        sweeper.reserve_again(self.generation_db, self.remote_credits)

    def give_up_reserving(self) -> None:
        """Let a minute pass for one of them."""
        with self.generation_db.transaction() as session:
            session.execute(
                sa.text(
                    "UPDATE jobs SET created_at = created_at - interval '60 s', reserve_after = clock_timestamp()"
                    " WHERE id = (SELECT id FROM jobs WHERE status = 'awaiting_credit' ORDER BY random() LIMIT 1)"
                )
            )
        sweeper.reserve_again(self.generation_db, self.remote_credits)

    def end_pauses(self) -> None:
        """Let 30 days pass for every job that is paused."""
        with self.generation_db.transaction() as session:
            session.execute(
                sa.text("UPDATE jobs SET paused_at = paused_at - interval '30 days' WHERE status = 'paused'")
            )
        sweeper.end_long_pauses(self.generation_db)

    def rest(self) -> None:
        """Do all that can be done now, with nothing bad happening and no time passing."""
        self.remote_credits.loses_answers = self.remote_generation.loses_answers = False
        moved = 1
        while moved:
            moved = sweeper.reserve_again(self.generation_db, self.remote_credits) + self._drain()
            moved += coalescing.settle_ready(self.generation_db, self.engine)
            self.claim(100)
            moved += len(self.claimed)
            while self.claimed:
                self._bring_home(self.claimed.pop())
            self.record()

    def deliver(self) -> None:
        """Relay and deliver a little."""
        self.bus.collect()
        for _ in range(self.chance.randint(1, 6)):
            self.bus.deliver_some()

    # --- the end

    def heal(self) -> None:
        """Stop everything bad and let the system come to rest."""
        self.remote_credits.loses_answers = self.remote_generation.loses_answers = False
        for _ in range(200):
            self.lose_leases()
            self.repeat_reservations()
            with self.generation_db.transaction() as session:
                session.execute(sa.text("UPDATE operations SET due_at = clock_timestamp() WHERE due_at IS NOT NULL"))
            self.claim()
            while self.claimed:
                self._bring_home(self.claimed.pop())
            self.record()
            if self._drain() + coalescing.settle_ready(self.generation_db, self.engine):
                continue
            if not self._open_jobs():
                return
            self.end_pauses()
        raise AssertionError("the system did not come to rest")

    def violations(self) -> list[Any]:
        """Return what the ledger's own audit finds."""
        with self.credits_db.transaction() as session:
            return list(audit.run(session, grace=timedelta(0))["violations"])

    def wallet(self) -> dict[str, Any]:
        """Return the organization's balance."""
        return self.credits.balance(org_id=self.org_id)

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs as clients see them."""
        return list(self.generation.jobs(org_id=self.org_id, livemode=True, limit=10_000)["data"])

    def image_keys(self) -> set[str]:
        """Return every storage key that a row names."""
        with self.generation_db.transaction() as session:
            return {key for row in session.scalars(sa.select(Image)) for key in (row.key, row.thumbnail_key)}

    def _drain(self) -> int:
        moved = self.bus.collect()
        while self.bus.waiting:
            self.bus.deliver_some()
            moved += self.bus.collect()
        return moved

    def _open_jobs(self) -> int:
        with self.generation_db.transaction() as session:
            return int(session.scalar(sa.select(sa.func.count()).where(Job.finished_at.is_(None))) or 0)

    def _bring_home(self, item: Claimed) -> None:
        with self.generation_db.transaction() as session:
            live, told = claims.begin(session, [item])
            self.generation_db.publish(session, told)
        if live:
            self._finish(item, None)

    def _finish(self, item: Claimed, dies_at: str | None) -> None:
        outcome = self.provider.submit(
            Request(
                operation_id=item.id,
                name=item.name,
                prompt=item.prompt,
                model="m",
                seed=item.seed,
                sources=[key.encode() for key in item.inputs["sources"]],
            )
        )
        decision = decide(outcome, attempt=item.attempt, after_lost_answer="resend", makes_image=item.makes_image)
        if dies_at == "called":
            return
        if isinstance(decision, Succeed):
            stored = [self._store(item, image.data) for image in decision.answer.images]
            if dies_at != "stored":
                self.outcomes.append(Result(item=item, answer=decision.answer, images=stored))
        else:
            assert isinstance(decision, Repeat | GiveUp)
            self.outcomes.append(Ending(item=item, decision=decision))

    def record(self) -> None:
        """Write down together what several operations have come to by now, however late."""
        outcomes, self.outcomes = self.outcomes, []
        if not outcomes:
            return
        adopted = writes.record(self.engine, self.generation_db, outcomes)
        for outcome, is_adopted in zip(outcomes, adopted, strict=True):
            if isinstance(outcome, Result) and not is_adopted:
                for image in outcome.images:
                    self.store.delete(image.key)
                    self.store.delete(image.thumbnail_key)

    def _store(self, item: Claimed, data: bytes) -> StoredImage:
        image_id = new_id("img")
        stem = f"images/{item.org_id}/{image_id}.{item.fence}"
        stored = self.store.put(key=f"{stem}.jpg", chunks=data, content_type="image/jpeg")
        thumbnail = self.store.put(key=f"{stem}.thumb.jpg", chunks=data, content_type="image/jpeg")
        return StoredImage(
            image_id=image_id,
            key=stored.key,
            thumbnail_key=thumbnail.key,
            content_type="image/jpeg",
            sha256=stored.sha256,
            crc32=stored.crc32,
            bytes=stored.bytes,
            width=64,
            height=48,
        )

    def _age(self, table: str, column: str, condition: str) -> None:
        with self.generation_db.transaction() as session:
            session.execute(
                sa.text(f"UPDATE {table} SET {column} = clock_timestamp() - interval '1 second' WHERE {condition}")
            )
