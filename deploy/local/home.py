"""The folder of one embedded stack (`.local`, or DARKROOM_HOME): what lies where, and how its files are written."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """Where the files of one stack are."""

    folder: Path

    @property
    def environment_file(self) -> Path:
        """The settings of the processes, KEY=value lines."""
        return self.folder / "env"

    @property
    def secrets_file(self) -> Path:
        """Passwords and keys, made once."""
        return self.folder / "secrets.json"

    @property
    def ports_file(self) -> Path:
        """Port by name."""
        return self.folder / "ports.json"

    @property
    def credentials_file(self) -> Path:
        """What a client needs: gateway address and keys."""
        return self.folder / "credentials.json"

    @property
    def storage(self) -> Path:
        """The object store's folder."""
        return self.folder / "storage"

    @property
    def mail(self) -> Path:
        """The folder mails are written into, in place of a mail server."""
        return self.folder / "mail"

    @property
    def run(self) -> Path:
        """Process ids of what runs now."""
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.folder / "logs"

    @property
    def prepared_file(self) -> Path:
        """There once the databases are migrated and the topology is declared: the services may start."""
        return self.run / "prepared"

    def log(self, process: str) -> Path:
        """The log of one process."""
        return self.logs / f"{process}.log"

    def make(self) -> None:
        """Make the folders. Others may pass through (PostgreSQL's own account must), but not look around."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        for private in (self.storage, self.mail, self.run, self.logs):
            private.mkdir(exist_ok=True)
            private.chmod(0o700)


def find_home() -> Home:
    """The stack of this checkout, or of DARKROOM_HOME."""
    return Home(Path(os.environ.get("DARKROOM_HOME") or CHECKOUT / ".local").resolve())


@contextlib.contextmanager
def locked(stack: Home) -> Iterator[None]:
    """One `up` or `down` at a time: a second one waits for the first."""
    with (stack.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, all at once: a reader sees the old text or the new, never half."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(draft).replace(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file, None when there is none. Raises RuntimeError when it is damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RuntimeError(f"{path} is damaged ({error}). Repair it, or remove it to have it made anew.") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that only we may read."""
    write_private(path, json.dumps(content, indent=2) + "\n")
