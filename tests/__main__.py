"""`make test`: every test, in several pytest processes side by side, since most of them wait for servers.

Each has servers of its own. Whatever is not named here runs in the first, so that no new folder is forgotten. Limits of
a second or two are part of the product, and cannot be judged while two cores are shared by all: what fails is run once
more, alone, and said by name. It fails the run if it fails then too.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# About as long as each other, and as the rest.
BESIDE = (
    ("tests/service/shared", "tests/service/credits", "tests/service/notifications"),
    ("tests/e2e", "tests/flows"),
    ("tests/service/generation", "tests/service/gateway"),
)
REST = ("tests", *(f"--ignore={folder}" for folders in BESIDE for folder in folders))
# More than this is no lack of time.
JUDGED_AGAIN_AT_MOST = 10
SOME_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pytest process, what it prints, and where it notes which tests failed."""

    folders: Sequence[str]
    process: subprocess.Popen[str]
    output: IO[str] | None
    notes: Path


def main() -> int:
    """Run all tests; print what each process says; return 0 if all are good."""
    began = time.monotonic()
    named = [folder for folders in BESIDE for folder in folders]
    say(f"Beside these tests run those of {', '.join(named)}; their output follows.")
    with tempfile.TemporaryDirectory() as home:
        runs = [_started(folders, Path(home) / f"{number}") for number, folders in enumerate(BESIDE)]
        try:
            runs.insert(0, _started(REST, Path(home) / "rest", aside=False))
            codes = [_end_of(run) for run in runs]
        finally:
            for run in runs:
                run.process.terminate()
        codes = [_judged_again(run) if code == SOME_FAILED else code for run, code in zip(runs, codes, strict=True)]
    say(f"All tests took {time.monotonic() - began:.0f} s.")
    return max(codes, key=abs)


def _started(folders: Sequence[str], notes: Path, *, aside: bool = True) -> Run:
    """Start the tests of ``folders``; what they print is kept for later where they run ``aside``."""
    output = tempfile.TemporaryFile("w+") if aside else None  # noqa: SIM115  closed when it has been printed
    process = subprocess.Popen(_pytest(notes, *folders), stdout=output, stderr=subprocess.STDOUT, text=True)
    return Run(folders=folders, process=process, output=output, notes=notes)


def _pytest(notes: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={notes}", *arguments]


def _end_of(run: Run) -> int:
    """Wait for a process and print what it said; return its exit status."""
    code = run.process.wait()
    if run.output:
        run.output.seek(0)
        say(run.output.read())
        run.output.close()
    return code


def _judged_again(run: Run) -> int:
    """Run once more, alone, what failed; return the exit status of that."""
    failed = _pytest(run.notes, "--last-failed", *run.folders)
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
