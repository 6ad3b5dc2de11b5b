"""`make test`: every test, in two pytest processes side by side, since one would leave a core idle.

Whatever is not named here runs in the second one, so that no new folder is forgotten.
"""

import subprocess
import sys
import tempfile
import time

SIDE = ("tests/e2e", "tests/service/gateway", "tests/service/shared")


def main() -> int:
    """Run all tests; print both outcomes; return 0 if both are good."""
    began = time.monotonic()
    pytest = [sys.executable, "-m", "pytest", "-q"]
    with tempfile.TemporaryFile("w+") as output:
        print(f"Beside these tests run those of {' and '.join(SIDE)}; their output follows.", flush=True)  # noqa: T201
        side = subprocess.Popen([*pytest, *SIDE], stdout=output, stderr=subprocess.STDOUT)
        try:
            rest = subprocess.run([*pytest, "tests", *(f"--ignore={folder}" for folder in SIDE)], check=False)
            side.wait()
        finally:
            side.terminate()
        output.seek(0)
        print(output.read(), flush=True)  # noqa: T201  a command prints
    print(f"All tests took {time.monotonic() - began:.0f} s.", flush=True)  # noqa: T201  as above
    return max(rest.returncode, side.returncode)


if __name__ == "__main__":
    sys.exit(main())
