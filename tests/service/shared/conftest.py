"""Servers that these tests may kill, freeze and restart; a database and a virtual host of its own for each test."""

import itertools
import secrets
from collections.abc import Callable, Iterator

import pytest

from deploy.local.stack import Broker, Postgres, start_postgres
from shared import broker, outbox
from shared.config import Settings
from shared.database import Database
from tests.service.shared import host_service
from tests.service.shared.wire import Wire

VHOSTS_AT_ONCE = 20


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server beside the one all other tests share."""
    server = start_postgres(tmp_path_factory.mktemp("foundations"))
    host_service.create_schema(server.create_service_database("foundations"))
    yield server
    server.stop()


@pytest.fixture
def database_url(server: Postgres) -> Iterator[str]:
    name = f"foundations_{secrets.token_hex(4)}"
    yield server.clone_database(template="foundations", name=name)
    server.drop_database(name)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url, application="test", pool_size=5)
    yield database
    database.engine.dispose()


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule of retries is part of the topology, so that it is read from the environment everywhere."""
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "1")


@pytest.fixture(autouse=True)
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(outbox, "IDLE_POLL_SECONDS", 0.1)


@pytest.fixture(scope="session")
def new_vhost(rabbitmq: Broker) -> Callable[[], str]:
    """Return a function that gives the address of an empty virtual host; made in batches, since each asking costs."""
    made: list[str] = []
    numbers = itertools.count()

    def take() -> str:
        if not made:
            made.extend(f"test-{next(numbers)}" for _ in range(VHOSTS_AT_ONCE))
            rabbitmq.ctl("eval", "".join(_adding(name) for name in made) + "ok.")
        return f"{rabbitmq.url.rpartition('/')[0]}/{made.pop()}"

    return take


def _adding(vhost: str) -> str:
    everything = '<<".*">>'
    return (
        f'rabbit_vhost:add(<<"{vhost}">>, <<"test">>), rabbit_auth_backend_internal:set_permissions('
        f'<<"darkroom">>, <<"{vhost}">>, {everything}, {everything}, {everything}, <<"test">>), '
    )


@pytest.fixture
def bare_amqp_url(new_vhost: Callable[[], str]) -> str:
    """A virtual host without any exchange of ours."""
    return new_vhost()


@pytest.fixture
def amqp_url(bare_amqp_url: str) -> str:
    """A virtual host with the topology of the miniature service."""
    host_service.declare(bare_amqp_url)
    return bare_amqp_url


@pytest.fixture
def wire(bare_amqp_url: str) -> Iterator[Wire]:
    wire = Wire(bare_amqp_url)
    yield wire
    wire.close()


@pytest.fixture
def chosen(database_url: str, bare_amqp_url: str) -> Settings:
    return host_service.settings(database_url=database_url, amqp_url=bare_amqp_url)
