"""`make test`: every test, in several pytest processes side by side, since most of them wait for servers.

Each has servers of its own. Whatever is not named here runs in the first, so that no new folder is forgotten.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

# About as long as each other, and as the rest.
BESIDE = (
    ("tests/service/shared", "tests/service/credits"),
    ("tests/e2e", "tests/service/generation"),
)
PYTEST = (sys.executable, "-m", "pytest", "-q")


def main() -> int:
    """Run all tests; print what each process says; return 0 if all are good."""
    began = time.monotonic()
    named = [folder for folders in BESIDE for folder in folders]
    print(f"Beside these tests run those of {', '.join(named)}; their output follows.", flush=True)  # noqa: T201  a command prints
    with contextlib.ExitStack() as stack:
        beside = [stack.enter_context(_running(folders)) for folders in BESIDE]
        rest = subprocess.run([*PYTEST, "tests", *(f"--ignore={folder}" for folder in named)], check=False)
        codes = [rest.returncode, *(_end_of(process, output) for process, output in beside)]
    print(f"All tests took {time.monotonic() - began:.0f} s.", flush=True)  # noqa: T201  as above
    return max(codes, key=abs)


@contextlib.contextmanager
def _running(folders: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Run the tests of ``folders`` for as long as the context lasts; what they print is kept."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*PYTEST, *folders], stdout=output, stderr=subprocess.STDOUT, text=True)
        try:
            yield process, output
        finally:
            process.terminate()
            process.wait()


def _end_of(process: subprocess.Popen[str], output: IO[str]) -> int:
    """Wait for a process and print what it said; return its exit status."""
    process.wait()
    output.seek(0)
    print(output.read(), flush=True)  # noqa: T201  as above
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
