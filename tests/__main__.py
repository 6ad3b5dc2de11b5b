"""`make test`: every test, in several pytest processes side by side, since most of them wait for servers.

Each process has servers of its own and takes one group; who is done takes the next, the longest first. What they write
lies in memory where there is room for it: their databases need not survive a loss of power, and a disk that several
share is slow. Limits of a second or two are part of the product, and cannot be judged while two cores are shared by
all: what fails is run once more, alone, and said by name. It fails the run if it fails then too.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = 4
# The longest first, so that none runs alone at the end. Whatever is not named belongs to the rest, so that no new
# folder is forgotten.
NAMED = (
    "tests/unit",
    "tests/flows",
    "tests/service/notifications",
    "tests/service/shared",
    "tests/e2e",
    "tests/service/gateway",
    "tests/service/generation",
    "tests/service/credits",
)
MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
ROOM_IN_MEMORY_BYTES = 3 << 30
PROGRESS_SECONDS = 20
# More than this is no lack of time.
JUDGED_AGAIN_AT_MOST = 10
SOME_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tests that one pytest process runs: its arguments, and what they are called here."""

    name: str
    arguments: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pytest process, the file with what it prints, and where it notes which tests failed."""

    group: Group
    process: subprocess.Popen[bytes]
    output: Path
    notes: Path

    def progress(self) -> str:
        """Return how far it is, as pytest last said."""
        said = re.findall(r"\[ *(\d+%)\]", self.output.read_text())
        return f"{self.group.name} {said[-1] if said else '0%'}"


def groups() -> list[Group]:
    """Return all there is to run, the longest first."""
    rest = Group(name="all others", arguments=("tests", *(f"--ignore={folder}" for folder in NAMED)))
    return [*(Group(name=folder, arguments=(folder,)) for folder in NAMED), rest]


def main() -> int:
    """Run all tests; say how far they are, and how each group ended; return 0 if all are good."""
    began = time.monotonic()
    with _home() as home:
        os.environ["TMPDIR"] = str(home)
        runs = _all_run(home, began=began)
        codes = [_judged(run) for run in runs]
    failed = [run.group.name for run, code in zip(runs, codes, strict=True) if code]
    say(f"All tests took {time.monotonic() - began:.0f} s and {_cpu_seconds():.0f} s of CPU time.")
    say(f"Failed: {'; '.join(failed)}" if failed else "All are good.")
    return max(codes, key=abs)


@contextmanager
def _home() -> Iterator[Path]:
    """Make the folder for all that is written, which the account of PostgreSQL may pass through."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_IN_MEMORY_BYTES and "TMPDIR" not in os.environ
    with tempfile.TemporaryDirectory(
        prefix="darkroom-tests-", dir=MEMORY if in_memory else None, ignore_cleanup_errors=True
    ) as home:
        Path(home).chmod(0o711)
        yield Path(home)


def _all_run(home: Path, *, began: float) -> list[Run]:
    """Run every group, several at once, until all have ended."""
    waiting, running, ended = deque(groups()), list[Run](), list[Run]()
    told = began
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(_started(waiting.popleft(), home / f"{len(ended) + len(running)}"))
            for run in list(running):
                before = _cpu_seconds()
                if run.process.poll() is not None:
                    running.remove(run)
                    ended.append(run)
                    _tell_end(run, cpu_seconds=_cpu_seconds() - before)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                ahead = f"; {len(waiting)} groups are still to begin" if waiting else ""
                say(f"{told - began:4.0f} s: {', '.join(run.progress() for run in running)}{ahead}")
            time.sleep(0.2)
    finally:
        for run in running:
            run.process.terminate()
    return ended


def _started(group: Group, notes: Path) -> Run:
    notes.mkdir()
    output = notes / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(_pytest(notes, *group.arguments), stdout=file, stderr=subprocess.STDOUT)
    return Run(group=group, process=process, output=output, notes=notes)


def _pytest(notes: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={notes / 'cache'}", *arguments]


def _tell_end(run: Run, *, cpu_seconds: float) -> None:
    """Say how a group ended: in a line if it is good, else with all that it printed."""
    printed = run.output.read_text().rstrip()
    if run.process.returncode:
        say(printed)
    said_last = printed.rpartition("\n")[2]
    say(f"{run.group.name}: {said_last}, {cpu_seconds:.0f} s of CPU time")


def _cpu_seconds() -> float:
    """Return the CPU time of all processes of ours that have ended, with those they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _judged(run: Run) -> int:
    """Return the exit status of a group: of what failed in it, once more and alone, where that is not too much."""
    if run.process.returncode != SOME_FAILED:
        return run.process.returncode
    failed = _pytest(run.notes, "--last-failed", *run.group.arguments)
    found = subprocess.run([*failed, "--collect-only"], capture_output=True, text=True, check=False)
    names = [line for line in found.stdout.splitlines() if "::" in line]
    if not 0 < len(names) <= JUDGED_AGAIN_AT_MOST:
        return SOME_FAILED
    say("\n".join(["These failed while others ran, and are run once more, alone:", *names]))
    return subprocess.run(failed, check=False).returncode


def say(text: str) -> None:
    """Print ``text`` at once."""
    print(text, flush=True)  # noqa: T201  a command prints


if __name__ == "__main__":
    sys.exit(main())
