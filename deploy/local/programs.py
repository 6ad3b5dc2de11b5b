"""Starting a program so that it cannot outlive whoever started it, and ending it again.

Knows signals, process groups and log files; nothing about any particular program.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
LOG_LIMIT_BYTES = 10 * 1024 * 1024


class NotReady(RuntimeError):
    """A program did not become ready in its time, or ended before; the text says which and why."""


def on_leash(
    command: Sequence[str],
    *,
    account: str | None = None,
    on_parent_death: signal.Signals = signal.SIGKILL,
    parent: int | None = None,
) -> list[str]:
    """`command`, wrapped so that Linux ends it together with its parent, however that one ends.

    `account` is the system user to become (only root may ask for one); `parent` the process that will be the
    parent, this one unless given.
    """
    holder = str(parent or os.getpid())
    leash = [sys.executable, "-I", "-S", str(LEASH), holder, on_parent_death.name, account or "-"]
    return [*leash, *command]


def start(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` in its own process group, its output appended to `log` (see `trim`)."""
    trim(log)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            process_group=0,
        )


def trim(log: Path) -> None:
    """Empty a log that has grown past 10 MB; its last state is kept beside it as `<name>.old`."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_name(f"{log.name}.old"))


def tail(log: Path, *, lines: int = 20) -> str:
    """The last lines of a log, empty when there is none."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and all it started; nothing happens when all are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def end(process: subprocess.Popen[bytes], *, number: signal.Signals, timeout_seconds: float) -> None:
    """Send the process `number`, wait for it, then kill whatever remains of its group."""
    if process.poll() is None:
        process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_seconds)
    signal_group(process, signal.SIGKILL)
    process.wait()


def accepts_connections(port: int) -> bool:
    """Whether something on this machine listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(
    ready: Callable[[], bool],
    *,
    what: str,
    timeout_seconds: float,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    """Poll `ready` until it is true. Raises NotReady after the time limit, or when `process` has ended."""
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            reason = "ended while starting" if ended else f"was not ready after {timeout_seconds:.0f} s"
            raise NotReady(f"{what} {reason}." + (f" End of {log}:\n{tail(log)}" if log else ""))
        time.sleep(0.02)
