"""A process under the runner: it starts without its servers, says what is missing, drains, and keeps its secrets."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.local.stack import Broker, Postgres
from tests.polling import until
from tests.service.shared.host_service import CAPTURED_QUEUE
from tests.service.shared.outages import killed, within
from tests.service.shared.processes import ROOT, SECRETS, Process, started
from tests.service.shared.wire import Wire, captured

pytestmark = pytest.mark.broker
EVERYTHING_AWAY = {
    "database",
    "relay",
    "rpc",
    "rpc client",
    "queue credits.on_credit_captured",
    "queue credits.on_refund_issued",
}


@pytest.fixture
def environment(database_url: str, amqp_url: str) -> dict[str, str]:
    return {"CREDITS_DATABASE_URL": database_url, "AMQP_URL": amqp_url}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "process.log"


def test_a_process_that_has_all_it_needs_is_ready_and_shows_its_metrics(environment: dict[str, str], log: Path) -> None:
    with started(environment, log=log) as process:
        until(process.is_ready, seconds=20)

        assert process.ask("/healthz") == (200, {"status": "ok", "problems": {}})
        assert process.ask("/no-such-page")[0] == 404
        assert "darkroom_outbox_pending" in metrics_of(process)


def metrics_of(process: Process) -> str:
    with socket.create_connection(("127.0.0.1", process.ops_port), timeout=5) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.read().decode()


def test_a_process_starts_while_its_servers_are_down_says_so_and_is_ready_when_they_come(
    environment: dict[str, str], log: Path, server: Postgres, rabbitmq: Broker, wire: Wire
) -> None:
    with killed(rabbitmq), killed(server):
        process = Process(environment, log=log)
        until(lambda: process.ask("/healthz")[0] == 200, seconds=20)
        until(lambda: problems_of(process) == EVERYTHING_AWAY, seconds=20, what="every problem")
        status, _ = process.ask("/readyz")
        alive = not process.has_ended()
    try:
        until(process.is_ready, seconds=20)
        wire.send_all([captured(1)], queue=CAPTURED_QUEUE)
        until(lambda: wire.depth(CAPTURED_QUEUE) == 0)
    finally:
        process.end()

    assert (status, alive) == (503, True)


def problems_of(process: Process) -> set[str]:
    return set(process.ask("/readyz")[1]["problems"])


def test_the_first_sigterm_drains_and_the_process_ends_well(environment: dict[str, str], log: Path, wire: Wire) -> None:
    with started(environment, log=log) as process:
        until(process.is_ready, seconds=20)
        with within(8):
            process.popen.send_signal(signal.SIGTERM)
            until(process.has_ended)

    assert process.status == 0
    assert wire.consumers(CAPTURED_QUEUE) == 0
    assert [name for name in ("process_draining", "process_stopped") if name in log.read_text()] == [
        "process_draining",
        "process_stopped",
    ]


def test_a_second_sigterm_ends_the_process_at_once(environment: dict[str, str], log: Path) -> None:
    environment = {**environment, "DRAIN_SECONDS": "30", "HANDLER_SECONDS": "30"}
    wire = Wire(environment["AMQP_URL"])

    with started(environment, log=log) as process:
        until(process.is_ready, seconds=20)
        wire.send_all([captured(1)], queue=CAPTURED_QUEUE)
        until(lambda: "handler_begun" in log.read_text())
        process.popen.send_signal(signal.SIGTERM)
        until(lambda: "process_draining" in log.read_text())
        with within(2):
            process.popen.send_signal(signal.SIGTERM)
            until(process.has_ended)

    assert process.status == 1


def test_draining_ends_at_its_deadline_and_the_message_in_hand_stays_queued(
    environment: dict[str, str], log: Path, wire: Wire
) -> None:
    environment = {**environment, "DRAIN_SECONDS": "0.5", "HANDLER_SECONDS": "30"}

    with started(environment, log=log) as process:
        until(process.is_ready, seconds=20)
        wire.send_all([captured(1)], queue=CAPTURED_QUEUE)
        until(lambda: "handler_begun" in log.read_text())
        with within(4):
            process.popen.send_signal(signal.SIGTERM)
            until(process.has_ended)

    assert "drain_deadline_passed" in log.read_text()
    assert wire.left_in(CAPTURED_QUEUE) == 1


def test_a_process_raises_its_limit_of_open_files(environment: dict[str, str], log: Path) -> None:
    with started(environment, log=log, files=256) as process:
        until(lambda: process.ask("/healthz")[0] == 200, seconds=20)
        soft, hard = psutil.Process(process.popen.pid).rlimit(psutil.RLIMIT_NOFILE)

    assert soft > 256
    assert soft == min(65_536, hard) or hard < 0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AMQP_URL", None, "AMQP_URL"),
        ("CREDITS_DATABASE_URL", None, "CREDITS_DATABASE_URL"),
        ("SIGNING_SECRET", "short", "at least 32 characters"),
        ("CREDITS_OPS_ADDRESS", "nowhere", "host:port"),
        ("LOG_LEVEL", "LOUD", "DEBUG"),
        ("MAX_WORKERS", "many", "integer"),
        ("PROVIDER_ROUTES", "[]", "image.stage"),
        ("RETRY_DELAYS_SECONDS", "1,soon", "integer"),
    ],
)
def test_a_process_refuses_to_start_without_a_setting_and_names_it(name: str, value: str | None, told: str) -> None:
    environment = {
        "CREDITS_DATABASE_URL": "postgresql+psycopg2://u:p@127.0.0.1/x",
        "AMQP_URL": "amqp://u:p@127.0.0.1",
        "STORAGE_URL": "file:///x",
        "PATH": "/usr/bin:/bin",
        **SECRETS,
    }
    environment.pop(name, None)
    if value:
        environment[name] = value

    done = subprocess.run(
        [sys.executable, "-m", "shared.runner", "credits"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert name in done.stderr
    assert told in done.stderr
    assert "short" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_process_is_patched_before_anything_that_waits_is_imported() -> None:
    code = (
        "import shared.runner, psycopg2.extensions, eventlet.patcher, socket;"
        " print(eventlet.patcher.is_monkey_patched('socket'), eventlet.patcher.is_monkey_patched('thread'),"
        " psycopg2.extensions.get_wait_callback() is not None, socket.getaddrinfo.__module__)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "True", "True", "socket"]


def test_an_unknown_process_is_answered_with_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shared.runner", "debits"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "credits" in done.stderr


def test_no_secret_is_in_the_log_of_a_process_whose_servers_refuse_it(environment: dict[str, str], log: Path) -> None:
    """Wrong passwords make every library involved complain; none of them may quote what it was given."""
    password = "hunter2hunter2"
    wrong = {name: re.sub(r"(://\w+:)[^@]+@", rf"\g<1>{password}@", url) for name, url in environment.items()}

    with started({**wrong, "LOG_LEVEL": "DEBUG"}, log=log) as process:
        until(lambda: process.ask("/readyz")[0] == 503, seconds=20)
        until(lambda: "relay_interrupted" in log.read_text() and "consumer_interrupted" in log.read_text())

    text = log.read_text()
    assert password not in text
    for secret in (*SECRETS.values(), *(url.split("@")[0].rpartition(":")[2] for url in environment.values())):
        assert secret not in text
