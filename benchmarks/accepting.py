"""Where jobs are taken in: our stack and the usual one, each with databases of its own, and the audit of each."""

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import sqlalchemy as sa

from benchmarks import audit, posting, servers, stacks
from benchmarks.children import wait_until
from benchmarks.contenders import plain_tables
from benchmarks.servers import Observed
from benchmarks.stacks import ADMIN_KEY, Program, Stack
from deploy.local import ports
from deploy.local.rabbitmq import USER
from deploy.local.stack import Broker, Postgres
from services.credits import audit as proof
from services.gateway import keys
from services.gateway.models import Model as GatewayModel
from services.generation.models import Base as GenerationModel
from shared import migrations
from shared.database import Database
from shared.ids import new_id

AMOUNT = 10  # what the price book says of one variant
BALANCE = 10**9
SERVICES = ("gateway", "catalog", "generation", "credits")
USUAL = ("gateway", "generation", "credits")
GUNICORN_THREADS = 16
QUIET_SECONDS = 120.0
PROOF_SECONDS = 120.0
PROOF_GRACE = timedelta(days=365)

_WRITTEN = {
    "jobs queued": "SELECT count(*) FROM jobs WHERE org_id = ANY (%s) AND status = 'queued'",
    "generations paid for": f"SELECT count(*) FROM generations WHERE org_id = ANY (%s) AND amount = {AMOUNT}",
    "operations due": "SELECT count(*) FROM operations WHERE org_id = ANY (%s) AND due_at IS NOT NULL",
}
_HELD = {
    "reservations": "SELECT count(*) FROM reservations WHERE org_id = ANY (%s)",
    "lines held": "SELECT count(*) FROM lines WHERE org_id = ANY (%s) AND status = 'held'",
    "credits taken": f"SELECT sum({BALANCE} - available) / {AMOUNT} FROM accounts"
    " WHERE org_id = ANY (%s) AND kind = 'wallet' AND unit = 'credits'",
}
# An answer that cannot be written down in time is not kept: then its key has the job's id all the same.
_KEPT = {
    "keys, each of another job": "SELECT count(DISTINCT resource_id) FROM idempotency_keys WHERE org_id = ANY (%s)"
}
_PENDING = "SELECT count(*) FROM outbox"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An organization as a client knows it."""

    org_id: str
    api_key: str
    upload_id: str


@dataclass(kw_only=True)
class Place:
    """A running stack with its databases by service."""

    stack: Stack
    databases: dict[str, Observed]

    def new_account(self) -> Account:
        """Make an organization with credits, a key and a photo."""
        raise NotImplementedError

    def check(self, accounts: Sequence[Account], *, jobs: int) -> None:
        """Check that each job accepted is there once, and held once.

        Raises:
            AuditFailed: it is not so.
        """
        orgs = [account.org_id for account in accounts]
        for service, statements in (("generation", _WRITTEN), ("credits", _HELD), ("gateway", _KEPT)):
            for what, statement in statements.items():
                audit.check(what, found=self.databases[service].ask(statement, orgs), expected=jobs)


@dataclass(kw_only=True)
class OurPlace(Place):
    """Our stack: gateway, catalog, generation and credits, without workers and notifications."""

    ledger: Database
    opened: list[str] = field(default_factory=list)

    def new_account(self) -> Account:
        """Make it as an administrator and its owner would."""
        ask = partial(posting.call, self.stack.port, "POST")
        made = ask("/v1/admin/organizations", api_key=ADMIN_KEY, json={"name": "Benchmark", "credits": BALANCE})
        photo = ask("/v1/uploads?purpose=room", api_key=made["api_key"], content=_photo(), kind="image/png")
        return Account(org_id=made["id"], api_key=made["api_key"], upload_id=photo["id"])

    def check(self, accounts: Sequence[Account], *, jobs: int) -> None:
        """Check it, and let the ledger's own audit recompute everything, once all that was published has been sent."""
        wait_until(
            lambda: not any(database.ask(_PENDING) for database in self.databases.values()),
            child=self.stack,
            seconds=QUIET_SECONDS,
            what="empty outboxes",
        )
        super().check(accounts, jobs=jobs)
        with self.ledger.transaction(time_limit_seconds=PROOF_SECONDS) as session:
            found = proof.run(session, grace=PROOF_GRACE)
        audit.check("violations the ledger's audit found", found=found["violations"], expected=[])


@dataclass(kw_only=True)
class UsualPlace(Place):
    """Flask and gunicorn, and nobody who sends what is in the outboxes."""

    def new_account(self) -> Account:
        """Write it into the tables."""
        org_id, user_id, secret = new_id("org"), new_id("usr"), keys.new()
        run = self.databases["gateway"].run
        run("INSERT INTO organizations (id, name, created_by) VALUES (%s, 'Benchmark', 'root')", org_id)
        member = "INSERT INTO members (id, org_id, role, status) VALUES (%s, %s, 'owner', 'active')"
        run(member, user_id, org_id)
        run(
            "INSERT INTO api_keys (id, org_id, user_id, name, prefix, secret_sha256, livemode, scopes)"
            " VALUES (%s, %s, %s, 'First key', %s, %s, true, ARRAY['spend'])",
            *(new_id("key"), org_id, user_id, secret.prefix, secret.sha256),
        )
        run = self.databases["credits"].run
        account = "INSERT INTO accounts (org_id, unit, kind, available) VALUES (%s, 'credits', %s, %s)"
        run(account, org_id, "wallet", BALANCE)
        run(account, org_id, "held", 0)
        return Account(org_id=org_id, api_key=secret.text, upload_id=new_id("ast"))


@contextlib.contextmanager
def our_place(home: Path, postgres: Postgres, node: Broker, *, name: str, runner: str) -> Iterator[OurPlace]:
    """Run our services in a virtual host and databases of their own."""
    amqp_url = _new_host(node, name)
    stacks.run_tool("topology", {"AMQP_URL": amqp_url})
    with contextlib.ExitStack() as stack:
        databases = {
            service: stack.enter_context(servers.database_made(postgres, f"{name}_{service}")) for service in SERVICES
        }
        for service, database in databases.items():
            migrations.upgrade(service, url=database.database_url)
        variables = {
            "AMQP_URL": amqp_url,
            "STORAGE_URL": (home / f"{name}-store").as_uri(),
            **{f"{service.upper()}_DATABASE_URL": database.database_url for service, database in databases.items()},
        }
        ledger = Database(databases["credits"].database_url, application="benchmark audit")
        stack.callback(ledger.engine.dispose)
        running = stacks.ours(name, SERVICES, runner=runner, variables=variables, log_folder=home)
        yield OurPlace(stack=stack.enter_context(running), databases=databases, ledger=ledger)


@contextlib.contextmanager
def usual_place(home: Path, postgres: Postgres, *, workers: int = 1) -> Iterator[UsualPlace]:
    """Run the three services of the usual way under gunicorn, each with a database of its own."""
    tables: dict[str, Sequence[Any]] = {
        "gateway": [GatewayModel.metadata],
        "generation": [GenerationModel.metadata, plain_tables.Model.metadata],
        "credits": [plain_tables.Model.metadata],
    }
    with contextlib.ExitStack() as stack:
        databases = {
            service: stack.enter_context(servers.database_made(postgres, f"usual_{service}")) for service in USUAL
        }
        for service, database in databases.items():
            engine = sa.create_engine(database.database_url, poolclass=sa.NullPool)
            for metadata in tables[service]:
                metadata.create_all(engine)
        at = dict(zip(USUAL, ports.pick_several(len(USUAL)), strict=True))
        onwards = dict(zip(USUAL, [*USUAL[1:], USUAL[-1]], strict=True))
        started = {
            service: Program(
                arguments=_gunicorn(service, port=at[service], workers=workers),
                variables={
                    "DATABASE_URL": databases[service].database_url,
                    "NEXT_URL": f"http://127.0.0.1:{at[onwards[service]]}",
                    "THREADS": str(GUNICORN_THREADS),
                },
                ready_port=at[service],
            )
            for service in USUAL
        }
        running = stacks.running("usual", started, port=at["gateway"], log_folder=home)
        yield UsualPlace(stack=stack.enter_context(running), databases=databases)


def _gunicorn(service: str, *, port: int, workers: int) -> list[str]:
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    options = ["--worker-class", "gthread", "--workers", str(workers), "--threads", str(GUNICORN_THREADS)]
    application = f"benchmarks.contenders.flask_{service}:app()"
    return [gunicorn, "--bind", f"127.0.0.1:{port}", *options, "--keep-alive", "60", application]


def _new_host(node: Broker, name: str) -> str:
    """Make a virtual host of RabbitMQ; return its address."""
    address, _, _ = node.url.rpartition("/")
    node.ctl("add_vhost", name)
    node.ctl("set_permissions", "--vhost", name, USER, ".*", ".*", ".*")
    return f"{address}/{name}"


def _photo() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (640, 480), "navy").save(file, "PNG")
    return file.getvalue()
