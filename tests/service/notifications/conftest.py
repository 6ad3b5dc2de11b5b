"""A way past every wall of the database, to let time pass in it; and a broker to run the service on."""

from collections.abc import Callable

import psycopg2
import pytest

from deploy.local.stack import Postgres
from services.notifications.service import Notifications
from shared import broker, topology
from shared.database import Database
from tests.conftest import NewVhost
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
