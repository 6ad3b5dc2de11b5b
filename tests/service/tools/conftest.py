"""A whole system at rest as an operator's command finds it: databases, a store in a folder, and jobs to put in."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from services.catalog import handlers as catalog
from services.catalog import product_handlers
from services.catalog.assets import Upload
from services.catalog.products import new_product
from services.credits import accounts
from services.credits import handlers as ledger
from services.generation.models import Generation, Image, Job, Operation
from shared import broker
from shared.broker import Outgoing, Publisher
from shared.config import SERVICES
from shared.database import Batch
from shared.events import GenerationCompleted, GenerationFailed, MadeImage
from shared.ids import new_id
from shared.storage_folder import FolderStore
from shared.topology import (
    UNROUTED,
    dead_letters_queue,
    declare_exchanges,
    declare_service,
    declare_unrouted,
)

PIXELS = b"the bytes of a picture"
ORG = "org_first"


class Databases(dict):
    """The services' databases, each made when it is first asked for, and named in the environment."""

    def __init__(self, make, monkeypatch):
        super().__init__()
        self._make = make
        self._monkeypatch = monkeypatch

    def __missing__(self, service):
        database = self._make(service)
        address = database.url.render_as_string(hide_password=False)
        self._monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", address)
        self[service] = database
        return database


@pytest.fixture
def databases(make_database, monkeypatch, tmp_path):
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "objects").as_uri())
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "none"))
    return Databases(make_database, monkeypatch)


@pytest.fixture
def all_databases(databases):
    return [databases[service] for service in SERVICES]


@pytest.fixture
def topology(rabbitmq, monkeypatch):
    """A broker with every queue declared and empty; ``put`` adds a message to one."""
    monkeypatch.setenv("AMQP_URL", rabbitmq.url)
    with broker.connected(rabbitmq.url, name="test") as connection:
        channel = connection.channel()
        declared = Topology(connection, channel)
        declared.declare()
        yield declared
        declared.purge()


class Topology:
    """The queues an operator looks at."""

    def __init__(self, connection, channel):
        self._connection = connection
        self._channel = channel
        self.queues = [*map(dead_letters_queue, SERVICES), UNROUTED]

    def declare(self):
        declare_exchanges(self._channel)
        for service in SERVICES:
            declare_service(self._channel, service)
        declare_unrouted(self._channel, [])

    def purge(self):
        for queue in self.queues:
            self._channel.queue_purge(queue)

    def add_queue(self, queue, *, exchange, routing_key):
        """Declare a subscription's queue and bind it."""
        self._channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        self._channel.queue_bind(queue, exchange, routing_key)
        self.queues.append(queue)

    def count(self, queue):
        """Return how many messages wait in a queue."""
        return self._channel.queue_declare(queue, passive=True).message_count

    def take(self, queue):
        """Take the next message out of a queue, None where it is empty."""
        return self._channel.basic_get(queue, no_ack=True)

    @contextmanager
    def publishing(self, message):
        """Publish a message again and again while the block runs."""
        stop = threading.Event()

        def publish():
            while not stop.wait(0.05):
                Publisher(self._connection).publish([message])

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def put(self, queue, *, body=b"{}", message_id="evt_1", **headers):
        """Publish to a queue and wait for the confirm."""
        message = Outgoing(body=body, exchange="", routing_key=queue, message_id=message_id, headers=headers)
        Publisher(self._connection).publish([message])


@pytest.fixture
def system(databases, tmp_path):
    return System(databases, FolderStore(tmp_path / "objects"))


class System:
    """Puts jobs, images and assets into the databases and the store, as the services would."""

    def __init__(self, databases, store):
        self.databases = databases
        self.store = store

    def job(self, *, status="succeeded", generation="succeeded", age="10 minutes", settled=True):
        """Add a job with one generation of 10 credits that came to this end; return the ids of both."""
        job_id, generation_id = new_id("job"), new_id("gen")
        self._hold(job_id, generation_id)
        with self.databases["generation"].transaction() as session:
            session.add(self._job_row(job_id, status))
            session.flush()
            session.add(self._generation_row(job_id, generation_id, generation))
        if generation == "succeeded":
            self.image(job_id, generation_id)
        if settled and generation in {"succeeded", "failed"}:
            self._settle(job_id, generation_id, generation)
        self.age(job_id, age)
        return SimpleNamespace(job_id=job_id, generation_id=generation_id)

    def image(self, job_id, generation_id):
        """Add an image with its objects to a generation."""
        image_id, operation_id = new_id("img"), new_id("op")
        stored, thumbnail = (
            self.store.put(key=f"images/{ORG}/{image_id}/{name}", chunks=PIXELS, content_type="image/jpeg")
            for name in ("1.jpg", "1-thumbnail.jpg")
        )
        with self.databases["generation"].transaction() as session:
            session.add(_operation_row(operation_id, job_id, generation_id))
            session.flush()
            session.add(_image_row(image_id, operation_id, job_id, generation_id, stored, thumbnail))
        return stored.key

    def shown(self, upload):
        """Make a product that shows an upload, with its thumbnail; return the product's id."""
        key = upload.key.replace(".jpg", ".thumb.jpg")
        self.store.put(key=key, chunks=PIXELS, content_type="image/jpeg")
        product = new_product(
            product_id=new_id("prd"),
            org_id=ORG,
            livemode=True,
            user_id=None,
            name="Oak chair",
            picture={"revision_id": new_id("rev"), "upload_id": upload.asset_id, "thumbnail_key": key},
        )
        return product_handlers.create_product(self.databases["catalog"], product)["id"]

    def asset(self):
        """Upload a picture; return what was registered."""
        asset_id = new_id("ast")
        stored = self.store.put(key=f"assets/{ORG}/{asset_id}.jpg", chunks=PIXELS, content_type="image/jpeg")
        upload = Upload(
            asset_id=asset_id,
            org_id=ORG,
            livemode=True,
            user_id=None,
            purpose="room",
            key=stored.key,
            sha256=stored.sha256,
            crc32=stored.crc32,
            content_type=stored.content_type,
            bytes=stored.bytes,
            width=800,
            height=600,
        )
        catalog.register_asset(self.databases["catalog"], upload)
        self.publish_all()
        return upload

    def publish_all(self):
        """Let every relay have done its work."""
        for database in self.databases.values():
            with database.transaction() as session:
                session.execute(sa.text("DELETE FROM outbox"))

    def age(self, job_id, interval):
        """Let a job be older by ``interval``."""
        for service, table, column in (
            ("generation", "jobs", "finished_at"),
            ("generation", "jobs", "deadline_at"),
            ("generation", "generations", "finished_at"),
            ("credits", "lines", "created_at"),
        ):
            key = "id" if table == "jobs" else "job_id"
            statement = f"UPDATE {table} SET {column} = {column} - CAST(:by AS interval) WHERE {key} = :job"
            self.change(service, statement, by=interval, job=job_id)

    def change(self, service, statement, **parameters):
        """Change rows behind a service's back."""
        with self.databases[service].transaction() as session:
            session.execute(sa.text(statement), parameters)

    def _hold(self, job_id, generation_id):
        accounts.open_account(self.databases["credits"], org_id=ORG, plan="pro", amount=1000)
        ledger.reserve(
            self.databases["credits"],
            org_id=ORG,
            job_id=job_id,
            deadline_at="2099-01-01T00:00:00Z",
            lines=[{"line_id": generation_id, "sku": "staging.variant"}],
        )
        self.publish_all()

    def settle(self, job, *, amount):
        """Let credits know that a job's generation succeeded and costs so many of them."""
        self._settle(job.job_id, job.generation_id, "succeeded", amount=amount)

    def line(self, job):
        """Return how the line of a job's generation ended: its status, and what was captured."""
        with self.databases["credits"].transaction() as session:
            statement = sa.text("SELECT status, captured_amount FROM lines WHERE line_id = :id")
            return tuple(session.execute(statement, {"id": job.generation_id}).one())

    def _settle(self, job_id, generation_id, generation, *, amount=10):
        about = {
            "job_id": job_id,
            "generation_id": generation_id,
            "line_id": generation_id,
            "org_id": ORG,
            "user_id": None,
            "workflow": "staging",
        }
        picture = MadeImage(image_id=new_id("img"), sha256="0", bytes=1, width=1, height=1)
        if generation == "succeeded":
            event = GenerationCompleted(
                **about,
                amount=amount,
                images=[picture],
                provider="local",
                model="preview",
                duration_ms=1,
                provider_cost_microusd=0,
            )
            handler = ledger.capture_completed_generations
        else:
            event = GenerationFailed(**about, reason="provider_error", message="It failed.", retryable=True)
            handler = ledger.refund_failed_generations
        with self.databases["credits"].transaction() as session:
            handler(session, Batch([event], consumer="test"))

    def _job_row(self, job_id, status):
        ended = status not in {"queued", "running", "paused"}
        return Job(
            id=job_id,
            org_id=ORG,
            workflow="staging",
            inputs={},
            assets={},
            status=status,
            livemode=True,
            total=1,
            open_generations=0 if ended else 1,
            estimated_seconds=10,
            deadline_at=sa.func.now(),
            finished_at=sa.func.now() if ended else None,
            paused_at=sa.func.now() if status == "paused" else None,
        )

    def _generation_row(self, job_id, generation_id, status):
        return Generation(
            id=generation_id,
            org_id=ORG,
            job_id=job_id,
            number=1,
            status=status,
            sku="staging.variant",
            amount=10,
            seed=1,
            livemode=True,
            settings={},
            failure_reason="provider_error" if status == "failed" else None,
            finished_at=sa.func.now() if status in {"succeeded", "failed"} else None,
        )


def _operation_row(operation_id, job_id, generation_id):
    return Operation(
        id=operation_id,
        org_id=ORG,
        job_id=job_id,
        generation_id=generation_id,
        position=1,
        name="stage",
        status="succeeded",
        lane=0,
        provider="local",
        model_requested="preview",
        prompt="",
        prompt_version="1",
        inputs={},
        seed=1,
        livemode=True,
        makes_image=True,
    )


def _image_row(image_id, operation_id, job_id, generation_id, stored, thumbnail):
    return Image(
        id=image_id,
        org_id=ORG,
        job_id=job_id,
        generation_id=generation_id,
        operation_id=operation_id,
        key=stored.key,
        thumbnail_key=thumbnail.key,
        content_type=stored.content_type,
        sha256=stored.sha256,
        crc32=stored.crc32,
        bytes=stored.bytes,
        width=800,
        height=600,
        seed=1,
        livemode=True,
        settings={},
        provenance={},
    )
