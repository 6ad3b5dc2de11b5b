"""Throw-away PostgreSQL servers and RabbitMQ nodes, started from Python: what the tests build on.

Each lives below a folder the caller gives and on free ports, and ends with the process that started it, even
if that one is killed (Linux watches the thread that started it, so start them from one that stays). The lasting
stack of `make up` is built from the same parts, by `up.py`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil

from deploy.local import accounts, databases, ports, postgres, processes, programs, rabbitmq

THROW_AWAY = "darkroom-throw-away-"


class Postgres:
    """A running PostgreSQL server (see `start_postgres`)."""

    def __init__(self, server: postgres.Server, *, log: Path) -> None:
        self._server = server
        self._log = log
        self._passwords = {postgres.SUPERUSER: server.password}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def superuser_url(self) -> str:
        """Address of the database `postgres` as superuser, for SQLAlchemy (`postgresql+psycopg2://`)."""
        return self._server.url

    @property
    def log(self) -> Path:
        """What the server writes down."""
        return self._log

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self._server.port

    @property
    def pid(self) -> int:
        """Process id of the server's main process. Raises RuntimeError when it is stopped."""
        if self._process is None:
            raise RuntimeError("This PostgreSQL server is stopped.")
        return self._process.pid

    def url_for(self, database: str, *, role: str | None = None) -> str:
        """Address of `database` for `role` (default: the role of the same name), for SQLAlchemy.

        Raises KeyError for a role that was not made by `create_service_database`.
        """
        role = role or database
        return self._server.url_for(database, role=role, password=self._passwords[role])

    def create_service_database(self, name: str) -> str:
        """Make role and database `name` as `make up` does for a service. Returns the role's address."""
        password = self._passwords.setdefault(name, postgres.new_password())
        databases.create_service_database(self._server, name=name, password=password)
        return self.url_for(name)

    def clone_database(self, *, template: str, name: str) -> str:
        """Copy database `template`, to which nobody may be connected. Returns the owner's address.

        The template must be named like its role, as `create_service_database` makes it.
        """
        databases.clone_database(self._server, template=template, name=name)
        return self.url_for(name, role=template)

    def drop_database(self, name: str) -> None:
        """Remove a database if it is there, ending the sessions in it."""
        databases.drop_database(self._server, name=name)

    def start(self) -> None:
        """Start it and wait until it lets us in. Raises NotReady with the end of its log."""
        self._process = postgres.start(self._server, log=self._log)
        programs.wait_until(
            lambda: postgres.is_ready(self._server),
            what="PostgreSQL",
            timeout_seconds=30,
            process=self._process,
            log=self._log,
        )

    def kill(self) -> None:
        """Kill -9 of the main process, as a crash; its helpers have ended by themselves when this returns."""
        helpers = psutil.Process(self.pid).children(recursive=True)
        self._end(signal.SIGKILL)
        processes.wait_until_gone(helpers, timeout_seconds=10)

    def stop(self) -> None:
        """End it at once and remove its data."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self._server.data.parent, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            programs.end(self._process, number=number, timeout_seconds=20)
            self._process = None


class Broker:
    """A running RabbitMQ node (see `start_rabbitmq`)."""

    def __init__(self, node: rabbitmq.Node) -> None:
        self._node = node
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """AMQP address, user and password in it, virtual host `/`."""
        return self._node.url

    @property
    def port(self) -> int:
        """Its AMQP port on 127.0.0.1."""
        return self._node.port

    @property
    def pid(self) -> int:
        """Process id of the Erlang machine. Raises RuntimeError when it is stopped."""
        if self._process is None:
            raise RuntimeError("This RabbitMQ node is stopped.")
        return self._process.pid

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl (about 1 s). Returns its output; raises RuntimeError with its text on failure."""
        return rabbitmq.control(self._node, *arguments)

    def start(self) -> None:
        """Start it and wait until it speaks AMQP (4 to 8 s). Raises NotReady with the end of its log."""
        if self._epmd is None or self._epmd.poll() is not None:
            self._epmd = rabbitmq.start_epmd(self._node)
        self._process = rabbitmq.start(self._node)
        programs.wait_until(
            lambda: rabbitmq.is_ready(self._node),
            what="RabbitMQ",
            timeout_seconds=60,
            process=self._process,
            log=self._node.log,
        )

    def kill(self) -> None:
        """Kill -9, as a crash. Its data stays; `start` brings it back with its quorum queues.

        RabbitMQ registers a new quorum queue on disk up to half a second after the declaration was answered: one
        declared just before the kill comes back broken. Leave a second between the two.
        """
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the node in order (about 2 s) and the port mapper. Its data stays."""
        self._end(signal.SIGTERM)
        if self._epmd is not None:
            programs.end(self._epmd, number=signal.SIGTERM, timeout_seconds=5)
            self._epmd = None

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            programs.end(self._process, number=number, timeout_seconds=20)
            self._process = None


def start_postgres(home: Path, *, durable: bool = False) -> Postgres:
    """Start a PostgreSQL server of its own (about 1 s); its log is `home/postgres.log`.

    `durable=False` turns fsync off: it then survives a kill, but not the loss of the machine. Its data lies in
    a temporary folder, which PostgreSQL's account can reach when we are root. Raises RuntimeError when it cannot
    start.
    """
    home.mkdir(parents=True, exist_ok=True)
    account = accounts.account_for_postgres()
    server = postgres.Server(
        data=_throw_away_folder(account) / "data",
        port=ports.pick(),
        programs=postgres.programs_for(account),
        account=account,
        password=postgres.new_password(),
        durable=durable,
    )
    postgres.make_data(server)
    running = Postgres(server, log=home / "postgres.log")
    running.start()
    databases.close_cluster(server)
    return running


def start_rabbitmq(home: Path) -> Broker:
    """Start a RabbitMQ node of its own below `home/rabbitmq` (4 to 8 s). Raises RuntimeError otherwise."""
    port, distribution_port, epmd_port = ports.pick_several(3)
    node = rabbitmq.Node(
        folder=(home / "rabbitmq").resolve(),
        name=rabbitmq.new_name(),
        port=port,
        distribution_port=distribution_port,
        epmd_port=epmd_port,
        password=postgres.new_password(),
        cookie=rabbitmq.new_cookie(),
    )
    rabbitmq.make_folder(node)
    broker = Broker(node)
    broker.start()
    return broker


def _throw_away_folder(account: str | None) -> Path:
    """A folder that the account can reach whatever the caller's own folders allow, named by our process id."""
    root = Path(tempfile.gettempdir())
    for place in (root, postgres.SYSTEM_FOLDER):
        _remove_left_behind(place)
    if account is not None and not accounts.may_enter(root, account=account):
        root = postgres.SYSTEM_FOLDER
        postgres.open_folder(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{THROW_AWAY}{os.getpid()}-", dir=root))
    if account is not None:
        folder.chmod(0o711)
    return folder


def _remove_left_behind(root: Path) -> None:
    """Remove what runs that were killed could not remove."""
    for folder in root.glob(f"{THROW_AWAY}*"):
        pid = int(folder.name.removeprefix(THROW_AWAY).partition("-")[0])
        if folder.stat().st_uid == os.getuid() and not psutil.pid_exists(pid):
            shutil.rmtree(folder, ignore_errors=True)
