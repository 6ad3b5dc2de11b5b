"""Where operations are worked off: our engine and the usual way, each with its own database, and the audit of each."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import psutil
import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks import audit, children, servers
from benchmarks.children import Child
from benchmarks.contenders import plain_tables
from benchmarks.contenders.slow_provider import MODEL, SlowProvider
from benchmarks.servers import Observed
from services.credits import accounts
from services.credits import audit as proof
from services.credits.service import Credits
from services.generation import handlers
from services.generation.engine import Engine
from services.generation.models import Base as GenerationModel
from services.generation.models import Generation, Job, Operation
from services.generation.submissions import Submission
from shared import events, migrations
from shared.database import Batch, Database
from shared.events import GenerationCompleted, JobFinished
from shared.ids import new_id
from shared.storage import open_store

MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
SOURCE = "assets/org/room.jpg"
SKU_AMOUNT = 10
BALANCE = 10**9
AT_ONCE = 100
PROOF_SECONDS = 120.0
_SETTLED = {GenerationCompleted: "on_generation_completed", JobFinished: "on_job_finished"}


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The running processes of a contender; what they started counts with them."""

    members: Sequence[Child]

    def cpu_seconds(self) -> float:
        """Return the processor time all of them have used so far."""
        return sum(member.cpu_seconds() for member in self.members)

    def fail_if_gone(self) -> None:
        """Raise `ChildFailed` when one has ended although nobody asked it to."""
        for member in self.members:
            member.fail_if_gone()

    def tell(self, word: str) -> None:
        """Tell each the same."""
        for member in self.members:
            member.tell(word)


@dataclass(kw_only=True)
class Place:
    """A database with the engine's tables, a store and a photo; ``spans`` are files of what workers were at when."""

    home: Path
    store: Path
    observed: Observed
    limit: int
    seconds: float

    def submit(self, org_id: str, *, jobs: int, each: int) -> None:
        """Queue so many stagings of so many variants."""
        raise NotImplementedError

    def check(self, org_ids: Sequence[str], *, operations: int) -> None:
        """Check that every job has ended well, and each image is there, once.

        Raises:
            AuditFailed: it is not so.
        """
        ask = partial(self.observed.ask)
        orgs = list(org_ids)
        unfinished = "SELECT count(*) FROM jobs WHERE org_id = ANY (%s) AND status <> 'succeeded'"
        audit.check("jobs that have not succeeded", found=ask(unfinished, orgs), expected=0)
        images = "SELECT array_agg(key) FROM images WHERE org_id = ANY (%s)"
        keys = ask(images, orgs)
        of = "SELECT count(DISTINCT operation_id) FROM images WHERE org_id = ANY (%s)"
        audit.check("images", found=len(keys), expected=operations)
        audit.check("operations with an image", found=ask(of, orgs), expected=operations)
        store = open_store(self.store_url)
        audit.check("images in the store", found=sum(store.stat(key) is not None for key in keys), expected=operations)

    @property
    def store_url(self) -> str:
        """The address of the store."""
        return self.store.as_uri()

    @contextlib.contextmanager
    def crew(self, module: str, *, workers: int, spans: Sequence[Path], **orders: Any) -> Iterator[Crew]:
        """Start workers, which wait for `go`; end them after the block."""
        with contextlib.ExitStack() as stack:
            yield Crew(
                members=[
                    stack.enter_context(
                        children.running(
                            f"benchmarks.contenders.{module}",
                            log_folder=self.home,
                            database_url=self.observed.database_url,
                            storage_url=self.store_url,
                            picture=str(self.home / "picture.jpg"),
                            worker=f"worker-{number}",
                            limit=self.limit,
                            seconds=self.seconds,
                            spans=str(spans[number]),
                            **orders,
                        )
                    )
                    for number in range(workers)
                ]
            )


@dataclass(kw_only=True)
class OurPlace(Place):
    """The databases of generation and credits; jobs are taken in as the gateway's calls would be."""

    database: Database
    credits_service: Credits
    opened: set[str] = field(default_factory=set)

    def submit(self, org_id: str, *, jobs: int, each: int) -> None:
        """Take them in, a hundred at a time, with credits held."""
        if org_id not in self.opened:
            accounts.open_account(self.credits_service.db, org_id=org_id, plan="pro", amount=BALANCE)
            self.opened.add(org_id)
        provider = SlowProvider(seconds=self.seconds, concurrency=self.limit, picture=b"")
        engine = Engine(providers={provider.name: provider}, routes={"image.stage": [provider.name]})
        asked = [_submission(org_id, each) for _ in range(jobs)]
        for start in range(0, jobs, AT_ONCE):
            some = asked[start : start + AT_ONCE]
            for outcome in handlers.submit_many(self.database, self.credits_service, engine, some):
                if isinstance(outcome, Exception):
                    raise outcome

    def check(self, org_ids: Sequence[str], *, operations: int) -> None:
        """Check it, and that each was sent once; let credits settle what was told, and prove its ledger."""
        super().check(org_ids, operations=operations)
        orgs = list(org_ids)
        attempts = "SELECT count(*) FROM attempts WHERE org_id = ANY (%s)"
        audit.check("attempts", found=self.observed.ask(attempts, orgs), expected=operations)
        self._settle()
        with self.credits_service.db.transaction(time_limit_seconds=PROOF_SECONDS) as session:
            lines = sa.text(
                "SELECT count(*) FILTER (WHERE status = 'held'), coalesce(sum(captured_amount), 0)"
                " FROM lines WHERE org_id = ANY (:orgs)"
            )
            found = tuple(session.execute(lines, {"orgs": orgs}).one())
            violations = proof.run(session, grace=timedelta(days=365))["violations"]
        audit.check("lines held, credits captured", found=found, expected=(0, operations * SKU_AMOUNT))
        audit.check("violations the ledger's audit found", found=violations, expected=[])

    def _settle(self) -> None:
        """Hand what the engine has told to credits, as the relay and its handlers would."""
        with self.database.transaction() as session:
            bodies = session.execute(sa.text("DELETE FROM outbox RETURNING body")).scalars().all()
        told = [events.decode(body.encode()) for body in bodies]
        for kind, method in _SETTLED.items():
            of_kind = [event for event in told if isinstance(event, kind)]
            for start in range(0, len(of_kind), AT_ONCE):
                batch = Batch(of_kind[start : start + AT_ONCE], consumer=f"credits.{method}")
                getattr(self.credits_service, method)(batch)


@dataclass(kw_only=True)
class UsualPlace(Place):
    """The same tables without roles and policies; jobs are written by an ORM, each in its own transaction."""

    engine: sa.Engine

    def submit(self, org_id: str, *, jobs: int, each: int) -> None:
        """Write them, job by job; credits are not asked."""
        for _ in range(jobs):
            with Session(self.engine) as session, session.begin():
                _write(session, _submission(org_id, each))


@contextlib.contextmanager
def places(*, limit: int, seconds: float) -> Iterator[tuple[OurPlace, OurPlace, UsualPlace]]:
    """Start PostgreSQL; yield ours, ours once more, and the usual one, each with a database of its own."""
    with contextlib.ExitStack() as stack:
        home, postgres = stack.enter_context(servers.postgres_started())
        (home / "picture.jpg").write_bytes(_picture())
        # What a file costs differs by how many were deleted in the minutes before: in memory it is the same each time.
        in_memory = MEMORY if MEMORY.is_dir() else None
        store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-benchmark-", dir=in_memory)))
        open_store(store.as_uri()).put(key=SOURCE, chunks=_picture(), content_type="image/jpeg")

        def made(name: str) -> Observed:
            return stack.enter_context(servers.database_made(postgres, name))

        def opened(url: str) -> Database:
            database = Database(url, application="benchmark")
            stack.callback(database.engine.dispose)
            return database

        def ours(name: str) -> OurPlace:
            generation, credits_ = made(f"{name}_generation"), made(f"{name}_credits")
            migrations.upgrade("generation", url=generation.database_url)
            migrations.upgrade("credits", url=credits_.database_url)
            service = Credits()
            service.db = opened(credits_.database_url)  # type: ignore[assignment]  # nameko puts a Database in its place
            return OurPlace(
                home=home,
                store=store,
                observed=generation,
                limit=limit,
                seconds=seconds,
                database=opened(generation.database_url),
                credits_service=service,
            )

        plain = made("plain")
        engine = sa.create_engine(plain.database_url, poolclass=sa.QueuePool, pool_size=1)
        stack.callback(engine.dispose)
        for metadata in (GenerationModel.metadata, plain_tables.Model.metadata):
            metadata.create_all(engine)
        usual = UsualPlace(home=home, store=store, observed=plain, limit=limit, seconds=seconds, engine=engine)
        yield ours("ours"), ours("singly"), usual


def most_in_flight(files: Sequence[Path]) -> tuple[int, int]:
    """Return how many operations the provider was at at once, at most, and how many different ones in all."""
    spans = [span for file in files for span in json.loads(file.read_text())]
    audit.check("different operations", found=len({span[0] for span in spans}), expected=len(spans))
    # At the same moment one that ends makes place for one that begins.
    steps = sorted([(began, 1) for _, began, _ in spans] + [(ended, -1) for _, _, ended in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most, len(spans)


def cpu_of_postgres(observed: Observed) -> float:
    """Return the processor time the server and its connections have used so far, ended ones too."""
    server = psutil.Process(observed.ask("SELECT pg_backend_pid()")).parent()
    if server is None:
        return 0.0
    own = server.cpu_times()
    living = [child.cpu_times() for child in server.children()]
    ended = getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
    return float(ended + sum(each.user + each.system for each in [own, *living]))


def _submission(org_id: str, variants: int) -> Submission:
    upload_id = new_id("ast")
    return Submission(
        job_id=new_id("job"),
        org_id=org_id,
        user_id=None,
        workflow="staging",
        inputs={"upload_id": upload_id, "style": "modern", "room_type": "bedroom", "variants": variants},
        assets={upload_id: {"key": SOURCE, "sha256": "0" * 64}},
    )


def _write(session: Session, asked: Submission) -> None:
    now = datetime.now(UTC)
    count = int(asked.inputs["variants"])
    job = Job(
        id=asked.job_id,
        org_id=asked.org_id,
        workflow=asked.workflow,
        inputs=dict(asked.inputs),
        assets={name: dict(asset) for name, asset in asked.assets.items()},
        status="queued",
        livemode=True,
        total=count,
        open_generations=count,
        estimated_seconds=60,
        deadline_at=now + timedelta(minutes=15),
    )
    session.add(job)
    session.flush()
    for number in range(1, count + 1):
        generation = Generation(
            id=new_id("gen"),
            org_id=job.org_id,
            job_id=job.id,
            number=number,
            status="queued",
            amount=SKU_AMOUNT,
            seed=number,
            settings={},
            livemode=True,
        )
        session.add(generation)
        session.flush()
        session.add(
            Operation(
                id=new_id("op"),
                org_id=job.org_id,
                job_id=job.id,
                generation_id=generation.id,
                position=0,
                name="image.stage",
                status="queued",
                lane=0,
                livemode=True,
                provider=SlowProvider.name,
                model_requested=MODEL,
                prompt="A room.",
                prompt_version="1",
                inputs={"sources": [SOURCE], "parameters": {}},
                seed=number,
                makes_image=True,
                due_at=now,
            )
        )


def _picture() -> bytes:
    """Return a picture so small that it says nothing about pictures: what they take grows with their pixels."""
    file = io.BytesIO()
    PIL.Image.effect_mandelbrot((64, 48), (-2.0, -1.5, 1.0, 1.5), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue()
