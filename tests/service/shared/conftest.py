"""Servers that these tests may kill, freeze and restart; a database and a virtual host of its own for each test."""

import secrets
from collections.abc import Iterator

import pytest

from deploy.local.stack import Postgres, start_postgres
from shared import broker, outbox
from shared.config import Settings
from shared.database import Database
from tests.conftest import NewVhost
from tests.service.shared import host_service
from tests.service.shared.wire import Wire


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


@pytest.fixture
def bare_amqp_url(new_vhost: NewVhost) -> str:
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
