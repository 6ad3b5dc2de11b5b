"""A miniature service for the tests of messaging, outbox and RPC: real queues, a real database, no business.

What its methods do is a `Script` the test gives along; without one, each event leaves a row in ``effects``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider
from sqlalchemy.orm import Session

from shared import broker, topology
from shared.config import Secret, Settings
from shared.database import Batch
from shared.events import CreditCaptured, Event, RefundIssued
from shared.health import Health
from shared.host import DatabaseProvider
from shared.messaging import subscribe
from shared.migrations import create_delivery_tables, create_roles, part_modes, protect
from shared.rpc import RpcClient, rpc
from tools.topology import bindings_of

Handler = Callable[[Session, Sequence[Any]], Sequence[Event]]
CAPTURED_QUEUE = "credits.on_credit_captured"
REFUND_QUEUE = "credits.on_refund_issued"
DEAD_LETTERS = "credits.dead-letters"


def leave_effects(session: Session, events: Sequence[Any]) -> list[Event]:
    """Write one row per event: whoever counts them sees whether each was applied once."""
    session.execute(
        sa.text("INSERT INTO effects SELECT unnest(CAST(:lines AS text[])), unnest(CAST(:organizations AS text[]))"),
        {"lines": [event.line_id for event in events], "organizations": [event.org_id for event in events]},
    )
    return []


@dataclass
class Script:
    """What the miniature service does."""

    on_captured: Handler = leave_effects
    on_refund: Handler = leave_effects
    answer: Callable[..., Any] = lambda **arguments: arguments


plain_script = Script()


class ScriptProvider(DependencyProvider):
    """Gives the service its script."""

    def get_dependency(self, _worker_ctx: Any) -> Script:
        return self.container.config.get("script") or plain_script


class Mini:
    """Listens to two kinds of event of credits, answers RPC as credits, calls itself."""

    name = "credits"
    db = DatabaseProvider()
    credits = RpcClient("credits")
    script = ScriptProvider()

    @subscribe(CreditCaptured)
    def on_credit_captured(self, events: Batch[CreditCaptured]) -> None:
        self.db.once(events, self.script.on_captured)

    @subscribe(RefundIssued)
    def on_refund_issued(self, events: Batch[RefundIssued]) -> None:
        self.db.once(events, self.script.on_refund)

    @rpc
    def echo(self, **arguments: Any) -> Any:
        return self.script.answer(**arguments)

    @rpc
    def ask_echo(self, **arguments: Any) -> Any:
        """Call `echo` from inside a call."""
        return self.credits.echo(**arguments)


def create_schema(url: str) -> None:
    """Create what the miniature service needs, with the functions every migration uses."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        create_roles()
        create_delivery_tables()
        op.create_table("effects", sa.Column("line_id", sa.Text), sa.Column("org_id", sa.Text))
        protect("effects")
        op.create_table(
            "marks", sa.Column("line_id", sa.Text), sa.Column("org_id", sa.Text), sa.Column("livemode", sa.Boolean)
        )
        protect("marks")
        part_modes("marks")


def settings(*, database_url: str, amqp_url: str, retry_delays_seconds: tuple[int, ...] = (1,)) -> Settings:
    return Settings(
        process="credits",
        service="credits",
        database_url=Secret(database_url),
        amqp_url=Secret(amqp_url),
        storage_url=Secret("file:///nonexistent"),
        http_address=None,
        ops_address=("127.0.0.1", 0),
        public_url="",
        files_public_url="",
        signing_secret=Secret("s" * 32),
        encryption_keys=Secret("e" * 32),
        admin_api_key=Secret("a" * 32),
        retry_delays_seconds=retry_delays_seconds,
    )


@contextmanager
def running(chosen: Settings, script: Script | None = None) -> Iterator[Any]:
    """Run the miniature service in this process; yields its container."""
    container = ServiceContainer(
        Mini, config={"settings": chosen, "health": Health(), "max_workers": chosen.max_workers, "script": script}
    )
    container.start()
    try:
        yield container
    finally:
        container.stop()


def declare(amqp_url: str) -> None:
    """Declare what the miniature service and its publisher use; the whole topology takes seconds."""
    bindings = bindings_of(Mini, service="credits")
    with broker.connected(amqp_url, name="test topology") as connection:
        channel = connection.channel()
        topology.declare_unrouted(channel, bindings)
        topology.declare_exchanges(channel)
        topology.declare_service(channel, "credits")
        topology.declare_rpc(channel, "credits")
        for item in bindings:
            topology.declare_binding(channel, item)
