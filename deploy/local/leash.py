"""Turns into another program that dies together with the process that started it.

    python leash.py PARENT_PID SIGNAL ACCOUNT PROGRAM [ARGUMENT ...]

Run by path with `python -I`, so it must import nothing of the project. ACCOUNT is a user name, or `-` to
stay the user that we are.
"""

import contextlib
import ctypes
import os
import pwd
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
FILES_WANTED = 65_536


def become(account: str) -> None:
    """Give up root for good: groups first, the user last, and out of a folder the account cannot read."""
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")


def die_with_parent(*, parent: int, signal_number: int) -> None:
    """Ask Linux to send the signal when the parent ends; elsewhere the keeper alone must do it."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request was made
        sys.exit(1)


def raise_file_limit() -> None:
    """Let the program open as many files as the system allows, up to 65536; shells often give 1024 only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has a limit it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: list[str]) -> None:
    """Drop privileges, tie the leash, become the program."""
    parent, signal_name, account, *program = arguments
    raise_file_limit()
    if account != "-":
        become(account)
    # After `become`: Linux forgets the request when the user changes.
    die_with_parent(parent=int(parent), signal_number=signal.Signals[signal_name])
    os.execvp(program[0], program)  # noqa: S606 (the caller chose the program; no shell is wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
