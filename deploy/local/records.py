"""What runs now, by name: each keeper records itself and its child in `.local/run/<name>.json`."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from deploy.local import home, processes
from deploy.local.home import Home

# The supervisor of all keepers (honcho) records itself under this name.
SUPERVISOR = "honcho"


@dataclass(frozen=True)
class Record:
    """One entry. `keeper` and `child` are None when they have ended; `restarts` counts new starts of the child."""

    name: str
    keeper: psutil.Process | None
    child: psutil.Process | None
    restarts: int

    @property
    def alive(self) -> list[psutil.Process]:
        """Those of the two that run."""
        return [process for process in (self.keeper, self.child) if process is not None]


def write(stack: Home, name: str, *, keeper_pid: int, child_pid: int | None, restarts: int = 0) -> None:
    """Record a keeper and its child, replacing what was recorded under the name."""
    content: dict[str, Any] = {"keeper": processes.identity(keeper_pid), "child": None, "restarts": restarts}
    content["home"] = str(stack.folder)
    if child_pid is not None:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended at once
            content["child"] = processes.identity(child_pid)
    home.write_json(stack.run / f"{name}.json", content)


def read(stack: Home, name: str) -> Record:
    """The record of a name; both parts None when there is none.

    One that came here by copying the folder of another stack is none: its processes are not ours to end.
    """
    content = home.read_json(stack.run / f"{name}.json") or {}
    if content.get("home") != str(stack.folder):
        content = {}
    keeper, child = (content.get(part) for part in ("keeper", "child"))
    return Record(
        name=name,
        keeper=processes.find(keeper) if keeper else None,
        child=processes.find(child) if child else None,
        restarts=content.get("restarts", 0),
    )


def read_all(stack: Home) -> list[Record]:
    """Every record there is."""
    return [read(stack, file.stem) for file in sorted(stack.run.glob("*.json"))]


def remove(stack: Home, name: str) -> None:
    """Forget a name."""
    (stack.run / f"{name}.json").unlink(missing_ok=True)


@contextlib.contextmanager
def recorded(stack: Home, name: str, *, pid: int) -> Iterator[None]:
    """Record process `pid` under the name for the time of the block."""
    write(stack, name, keeper_pid=pid, child_pid=None)
    try:
        yield
    finally:
        remove(stack, name)
