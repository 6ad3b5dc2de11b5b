"""Keeps one process of the stack running: starts it again when it ends, ends it when we are told to.

    python -m deploy.local.keep NAME [--start-when prepared] [--stop-after NAME,NAME] [--stop-signal INT] -- PROGRAM ...

honcho stops everything as soon as one of its processes ends; so each of its processes is a keeper, and what
may crash is the keeper's child. The child dies with the keeper, however the keeper dies (on Linux).
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

from deploy.local import home, processes, programs, records
from deploy.local.names import PROCESSES

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2.0
STABLE_SECONDS = 10.0  # a child that ran this long starts again after the first pause
STOP_AFTER_SECONDS = 13.0  # how long we wait for those that need us
STOP_SECONDS = 12.0  # how long a child has to end in order
LAST_STOP_SECONDS = 17.0  # how long, waiting included, a child has that others need; `make down` takes 20 s at most


class Asked:
    """Whether we have been asked to stop, and a wait that ends as soon as we are or a child ends."""

    def __init__(self) -> None:
        self.to_stop = False
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.to_stop = True

    def wait(self, seconds: float | None) -> None:
        """Sleep for at most that long (None: for ever); any signal ends it."""
        select.select([self._reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)


class Keeper:
    """Runs `command` as process `name` until asked to stop."""

    def __init__(self, name: str, command: list[str], *, stop_signal: signal.Signals, stop_after: list[str]) -> None:
        self._name = name
        self._command = command
        self._stop_signal = stop_signal
        self._stop_after = stop_after
        self._home = home.find_home()
        self._restarts = 0
        self._asked = Asked()

    def keep(self, *, wait_for_preparation: bool) -> None:
        """Start, watch, restart; returns when asked to stop and the child has ended."""
        with records.recorded(self._home, self._name, pid=os.getpid()):
            while wait_for_preparation and not self._home.prepared_file.exists() and not self._asked.to_stop:
                self._asked.wait(0.1)
            pause = FIRST_PAUSE_SECONDS
            while not self._asked.to_stop:
                began = time.monotonic()
                code = self._run_once()
                if self._asked.to_stop:
                    break
                ran = time.monotonic() - began
                pause = FIRST_PAUSE_SECONDS if ran > STABLE_SECONDS else pause
                self._tell(f"ended ({describe(code)}) after {ran:.1f} s; starting again in {pause:.1f} s")
                self._pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                self._restarts += 1

    def _run_once(self) -> int:
        command = programs.on_leash(self._command)
        child = programs.start(command, log=self._home.log(self._name))
        records.write(self._home, self._name, keeper_pid=os.getpid(), child_pid=child.pid, restarts=self._restarts)
        while child.poll() is None and not self._asked.to_stop:
            self._asked.wait(None)
        if child.poll() is None:
            self._stop(child)
        programs.signal_group(child, signal.SIGKILL)  # whatever the child left behind
        return child.wait()

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        asked, grace = time.monotonic(), STOP_SECONDS
        if self._stop_after:
            kept = [records.read(self._home, name).keeper for name in self._stop_after]
            others = [keeper for keeper in kept if keeper is not None]
            processes.wait_until_gone(others, timeout_seconds=STOP_AFTER_SECONDS)
            grace = LAST_STOP_SECONDS - (time.monotonic() - asked)
        child.send_signal(self._stop_signal)
        deadline = time.monotonic() + grace
        while child.poll() is None and time.monotonic() < deadline:
            self._asked.wait(deadline - time.monotonic())
        if child.poll() is None:
            self._tell(f"did not end within {grace:.0f} s of being asked to; killing it")

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._asked.to_stop and (left := deadline - time.monotonic()) > 0:
            self._asked.wait(left)

    def _tell(self, what: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} keeper: {self._name} {what}"
        print(line, flush=True)
        with self._home.log(self._name).open("a") as log:
            log.write(f"{line}\n")


def describe(code: int) -> str:
    """An exit code in words: `exit code 1`, `killed by SIGKILL`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main(arguments: list[str]) -> None:
    """Read the command line and keep."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.keep")
    parser.add_argument("name")
    parser.add_argument("--start-when", choices=["prepared"], help="wait for databases and topology first")
    parser.add_argument("--stop-after", default="", help="names to outlive, comma-separated; `services` is all")
    parser.add_argument("--stop-signal", default="SIGTERM", help="what asks the program to end")
    divider = arguments.index("--")
    given = parser.parse_args(arguments[:divider])
    stop_after = [name for name in given.stop_after.split(",") if name]
    if "services" in stop_after:
        stop_after = [*PROCESSES, *(name for name in stop_after if name != "services")]
    keeper = Keeper(
        given.name,
        arguments[divider + 1 :],
        stop_signal=signal.Signals[given.stop_signal],
        stop_after=stop_after,
    )
    keeper.keep(wait_for_preparation=given.start_when == "prepared")


if __name__ == "__main__":
    main(sys.argv[1:])
