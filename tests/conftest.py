"""The embedded stack for tests: one PostgreSQL a session, a database of its own for each test, a broker where marked.

pytest runs eventlet-patched here (nameko's plugin does that first of all), as every process of the product does.
"""

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi
import pytest
import structlog

from deploy.local.stack import Broker, Postgres, start_postgres, start_rabbitmq
from shared.database import Database
from tests.databases import Databases

MakeDatabase = Callable[[str], Database]
NewVhost = Callable[[], str]
VHOSTS_AT_ONCE = 10
PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"


@pytest.fixture(scope="session", autouse=True)
def secrets_of_the_process() -> None:
    """Give the process the secrets every start-up asks for."""
    for name in ("SIGNING_SECRET", "ENCRYPTION_KEYS", "ADMIN_API_KEY"):
        os.environ.setdefault(name, secrets.token_hex(32))


@pytest.fixture(scope="session", autouse=True)
def one_authority_of_the_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one of the web's authorities in this process: to read them all takes long, and many clients are made."""
    every = Path(certifi.where()).read_text()
    end = "-----END CERTIFICATE-----\n"
    one = tmp_path_factory.mktemp("web") / "authority.pem"
    one.write_text(every.partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(one))
        yield


@pytest.fixture(autouse=True)
def logs_of_the_tests() -> None:
    """Hand log lines to the standard library, where pytest shows them with what failed; hold on to no stream.

    Before each test anew: a command that a test ran in this process has set up its own logging.
    """
    structlog.reset_defaults()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Databases:
    return Databases(postgres)


@contextmanager
def lending(databases: Databases) -> Iterator[MakeDatabase]:
    """Give a function that lends fresh, migrated databases of services until the block ends."""
    made: list[tuple[str, str, Database]] = []

    def make(service: str) -> Database:
        name, url = databases.lend(service)
        database = Database(url, application=name)
        databases.teach(service, database.engine)
        made.append((service, name, database))
        return database

    yield make
    for service, name, database in made:
        database.engine.dispose()
        databases.take_back(service, name)


@pytest.fixture
def make_database(databases: Databases) -> Iterator[MakeDatabase]:
    """Return a function that gives a fresh, migrated database of a service."""
    with lending(databases) as make:
        yield make


def database_of(service: str) -> Any:
    """Make the fixture that gives a test its own database of a service."""

    def fresh(make_database: MakeDatabase) -> Database:
        return make_database(service)

    return pytest.fixture(fresh, name=f"{service}_db")


credits_db = database_of("credits")
generation_db = database_of("generation")
catalog_db = database_of("catalog")
downloads_db = database_of("downloads")
notifications_db = database_of("notifications")
gateway_db = database_of("gateway")


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    node = start_rabbitmq(tmp_path_factory.mktemp("rabbitmq"))
    yield node
    node.stop()


@pytest.fixture(scope="session")
def new_vhost(rabbitmq: Broker) -> NewVhost:
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
