"""From a vendor's webhook to the end of a job: the vendor, the gateway over HTTP, the bus, the engine at work.

Nobody polls by itself here for ten minutes: what ends sooner does so because of a webhook.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa
from werkzeug.serving import make_server

from services.gateway import callbacks
from services.gateway.models import WebhookReceipt
from services.gateway.service import Gateway
from services.generation import poller, scheduler
from services.generation.engine import Engine
from services.generation.models import Operation
from services.generation.service import Generation
from shared.callbacks import Callbacks
from shared.config import Secret, Settings
from shared.database import Database
from shared.events import ProviderCallbackReceived
from shared.http import application_of
from shared.storage import ObjectStore, open_store
from tests.contracts.providers import a_photo, hostile_vendors
from tests.flows.world import Bus
from tests.polling import until
from tests.service.generation.steps import SOURCE, at_work, job_of, submitted
from tests.service.generation.worker_steps import execute
from tools.hostile_providers.server import HostileProviders

VENDORS = ("fal", "replicate")
POLL_SECONDS = 600.0
REFUSED = ("webhook_forged", "webhook_unsigned", "webhook_stale", "webhook_altered")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The vendors, the gateway they call back at, the bus behind it, and the engine that asks them."""

    vendors: HostileProviders
    gateway_db: Database
    generation_db: Database
    engine: Engine
    bus: Bus

    def operation(self, job_id: str) -> Operation:
        with self.generation_db.transaction() as session:
            return session.scalars(sa.select(Operation).where(Operation.job_id == job_id)).one()

    def hints(self) -> list[ProviderCallbackReceived]:
        """Carry every event on its way as far as it goes; return the hints there were, from the beginning on."""
        self.bus.collect()
        while self.bus.waiting:
            self.bus.deliver_some()
        return [event for event in self.bus.published if isinstance(event, ProviderCallbackReceived)]

    def ended(self, job_id: str) -> dict[str, Any]:
        def looked_at() -> dict[str, Any] | None:
            self.hints()
            job = job_of(self.generation_db, job_id)
            return job if job["finished_at"] else None

        return until(looked_at, seconds=20, what="the job's end")

    def statuses(self, *, most: int = 1) -> list[int]:
        """Wait for so many answers to webhooks; return what they were."""
        until(lambda: len(self.vendors.webhooks.sent) >= most, seconds=20, what="the webhooks")
        return [status for _, status in self.vendors.webhooks.sent]


@contextmanager
def served(gateway: Gateway) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, application_of(gateway), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def settings_of(vendors: HostileProviders, db: Database) -> Settings:
    nowhere = Secret("amqp://nobody")
    return Settings(
        process="gateway",
        service="gateway",
        database_url=Secret(str(db.url)),
        amqp_url=nowhere,
        storage_url=nowhere,
        http_address=None,
        ops_address=("127.0.0.1", 0),
        public_url="http://gateway.test",
        files_public_url="http://files.test",
        signing_secret=Secret("s" * 40),
        encryption_keys=Secret("e" * 40),
        admin_api_key=Secret("a" * 40),
        replicate_webhook_secret=Secret(vendors.webhooks.replicate_secret),
        fal_jwks_url=f"{vendors.address}/.well-known/jwks.json",
    )


@pytest.fixture
def store(tmp_path: Any) -> ObjectStore:
    made = open_store(f"file://{tmp_path}/objects")
    made.put(key=SOURCE, chunks=a_photo(), content_type="image/jpeg")
    return made


@pytest.fixture
def start(gateway_db: Database, generation_db: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Give what starts a stack whose operations all go to one vendor."""
    for module in (scheduler, poller):
        monkeypatch.setattr(module, "next_poll_seconds", lambda *_, **__: POLL_SECONDS)

    @contextmanager
    def running(vendor: str) -> Iterator[Stack]:
        with hostile_vendors(time_scale=1.0) as (vendors, providers):
            gateway = Gateway()
            gateway.db, gateway.settings = gateway_db, settings_of(vendors, gateway_db)
            gateway.vendors = callbacks.vendors_of(gateway.settings)
            with served(gateway) as address:
                ours = Callbacks(public_url=address, secret=gateway.settings.signing_secret)
                engine = Engine(providers=providers, routes={"image.stage": [vendor]}, callbacks=ours)
                generation = Generation()
                generation.db, generation.engine = generation_db, engine
                bus = Bus([gateway_db], [generation], random.Random(1))  # noqa: S311  a walk that can be repeated
                yield Stack(vendors=vendors, gateway_db=gateway_db, generation_db=generation_db, engine=engine, bus=bus)

    return running


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_webhook_ends_a_job_long_before_anybody_would_have_asked(start, store: ObjectStore, vendor: str) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        job_id = submitted(stack.generation_db, stack.engine, variants=1)

        job = stack.ended(job_id)

        operation_id = stack.operation(job_id).id
        assert (job["status"], job["charged"]) == ("succeeded", 10)
        assert stack.statuses() == [204]
        assert [(hint.provider, hint.operation_id) for hint in stack.hints()] == [(vendor, operation_id)]
        assert stack.vendors.world.billed(operation_id) == 1


@pytest.mark.parametrize("script", REFUSED)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_webhook_that_is_not_the_vendors_changes_nothing(start, store: ObjectStore, vendor: str, script: str) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        stack.vendors.world.play(script, vendor=vendor)
        job_id = submitted(stack.generation_db, stack.engine, variants=1)
        before = until(lambda: found if (found := stack.operation(job_id)).external_id else None)

        assert stack.statuses() == [401]

        after = stack.operation(job_id)
        assert stack.hints() == []
        assert kept(stack.gateway_db) == 0
        assert (after.poll_at, after.polls, after.status) == (before.poll_at, before.polls, "running")
        ask_now(stack)
        assert stack.ended(job_id)["status"] == "succeeded"
        assert stack.vendors.world.billed(after.id) == 1


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_webhook_that_comes_five_times_is_one_hint(start, store: ObjectStore, vendor: str) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        stack.vendors.world.play("webhook_duplicate", vendor=vendor)
        job_id = submitted(stack.generation_db, stack.engine, variants=1)

        job = stack.ended(job_id)

        assert stack.statuses(most=5) == [204] * 5
        assert (job["status"], len(stack.hints()), kept(stack.gateway_db)) == ("succeeded", 1, 1)
        assert stack.vendors.world.billed(stack.operation(job_id).id) == 1


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_webhook_before_the_vendors_answer_does_no_harm(start, store: ObjectStore, vendor: str) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        stack.vendors.world.play("webhook_early", vendor=vendor)
        job_id = submitted(stack.generation_db, stack.engine, variants=1)

        assert stack.statuses() == [204]
        assert len(stack.hints()) == 1
        until(lambda: stack.operation(job_id).external_id)
        ask_now(stack)
        assert stack.ended(job_id)["status"] == "succeeded"
        assert stack.vendors.world.billed(stack.operation(job_id).id) == 1


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_webhook_after_the_end_does_no_harm(start, store: ObjectStore, vendor: str) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        job_id = submitted(stack.generation_db, stack.engine, variants=1)
        job = stack.ended(job_id)
        (hint,) = stack.hints()

        late = replace_delivery(hint)
        assert callbacks.note(stack.gateway_db, late)
        again = stack.hints()

        assert [each.delivery_id for each in again] == [hint.delivery_id, late.delivery_id]
        assert stack.ended(job_id) == job
        assert stack.operation(job_id).poll_at is None


@pytest.mark.parametrize("script", ["accept_then_drop", "html_200", "garbage_json", "lost_repeated"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_work_whose_answer_was_lost_is_known_again_by_its_webhook(
    start, store: ObjectStore, vendor: str, script: str
) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        stack.vendors.world.play(script, vendor=vendor)
        job_id = submitted(stack.generation_db, stack.engine, variants=1)
        until(lambda: stack.operation(job_id).status == "unknown", what="an answer that was lost")

        job = stack.ended(job_id)

        operation = stack.operation(job_id)
        assert (job["status"], job["charged"], len(stack.hints())) == ("succeeded", 10, 1)
        assert operation.external_id
        assert (operation.attempt, stack.vendors.world.billed(operation.id)) == (1, 1)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_forged_webhook_does_not_find_what_was_lost(start, store: ObjectStore, vendor: str) -> None:
    with start(vendor) as stack, at_work(stack.generation_db, store, stack.engine):
        stack.vendors.world.play("lost_forged", vendor=vendor)
        job_id = submitted(stack.generation_db, stack.engine, variants=1)
        until(lambda: stack.operation(job_id).status == "unknown", what="an answer that was lost")

        assert stack.statuses() == [401]

        assert stack.hints() == []
        assert stack.operation(job_id).external_id is None


def replace_delivery(hint: ProviderCallbackReceived) -> callbacks.Hint:
    first = callbacks.Hint(provider=hint.provider, operation_id=hint.operation_id, delivery_id=hint.delivery_id)
    return replace(first, delivery_id=f"{hint.delivery_id}-late")


def kept(db: Database) -> int:
    with db.transaction() as session:
        return int(session.scalar(sa.select(sa.func.count()).select_from(WebhookReceipt)) or 0)


def ask_now(stack: Stack) -> None:
    """Let the ten minutes pass."""
    execute(stack.generation_db, "UPDATE operations SET poll_at = clock_timestamp() WHERE poll_at IS NOT NULL")
