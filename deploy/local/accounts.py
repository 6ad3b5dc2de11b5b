"""The system account PostgreSQL runs under when we are root, since PostgreSQL refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

ACCOUNT = "darkroom"


def account_for_postgres(data: Path | None = None) -> str | None:
    """Name of the unprivileged account to run PostgreSQL under; None when we are an ordinary user ourselves.

    Data that is there already decides: its owner. Else an account of our own is made rather than `nobody` or
    `postgres` used: whatever else runs under a shared account could read the data. Raises RuntimeError where
    no account can be made.
    """
    if os.geteuid() != 0:
        return None
    if data is not None and data.exists():
        return data.owner()
    if not exists(ACCOUNT):
        make(ACCOUNT)
    return ACCOUNT


def exists(account: str) -> bool:
    """Whether the system knows the account."""
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def make(account: str) -> None:
    """Make a system account that cannot log in and has no home."""
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise RuntimeError(
            f"PostgreSQL refuses to run as root, and there is no useradd to make the account {account!r}. "
            "Make a system account of that name, or run the command as an ordinary user."
        )
    made = subprocess.run(
        [
            program,
            "--system",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/bin/false",
            account,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # Another start may have made it at the same moment.
    if made.returncode != 0 and not exists(account):
        raise RuntimeError(f"The system account {account!r} could not be made: {made.stderr.strip()}")


def may_enter(folder: Path, *, account: str) -> bool:
    """Whether the account may enter `folder`, every folder above it included."""
    return _works(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], account=account)


def may_run(program: Path, *, account: str) -> bool:
    """Whether the account may run `program` (called with --version)."""
    return _works([str(program), "--version"], account=account)


def give(path: Path, *, account: str) -> None:
    """Hand `path` itself over to the account."""
    entry = pwd.getpwnam(account)
    os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _works(command: list[str], *, account: str) -> bool:
    try:
        done = subprocess.run(
            command,
            user=account,
            group=pwd.getpwnam(account).pw_gid,
            extra_groups=[],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
