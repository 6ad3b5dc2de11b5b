"""Processes of other programs: who they are for certain, whether they still run, and how to be rid of them.

A process id alone is no identity, since the system gives it out again; with its start time it is.
"""

import contextlib
import signal
import time
from collections.abc import Iterable, Sequence

import psutil

POLL_SECONDS = 0.05


def identity(pid: int) -> dict[str, float]:
    """What identifies a running process for good. Raises psutil.NoSuchProcess."""
    return {"pid": pid, "started": psutil.Process(pid).create_time()}


def find(known: dict[str, float]) -> psutil.Process | None:
    """The process of that identity, None when it has ended (or its id is somebody else's now)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(known["pid"]))
        if abs(process.create_time() - known["started"]) < 1 and not is_gone(process):
            return process
    return None


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; one that nobody has collected yet (a zombie) has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def with_descendants(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes and all they started, directly or not."""
    found = set()
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {root, *root.children(recursive=True)}
    return list(found)


def wait_until_gone(waited: Sequence[psutil.Process], *, timeout_seconds: float) -> list[psutil.Process]:
    """Wait for the processes to end. Returns those that still run after the time."""
    deadline = time.monotonic() + timeout_seconds
    remaining = list(waited)
    while remaining := [process for process in remaining if not is_gone(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    return remaining


def send(number: signal.Signals, receivers: Iterable[psutil.Process]) -> None:
    """Send a signal to those that still run."""
    for process in receivers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
