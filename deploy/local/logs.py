"""`make logs`: the logs of one process or of all, each line under its process's name, as they grow."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from deploy.local import programs
from deploy.local.home import Home

POLL_SECONDS = 0.2


def follow(stack: Home, *, name: str | None, lines: int) -> None:
    """Print the last `lines` of each log, then what is added, until interrupted.

    `name` is a process (`credits`, `generation-worker`, `postgres`); None means all. Raises RuntimeError when
    there is no such log.
    """
    logs = sorted(stack.logs.glob(f"{name or '*'}.log"))
    if not logs:
        known = ", ".join(sorted(log.stem for log in stack.logs.glob("*.log"))) or "none yet: make up"
        raise RuntimeError(f"There is no log of {name or 'any process'}. There are: {known}")
    width = max(len(log.stem) for log in logs)
    for log in logs:
        for line in programs.tail(log, lines=lines).splitlines():
            print(f"{log.stem:<{width}} | {line}")
    for log, line in added(logs):
        print(f"{log.stem:<{width}} | {line}", flush=True)


def added(logs: list[Path]) -> Iterator[tuple[Path, str]]:
    """Lines as they are added to the files, for ever; a file that was replaced is opened again."""
    with ExitStack() as opened:
        files = {log: _open_at_end(log, opened) for log in logs}
        rest = dict.fromkeys(logs, "")
        while True:
            for log, file in files.items():
                *complete, rest[log] = (rest[log] + file.read()).split("\n")
                for line in complete:
                    yield log, line
                if log.exists() and log.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    files[log] = opened.enter_context(log.open(errors="replace"))
            time.sleep(POLL_SECONDS)


def _open_at_end(log: Path, opened: ExitStack) -> IO[str]:
    file = opened.enter_context(log.open(errors="replace"))
    file.seek(0, 2)
    return file
