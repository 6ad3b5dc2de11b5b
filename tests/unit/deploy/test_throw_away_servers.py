import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pika
import psutil
import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  a class, whatever its author called it

from deploy.local import processes, stack
from deploy.local.stack import Broker, Postgres
from tests.service.shared.outages import settle

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    started = stack.start_postgres(tmp_path_factory.mktemp("postgres"))
    started.create_service_database("credits")
    started.create_service_database("catalog")
    yield started
    started.stop()


def connect(url: str) -> Connection:
    return psycopg2.connect(url.replace("+psycopg2", ""))


def ask(url: str, *statements: str) -> object:
    """Run the statements in one session and return the first value of the last one."""
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        connection.commit()
    finally:
        connection.close()
    return row[0] if row else None


def test_a_service_owns_its_database_and_its_schema(server: Postgres) -> None:
    url = server.url_for("credits")

    ask(url, "CREATE TABLE entries (amount int)", "INSERT INTO entries VALUES (10)")

    assert ask(url, "SELECT sum(amount) FROM entries") == 10


def test_a_service_cannot_enter_the_database_of_another(server: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect(server.url_for("catalog", role="credits"))


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_a_service_cannot_enter_the_databases_of_the_server(server: Postgres, database: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect(server.url_for(database, role="credits"))


def test_a_wrong_password_is_refused_on_loopback_too(server: Postgres) -> None:
    url = server.superuser_url
    wrong = url.replace(url.split(":")[2].partition("@")[0], "guessed")

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(wrong)


def test_passwords_are_kept_as_scram(server: Postgres) -> None:
    kept = ask(server.superuser_url, "SELECT rolpassword FROM pg_authid WHERE rolname = 'credits'")

    assert str(kept).startswith("SCRAM-SHA-256$")


def test_a_service_has_no_right_beyond_its_database(server: Postgres) -> None:
    rights = "rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication"

    found = ask(server.superuser_url, f"SELECT bool_or({rights}) FROM pg_roles WHERE rolname IN ('credits', 'catalog')")

    assert found is False


@pytest.mark.parametrize("role", ["darkroom_tenant", "darkroom_system"])
def test_a_service_may_become_a_tenancy_role_but_has_nothing_of_it_before(server: Postgres, role: str) -> None:
    url = server.url_for("credits")
    table = f"seen_by_{role}"
    ask(url, f"CREATE TABLE {table} (a int)")
    ask(server.url_for("credits", role="postgres"), f"ALTER TABLE {table} OWNER TO {role}")

    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        ask(url, f"SELECT count(*) FROM {table}")
    assert ask(url, f"SET ROLE {role}", f"SELECT count(*) FROM {table}") == 0


def test_nobody_logs_in_as_a_tenancy_role(server: Postgres) -> None:
    can_login = ask(server.superuser_url, "SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname LIKE 'darkroom%'")

    assert can_login is False


def test_the_server_listens_on_loopback_and_has_no_socket_file(server: Postgres) -> None:
    assert ask(server.superuser_url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server.superuser_url, "SHOW unix_socket_directories") == ""


def test_checksums_are_on_and_there_is_room_for_every_process(server: Postgres) -> None:
    assert ask(server.superuser_url, "SHOW data_checksums") == "on"
    assert int(str(ask(server.superuser_url, "SHOW max_connections"))) >= 7 * 20


def test_postgresql_never_runs_as_root(server: Postgres) -> None:
    assert psutil.Process(server.pid).uids().effective != 0


def test_a_cloned_database_has_the_data_the_owner_and_the_walls_of_its_template(server: Postgres) -> None:
    template = server.create_service_database("generation")
    ask(template, "CREATE TABLE jobs (id int)", "INSERT INTO jobs VALUES (1)")

    clone = server.clone_database(template="generation", name="generation_1")

    assert ask(clone, "SELECT count(*) FROM jobs") == 1
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect(server.url_for("generation_1", role="credits"))
    server.drop_database("generation_1")
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        connect(clone)


def test_what_was_committed_is_there_after_a_kill(tmp_path: Path) -> None:
    server = stack.start_postgres(tmp_path, durable=True)
    url = server.create_service_database("credits")
    ask(url, "CREATE TABLE entries AS SELECT generate_series(1, 1000) AS id")

    server.kill()
    server.start()

    found = ask(url, "SELECT count(*) FROM entries")
    durability = ask(url, "SHOW fsync")
    server.stop()
    assert (found, durability) == (1000, "on")


def test_servers_end_with_the_process_that_started_them_even_if_it_is_killed(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from deploy.local import stack
        print(stack.start_postgres(Path(sys.argv[1])).pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        postmaster = psutil.Process(int(starter.stdout.readline()))
        everything = [postmaster, *postmaster.children()]

        starter.kill()

    assert len(everything) > 1
    assert processes.wait_until_gone(everything, timeout_seconds=10) == []


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    started = stack.start_rabbitmq(tmp_path_factory.mktemp("broker"))
    yield started
    started.stop()


@pytest.mark.broker
def test_a_confirmed_message_in_a_quorum_queue_survives_the_kill_of_the_node(broker: Broker) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("jobs", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", "jobs", b"job_1", pika.BasicProperties(delivery_mode=2), mandatory=True)

    settle(broker)
    broker.kill()
    broker.start()

    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        _, _, body = connection.channel().basic_get("jobs", auto_ack=True)
    assert body == b"job_1"


@pytest.mark.broker
def test_nobody_is_let_in_but_our_own_user(broker: Broker) -> None:
    stranger = f"amqp://guest:guest@127.0.0.1:{broker.port}/%2F"

    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(stranger))
    assert broker.ctl("--quiet", "list_users", "--no-table-headers").split("\t")[0] == "darkroom"


@pytest.mark.broker
def test_the_node_and_its_port_mapper_listen_on_loopback_only(broker: Broker) -> None:
    listeners = [
        connection.laddr.ip
        for process in (psutil.Process(broker.pid), *psutil.Process().children())
        if process.name() in {"beam.smp", "epmd"}
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listeners) >= 3
    assert set(listeners) <= {"127.0.0.1", "::1"}


@pytest.mark.broker
def test_a_stopped_node_leaves_no_process(tmp_path: Path) -> None:
    node = stack.start_rabbitmq(tmp_path)
    started = [child for child in psutil.Process().children(recursive=True) if _belongs_to(child, tmp_path)]

    node.stop()

    assert len(started) >= 2
    assert processes.wait_until_gone(started, timeout_seconds=5) == []


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("HOME", "").startswith(str(folder))
    except psutil.Error:
        return False


def test_what_killed_runs_left_behind_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with subprocess.Popen(["true"]) as ended:
        pass
    left = temporary / f"{stack.THROW_AWAY}{ended.pid}-abc"
    ours = temporary / f"{stack.THROW_AWAY}{os.getpid()}-abc"
    left.mkdir()
    ours.mkdir()

    server = stack.start_postgres(tmp_path / "home")
    server.stop()

    assert not left.exists()
    assert ours.exists()
