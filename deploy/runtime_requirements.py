"""Prints the part of requirements.lock that running needs: `python runtime_requirements.py <requirements.lock`.

The lock also pins the tools of developers and the embedded stack. Which package is there for whose sake stands in
the lock itself, in its `# via` comments; versions and hashes are printed unchanged. Standard library only: it runs
before anything is installed.
"""

import re
import sys
from collections.abc import Iterator

ROOT = "darkroom (pyproject.toml)"  # the dependencies of the product; groups read `(pyproject.toml:dev)`


def entries(lock: str) -> Iterator[tuple[str, set[str], str]]:
    """Each package of the lock: its name, for whose sake it is there, its lines."""
    for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        requirers = re.findall(r"^    #   (?:via )?(\S.*)$|^    # via (\S.*)$", text, flags=re.MULTILINE)
        name = re.match(r"[\w.-]+", text)
        if name is None:
            raise ValueError(f"This is not a line of a lock: {text!r}")
        yield name[0], {first or second for first, second in requirers}, text


def needed_at_runtime(lock: str) -> str:
    """The lines of all packages that the product needs, directly or not. Raises ValueError when there is none."""
    packages = list(entries(lock))
    needed = {ROOT}
    while found := {name for name, requirers, _ in packages if requirers & needed} - needed:
        needed |= found
    lines = "".join(text for name, _, text in packages if name in needed)
    if not lines:
        raise ValueError(f"No package of the lock is there for {ROOT}: was it compiled from another file?")
    return lines


if __name__ == "__main__":
    sys.stdout.write(needed_at_runtime(sys.stdin.read()))
