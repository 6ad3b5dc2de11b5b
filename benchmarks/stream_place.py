"""Where streams are measured: a gateway and notifications as processes, their servers, and organizations with a key."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks import servers, stacks
from benchmarks.children import wait_until
from benchmarks.follower import Follower
from benchmarks.servers import Observed, Servers
from benchmarks.stacks import Program, Stack
from deploy.local import ports
from deploy.local.environment import ops_setting
from services.gateway import keys, organizations
from services.gateway.organizations import NewOrganization
from shared import logs, migrations
from shared.database import Database
from shared.ids import new_id

ORGANIZATIONS = 100
READY_SECONDS = 60.0
SERVICES = ("notifications", "gateway")


@dataclass(kw_only=True)
class Place:
    """A gateway and notifications that run, with their databases, and organizations with a key each."""

    started: Servers
    databases: dict[str, Observed]
    programs: dict[str, Program]
    port: int
    running: dict[str, Stack]
    accounts: list[tuple[str, str]]

    def process(self, name: str) -> psutil.Process:
        """Return one of our processes."""
        return psutil.Process(self.running[name].processes[name].pid)

    def cpu_seconds(self, name: str) -> float:
        """Return what one of them has used so far."""
        return self.running[name].cpu_seconds()

    def gateway_rss(self) -> int:
        """Return the bytes of memory that the gateway has."""
        return int(self.process("gateway").memory_info().rss)


def followers_of(place: Place, accounts: Sequence[tuple[str, str]], count: int) -> list[Follower]:
    """Return so many clients, the organizations taking turns, who know what the log has so far."""
    ask = partial(place.databases["notifications"].ask, "SELECT last FROM event_sequences WHERE org_id = %s")
    known = {org_id: ask(org_id) for org_id, _ in accounts}
    return [
        Follower(org_id=org_id, api_key=api_key, last=known[org_id])
        for org_id, api_key in (accounts[number % len(accounts)] for number in range(count))
    ]


@contextlib.contextmanager
def placed() -> Iterator[Place]:
    """Start the servers, notifications and the gateway, and make organizations that know a key each."""
    with contextlib.ExitStack() as stack:
        started = stack.enter_context(servers.started())
        logs.configure(process="benchmark", level="WARNING")
        stacks.run_tool("topology", {"AMQP_URL": started.amqp_url})
        home = started.log_folder
        databases = {
            service: stack.enter_context(servers.database_made(started.postgres, f"stream_{service}"))
            for service in SERVICES
        }
        for service, database in databases.items():
            migrations.upgrade(service, url=database.database_url)
        port, *ops = ports.pick_several(1 + len(SERVICES))
        settings = _settings(started, databases, home=home, port=port, ops=dict(zip(SERVICES, ops, strict=True)))
        programs = {
            service: Program(arguments=["-m", "shared.runner", service], variables=settings, ready_port=ops[place_of])
            for place_of, service in enumerate(SERVICES)
        }
        running = {
            service: stack.enter_context(
                stacks.running(f"stream {service}", {service: programs[service]}, port=port, log_folder=home)
            )
            for service in SERVICES
        }
        accounts = _accounts(databases["gateway"].database_url)
        wait_until(
            lambda: databases["notifications"].ask("SELECT count(*) FROM event_sequences") == ORGANIZATIONS,
            child=running["notifications"],
            seconds=READY_SECONDS,
            what="every organization to have a log",
        )
        yield Place(
            started=started,
            databases=databases,
            programs=programs,
            port=port,
            running=running,
            accounts=accounts,
        )


def _settings(
    started: Servers, databases: dict[str, Observed], *, home: Path, port: int, ops: dict[str, int]
) -> dict[str, str]:
    return {
        **stacks.SETTINGS,
        "AMQP_URL": started.amqp_url,
        "RATE_LIMIT_ADDRESS": "",  # every client is at one address here
        "STORAGE_URL": (home / "store").as_uri(),
        "GATEWAY_ADDRESS": f"127.0.0.1:{port}",
        **{ops_setting(service): f"127.0.0.1:{number}" for service, number in ops.items()},
        **{f"{service.upper()}_DATABASE_URL": database.database_url for service, database in databases.items()},
    }


def _accounts(url: str) -> list[tuple[str, str]]:
    """Return the id and the first key of organizations that are made here, and tell nobody."""
    database = Database(url, application="benchmark")
    made: list[tuple[str, str]] = []
    for _ in range(ORGANIZATIONS):
        org_id = new_id("org")
        secret = keys.of_request(signing_secret=stacks.SETTINGS["SIGNING_SECRET"], made_id=org_id, request_key=None)
        wanted = NewOrganization(id=org_id, name="Benchmark", created_by="root", plan="pro", owner_email=None)
        organizations.create(database, wanted, secret=secret)
        made.append((org_id, secret.text))
    database.engine.dispose()
    return made
