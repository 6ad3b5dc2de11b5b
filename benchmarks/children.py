"""A contender in a process of its own: started, told to go, its processor time read, ended."""

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil

from deploy.local import programs

READY_SECONDS = 60.0
ROOT = Path(__file__).resolve().parent.parent


class ChildFailed(Exception):
    """A contender ended or hung; the message has the end of its log."""


class Running(Protocol):
    """What is measured: a process, or several that are one contender."""

    def cpu_seconds(self) -> float:
        """Return the processor time it has used so far, with what it started."""
        ...

    def fail_if_gone(self) -> None:
        """Raise `ChildFailed` when it has ended although nobody asked it to."""
        ...


class Child:
    """A running contender; `running` makes them."""

    def __init__(self, process: subprocess.Popen[bytes], *, name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    def tell(self, word: str) -> None:
        """Send a line; a contender that is gone is noticed at the next `expect`."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(f"{word}\n".encode())
            self._stdin.flush()

    def expect(self, word: str, *, seconds: float) -> None:
        """Wait until the contender says ``word``.

        Raises:
            ChildFailed: it ended, said something else, or did not answer in ``seconds``.
        """
        output: Any = self._process.stdout
        readable, _, _ = select.select([output], [], [], seconds)
        said = output.readline().decode().strip() if readable else "nothing"
        if said != word:
            raise ChildFailed(f"{self._name} said {said!r} instead of {word!r}. Its log:\n{programs.tail(self._log)}")

    def fail_if_gone(self) -> None:
        """Raise `ChildFailed` when the contender has ended although nobody asked it to."""
        if self._process.poll() is not None:
            raise ChildFailed(f"{self._name} ended. Its log:\n{programs.tail(self._log)}")

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the processor time it, and what it started, has used so far."""
        first = psutil.Process(self._process.pid)
        times = [one.cpu_times() for one in [first, *first.children(recursive=True)]]
        return sum(each.user + each.system for each in times)

    def end(self) -> None:
        """Close the pipe, which asks the contender to finish and leave; kill it when it does not."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        programs.end(self._process, number=signal.SIGKILL, timeout_seconds=5)
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def _stdin(self) -> Any:
        return self._process.stdin


@contextlib.contextmanager
def running(module: str, *, log_folder: Path, **orders: Any) -> Iterator[Child]:
    """Start ``python -m module``, give it its orders and wait until it is ready; end it after the block."""
    log = log_folder / f"{module}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  our own module
            programs.on_leash([sys.executable, "-W", "ignore", "-m", module]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            process_group=0,
        )
    child = Child(process, name=module, log=log)
    try:
        child.tell(json.dumps(orders))
        child.expect("ready", seconds=READY_SECONDS)
        yield child
    finally:
        child.end()


def wait_until(
    done: Callable[[], Any], *, child: Running, seconds: float, what: str, every_seconds: float = 0.005
) -> None:
    """Ask ``done`` every ``every_seconds`` until it says yes.

    Raises:
        ChildFailed: the contender ended, or ``seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while not done():
        child.fail_if_gone()
        if time.monotonic() > deadline:
            raise ChildFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(every_seconds)
