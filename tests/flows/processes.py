"""The engine as it runs: processes of the product on real servers, and vendors that misbehave."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from deploy.local import ports
from services.generation import handlers
from services.generation.engine import Engine
from services.generation.models import Attempt, Image, Operation
from services.generation.providers import available
from services.generation.submissions import Submission
from shared.config import SERVICES
from shared.database import Database
from shared.ids import new_id
from shared.rpc import Remote, RpcConnection
from shared.storage import ObjectStore, open_store
from tests.conftest import MakeDatabase, NewVhost
from tests.contracts.providers import VENDORS, a_photo, environment_of
from tests.polling import until
from tests.service.generation.steps import SOURCE, job_of
from tools import topology
from tools.hostile_providers.server import HostileProviders

ROOT = Path(__file__).parents[2]
PRICE = 10
_SECRETS = {"SIGNING_SECRET": "s" * 40, "ENCRYPTION_KEYS": "e" * 40, "ADMIN_API_KEY": "a" * 40}


@dataclass(frozen=True, kw_only=True)
class Story:
    """What became of one job of one image: as clients see it, as it was logged, and as its vendor billed it."""

    job: dict[str, Any]
    attempts: Sequence[Attempt]
    images: Sequence[Image]
    bills: int

    @property
    def reason(self) -> str | None:
        """Why it failed, None where it did not."""
        failure = self.job["generations"][0]["failure"]
        return failure and str(failure["reason"])


class Process:
    """One process of the product; its output goes to ``log``."""

    def __init__(self, name: str, environment: Mapping[str, str], *, log: Path) -> None:
        self._ops_port = ports.pick()
        self.log = log
        address = {f"{name.upper().replace('-', '_')}_OPS_ADDRESS": f"127.0.0.1:{self._ops_port}"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shared.runner", name],
                cwd=ROOT,
                env={**environment, **address},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self) -> bool:
        """Tell whether all of it works."""
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def is_stopped(self) -> bool:
        """Tell whether it stands still."""
        return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)

    def stop(self) -> None:
        """Let it stand still, whatever it is at."""
        self._process.send_signal(signal.SIGSTOP)
        until(self.is_stopped, what="a process that stands still")

    def go_on_and_end(self) -> None:
        """Let it run again, bring to an end what it is at, and end in order."""
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        until(lambda: self._process.poll() is not None, seconds=60, what="the process's end")

    def end(self) -> None:
        """Kill it and what it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self._process.kill()
        self._process.wait()


class System:
    """Credits and generation, vendors, and an organization with a balance; workers are started by the test."""

    def __init__(
        self,
        databases: Mapping[str, Database],
        environment: Mapping[str, str],
        *,
        folder: Path,
        vendors: HostileProviders,
    ) -> None:
        self.db = databases["generation"]
        self.environment = environment
        self.vendors = vendors
        self.world = vendors.world
        self.store: ObjectStore = open_store(environment["STORAGE_URL"])
        self.store.put(key=SOURCE, chunks=a_photo(), content_type="image/jpeg")
        self.org_id = new_id("org")
        self.balance = 100_000
        self._folder = folder
        self._providers = available(environment)
        self._rpc = RpcConnection(environment["AMQP_URL"], name="test")
        self._credits = Remote("credits", self._rpc.call)

    @contextmanager
    def running(self) -> Iterator["System"]:
        """Run the services, with an account, until the block ends."""
        reader = threading.Thread(target=self._rpc.run)
        reader.start()
        try:
            with self.process("credits") as credits_process, self.process("generation") as generation:
                until(lambda: credits_process.is_ready() and generation.is_ready(), seconds=60, what="the services")
                self._credits.open_account(org_id=self.org_id, plan="pro", amount=self.balance)
                yield self
        finally:
            self._rpc.stop()
            reader.join()

    @contextmanager
    def process(self, name: str, **settings: str) -> Iterator[Process]:
        """Run a process of the product; it is killed when the block ends."""
        log = self._folder / f"{name}-{secrets.token_hex(3)}.log"
        process = Process(name, {**self.environment, **settings}, log=log)
        try:
            yield process
        finally:
            process.end()

    @property
    def engine(self) -> Engine:
        """What a worker in this process has to work with."""
        return Engine(providers=self._providers, routes={}, operations_per_organization=1000)

    def submitted(self, vendor: str, *, script: str, count: int = 1) -> list[str]:
        """Submit jobs of one staged image each that ``vendor`` is to make by ``script``; return their ids."""
        return self.submitted_together(vendor, [("image.stage", script)] * count)

    def submitted_together(self, vendor: str, several: Sequence[tuple[str, str]]) -> list[str]:
        """Submit jobs that ``vendor`` is to do, of one operation and by one script each; return their ids, in order.

        An operation that no workflow plans is put in the place of one that is, of a picture or of an analysis.
        """
        engine = replace(self.engine, routes={"image.stage": [vendor], "vision.analyze": [vendor]})
        asked = [self._a_submission(operation) for operation, _ in several]
        for answer in handlers.submit_many(self.db, self._credits, engine, asked):
            assert not isinstance(answer, Exception), answer
        ids = [each.job_id for each in asked]
        self.execute(
            "UPDATE operations o"
            " SET prompt = prompt || asked.directive, name = asked.name, model_requested = asked.model"
            " FROM unnest(CAST(:ids AS text[]), CAST(:directives AS text[]), CAST(:names AS text[]),"
            " CAST(:models AS text[])) AS asked (job_id, directive, name, model) WHERE o.job_id = asked.job_id",
            ids=ids,
            directives=[f" [[script:{script}]]" for _, script in several],
            names=[operation for operation, _ in several],
            models=[self._providers[vendor].model_for(operation) for operation, _ in several],
        )
        return ids

    def _a_submission(self, operation: str) -> Submission:
        upload = new_id("ast")
        staging = {"upload_id": upload, "style": "modern", "room_type": "bedroom", "variants": 1}
        pictured = operation.startswith("image.")
        return Submission(
            job_id=new_id("job"),
            org_id=self.org_id,
            user_id=None,
            workflow="staging" if pictured else "photo_analysis",
            inputs=staging if pictured else {"upload_ids": [upload]},
            assets={upload: {"key": SOURCE}},
        )

    def execute(self, statement: str, **values: Any) -> Sequence[Any]:
        """Change the engine's rows behind its back, mostly to let time pass; return what the statement returns."""
        with self.db.transaction() as session:
            result = session.execute(sa.text(statement), values)
            return result.all() if result.returns_rows else []

    def age_predictions(self, which: Callable[[str], bool], *, by: timedelta) -> None:
        """Let the same time have passed at Replicate, for what it was asked with such prompts."""
        for job in self.world.jobs.values():
            if "prediction" in job and which(job["prediction"]["input"]["prompt"]):
                job["prediction"]["created_at"] = (datetime.now(UTC) - by).isoformat()

    def found(self, statement: str, **values: Any) -> Any:
        """Return the one value a query of the engine's rows finds."""
        with self.db.transaction() as session:
            return session.execute(sa.text(statement), values).scalar()

    def wallet(self) -> dict[str, Any]:
        """Return the organization's balance, as credits tell it."""
        return dict(self._credits.balance(org_id=self.org_id))

    def story(self, job_id: str) -> Story:
        """Return what became of a job."""
        with self.db.transaction() as session:
            operation_id = session.scalars(sa.select(Operation.id).where(Operation.job_id == job_id)).one()
            attempts = session.scalars(
                sa.select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.attempt)
            ).all()
            images = session.scalars(sa.select(Image).where(Image.job_id == job_id)).all()
        return Story(
            job=job_of(self.db, job_id), attempts=attempts, images=images, bills=self.world.billed(operation_id)
        )

    def named_keys(self) -> list[str]:
        """Return the keys of all objects that a row of an image names, in order."""
        with self.db.transaction() as session:
            return sorted(
                key for image in session.scalars(sa.select(Image)) for key in (image.key, image.thumbnail_key)
            )


@contextmanager
def system(
    make_database: MakeDatabase, new_vhost: NewVhost, *, folder: Path, time_scale: float, **settings: str
) -> Iterator[System]:
    """Run a `System` on databases and a virtual host of its own; ``settings`` are variables of its processes."""
    databases = {service: make_database(service) for service in SERVICES}
    gateway = f"127.0.0.1:{ports.pick()}"
    with HostileProviders(time_scale=time_scale).running() as vendors:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "AMQP_URL": new_vhost(),
            "STORAGE_URL": (folder / "objects").as_uri(),
            **{
                f"{service.upper()}_DATABASE_URL": database.url.render_as_string(hide_password=False)
                for service, database in databases.items()
            },
            **_SECRETS,
            "GATEWAY_ADDRESS": gateway,
            "GATEWAY_PUBLIC_URL": f"http://{gateway}",
            **environment_of(vendors),
            **{f"PROVIDER_{vendor.upper()}_CONCURRENCY": "300" for vendor in VENDORS},
            **{f"PROVIDER_{vendor.upper()}_REQUESTS_PER_MINUTE": "60000" for vendor in VENDORS},
            "OPERATIONS_PER_ORGANIZATION": "1000",
            **settings,
        }
        topology.declare(environment["AMQP_URL"])
        with System(databases, environment, folder=folder, vendors=vendors).running() as running:
            yield running
