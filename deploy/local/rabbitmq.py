"""One private RabbitMQ node: where its programs are, its folder, its settings, how it is started and asked.

The scripts of the package are run directly, not the wrappers in sbin, which change to the system's RabbitMQ
user and its folders. Every port is on 127.0.0.1, the port mapper's (epmd) too. Knows no queue by name.
"""

import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local import programs

USER = "darkroom"
KNOWN_FOLDERS = (
    Path("/usr/lib/rabbitmq/bin"),  # Debian, Ubuntu
    Path("/opt/homebrew/opt/rabbitmq/sbin"),  # Homebrew on Apple silicon
    Path("/usr/local/opt/rabbitmq/sbin"),  # Homebrew on Intel
)
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A RabbitMQ node of ours. All it writes is below `folder`."""

    folder: Path
    name: str
    port: int
    distribution_port: int
    epmd_port: int
    password: str
    cookie: str

    @property
    def url(self) -> str:
        """AMQP address of the default virtual host."""
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.port}/%2F"

    @property
    def log(self) -> Path:
        """Where the node's output goes when nobody else takes it."""
        return self.folder / "node.log"


def find_scripts() -> Path:
    """Folder of the scripts rabbitmq-server and rabbitmqctl. Raises RuntimeError when they are missing."""
    for folder in KNOWN_FOLDERS:
        if (folder / "rabbitmq-server").exists():
            return folder
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise RuntimeError("RabbitMQ is not installed. Run: make setup (or give AMQP_URL of a broker of yours)")
    return Path(found).resolve().parent


def find_epmd() -> Path:
    """Erlang's port mapper: beside erl, or inside Erlang's own folder. Raises RuntimeError when missing."""
    found = shutil.which("epmd")
    if found is not None:
        return Path(found)
    erl = shutil.which("erl")
    inside = [] if erl is None else sorted(Path(erl).resolve().parent.parent.glob("**/erts-*/bin/epmd"))
    if not inside:
        raise RuntimeError("Erlang's epmd was not found beside RabbitMQ. Reinstall the packages rabbitmq-server.")
    return inside[-1]


def make_folder(node: Node) -> None:
    """Write the node's settings, user and cookie; data that is there stays."""
    for folder in (node.folder, _home(node), node.folder / "data"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    _write_private(node.folder / "rabbitmq.conf", _settings(node))
    _write_private(node.folder / "enabled_plugins", "[].\n")
    _write_private(_home(node) / ".erlang.cookie", node.cookie)


def _settings(node: Node) -> str:
    settings = {
        # In place of `guest`, and only when the data is made.
        "default_user": USER,
        "default_pass": node.password,
        "default_user_tags.administrator": "true",
        "listeners.tcp.local": f"127.0.0.1:{node.port}",
        "heartbeat": "30",
        "disk_free_limit.absolute": "50MB",
        # The write-ahead log of quorum queues is kept in memory as well; the default is 512 MB.
        "raft.wal_max_size_bytes": str(64 * 1024 * 1024),
        "log.console": "true",
        "log.console.level": "info",
        "log.file": "false",
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # the cookie is read-only
    path.touch(0o600)
    path.write_text(text)
    path.chmod(0o400)


def _home(node: Node) -> Path:
    return node.folder / "home"


def environment(node: Node) -> dict[str, str]:
    """What the node and rabbitmqctl run with: nothing of the system's RabbitMQ reaches them."""
    folder = node.folder
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{kept.get('PATH', '')}:/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"
    loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    return kept | {
        "HOME": str(_home(node)),
        "ERL_EPMD_PORT": str(node.epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment-file"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(folder / "node.pid"),
        "RABBITMQ_NODENAME": node.name,
        "RABBITMQ_NODE_PORT": str(node.port),
        "RABBITMQ_DIST_PORT": str(node.distribution_port),
        # Run the Erlang machine in place of the script, so that the process we started is the node itself.
        "RABBITMQ_ALLOW_INPUT": "true",
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # several nodes share the cores
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 2:2 -noinput {loopback}",
        "RABBITMQ_CTL_ERL_ARGS": loopback,
    }


def epmd_command(node: Node) -> list[str]:
    """The port mapper in the foreground: the one a node starts by itself would stay behind for ever."""
    return [str(find_epmd()), "-address", "127.0.0.1", "-port", str(node.epmd_port)]


def start_epmd(node: Node) -> subprocess.Popen[bytes]:
    """Start the port mapper and wait for its port."""
    log = node.folder / "epmd.log"
    process = programs.start(programs.on_leash(epmd_command(node)), log=log, environment=environment(node))
    programs.wait_until(
        lambda: programs.accepts_connections(node.epmd_port),
        what="epmd",
        timeout_seconds=10,
        process=process,
        log=log,
    )
    return process


def start(node: Node) -> subprocess.Popen[bytes]:
    """Start the node; epmd must listen already, or the node starts one that nobody ends."""
    command = programs.on_leash([str(find_scripts() / "rabbitmq-server")])
    return programs.start(command, log=node.log, environment=environment(node))


def is_ready(node: Node) -> bool:
    """Whether the node answers the first bytes of AMQP."""
    try:
        with socket.create_connection(("127.0.0.1", node.port), timeout=1) as connection:
            connection.sendall(PROTOCOL_HEADER)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False


def control(node: Node, *arguments: str, timeout_seconds: float = 60) -> str:
    """Run rabbitmqctl against the node. Returns its output; raises RuntimeError with its text on failure."""
    done = subprocess.run(
        [str(find_scripts() / "rabbitmqctl"), *arguments],
        env=environment(node),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def new_name() -> str:
    """A name for a node. Its data hangs on it, so it is kept; the host's own name, which may change, is not in it."""
    return f"darkroom-{secrets.token_hex(4)}@localhost"


def new_cookie() -> str:
    """The secret that lets Erlang programs talk to the node."""
    return secrets.token_hex(20)
