"""A way past every wall of the database, to let time pass in it; and a broker to run the service on."""

import os
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from deploy.local.stack import Postgres
from services.gateway import keys, organizations
from services.gateway.organizations import NewOrganization
from services.notifications.service import Notifications
from shared import broker, topology
from shared.database import Database
from shared.ids import new_id
from tests.conftest import NewVhost
from tests.service.notifications.gateways import Follower, Gateway
from tools.topology import bindings_of


@pytest.fixture
def tamper(notifications_db: Database, postgres: Postgres) -> Callable[..., None]:
    """Return a function that runs statements as someone who owns the server: past walls and grants."""

    def run(*statements: str) -> None:
        address = postgres.superuser_url.replace("+psycopg2", "")
        connection = psycopg2.connect(address, dbname=notifications_db.url.database)
        try:
            with connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    return run


@pytest.fixture
def amqp_url(new_vhost: NewVhost) -> str:
    """A virtual host of its own, with what notifications and those it listens to use."""
    url = new_vhost()
    bindings = bindings_of(Notifications, service="notifications")
    with broker.connected(url, name="test topology") as connection:
        channel = connection.channel()
        topology.declare_unrouted(channel, bindings)
        topology.declare_exchanges(channel)
        topology.declare_service(channel, "notifications")
        topology.declare_rpc(channel, "notifications")
        for item in bindings:
            topology.declare_binding(channel, item)
    return url


@pytest.fixture
def environment(notifications_db: Database, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a process of notifications is started with, for this process too."""
    variables = {
        "NOTIFICATIONS_DATABASE_URL": notifications_db.url.render_as_string(hide_password=False),
        "AMQP_URL": amqp_url,
        "STORAGE_URL": "file:///nonexistent",
        "RETRY_DELAYS_SECONDS": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def gateway(gateway_db, environment, tmp_path) -> Iterator[Gateway]:
    url = gateway_db.url.render_as_string(hide_password=False)
    made = Gateway({**environment, "GATEWAY_DATABASE_URL": url}, log=tmp_path / "gateway.log")
    made.start()
    yield made
    made.end()


@pytest.fixture
def studio(gateway_db):
    """An organization, whose first event tells that it was made, and the secret of its first key."""
    org_id = new_id("org")
    secret = keys.of_request(signing_secret=os.environ["SIGNING_SECRET"], made_id=org_id, request_key=None)
    wanted = NewOrganization(id=org_id, name="A studio", created_by="root", plan="pro", owner_email=None)
    organizations.create(gateway_db, wanted, secret=secret)
    return org_id, secret.text


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    made: list[Follower] = []
    yield made
    for one in made:
        one.stop()
