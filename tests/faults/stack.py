"""A stack of its own for the fault matrix, in a temporary folder, with a file that arms crash points."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from deploy.local import records
from deploy.local.home import Home

# So many operations are under way when a worker dies: few enough that most of a row's jobs are not.
WORKER_SLOTS = 8
CHECKOUT = Path(__file__).resolve().parents[2]


class Stack:
    """A running stack whose processes can be killed; its keepers start them again."""

    def __init__(self, home: Path, checkout: Path = CHECKOUT, **variables: str) -> None:
        self.home = home
        self._checkout = checkout
        self.crash_file = home / "crash"
        self._environment = {
            **os.environ,
            "DARKROOM_HOME": str(home),
            "CRASH_FILE": str(self.crash_file),
            "RETRY_DELAYS_SECONDS": "1,2,3,4,5",
            "WORKER_SLOTS": str(WORKER_SLOTS),
            **variables,
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours against this stack."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self._checkout,
            env=self._environment | self._variables(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def pid(self, process: str) -> int:
        """Return the id of a process of the stack."""
        child = records.read(Home(self.home), process).child
        if child is None:
            raise LookupError(f"{process} is not running")
        return int(child.pid)

    def kill(self, process: str) -> None:
        """kill -9 a process, and what it started (PostgreSQL's backends, RabbitMQ's helpers)."""
        victim = psutil.Process(self.pid(process))
        for one in [victim, *victim.children(recursive=True)]:
            with_suppressed(one)

    def restarts(self, process: str) -> int:
        """Return how often a process was started again."""
        return records.read(Home(self.home), process).restarts

    def arm(self, point: str) -> None:
        """Let the next process that reaches ``point`` die there."""
        self.crash_file.write_text(point)

    @property
    def armed(self) -> bool:
        """Whether the crash point has not been reached yet."""
        return self.crash_file.exists()

    def disarm(self) -> None:
        """Take a crash point back that was never reached."""
        self.crash_file.unlink(missing_ok=True)

    def _variables(self) -> dict[str, str]:
        """Return what `make up` wrote for its processes, so that our commands reach the same servers."""
        file = self.home / "env"
        if not file.exists():
            return {}
        pairs = (line.partition("=") for line in file.read_text().splitlines() if "=" in line)
        return {name: value for name, _, value in pairs}


def with_suppressed(process: psutil.Process) -> None:
    """Kill one process that may have gone already."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


@contextmanager
def running_stack(checkout: Path = CHECKOUT, **variables: str) -> Iterator[Stack]:
    """Start a stack in a temporary folder; stop it and remove the folder at the end, whatever happened.

    ``checkout`` is whose code it runs, ``variables`` are settings of its processes.
    """
    home = Path(tempfile.mkdtemp(prefix="darkroom-faults-"))
    stack = Stack(home, checkout, **variables)
    try:
        started = stack.command("deploy.local", "up")
        if started.returncode:
            raise RuntimeError(f"the stack did not start:\n{started.stdout}\n{started.stderr}")
        yield stack
    finally:
        stopped = stack.command("deploy.local", "down")
        if stopped.returncode == 0:
            shutil.rmtree(home, ignore_errors=True)
        else:
            print(f"the stack did not stop; its folder stays: {home}\n{stopped.stdout}{stopped.stderr}")  # noqa: T201
