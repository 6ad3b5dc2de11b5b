"""Crash points: places between two durable steps where a test can let a process die as if by kill -9.

``CRASH_AT=<name>:<n>`` kills one process the n-th time it gets there. ``CRASH_FILE=<path>`` serves a running system:
whichever process reaches the point named in that file dies, once; with ``stop <name>`` in it the process stands still
there, until somebody sends it SIGCONT. Without either, a crash point does nothing.
"""

import contextlib
import os
import signal
from pathlib import Path

_at, _, _nth = os.environ.get("CRASH_AT", "").partition(":")
_left = {_at: int(_nth or 1)} if _at else {}
_file = Path(os.environ["CRASH_FILE"]) if "CRASH_FILE" in os.environ else None

KILLED = 137

# Every point there is, so that a test can go through all of them.
POINTS = (
    "gateway.asset_stored",
    "gateway.key_taken",
    "gateway.job_submitted",
    "gateway.answered",
    "catalog.asset_claimed",
    "catalog.object_removed",
    "submit.after_job",
    "submit.after_reserve",
    "credits.reserved",
    "credits.settled",
    "relay.after_publish",
    "consumer.before_ack",
    "scheduler.after_claim",
    "scheduler.after_sent",
    "scheduler.after_provider_call",
    "poller.after_poll",
    "scheduler.after_store",
    "scheduler.after_record",
    "analyses.before_commit",
    "webhooks.after_claim",
    "webhooks.after_call",
    "mails.after_claim",
    "mails.after_call",
)


def crash_point(name: str) -> None:
    """End the process at once if a test asked for it at this point."""
    if _file is not None:
        _crash_by_file(name, _file)
    if name in _left:
        _left[name] -= 1
        if _left[name] == 0:
            os._exit(KILLED)


def _crash_by_file(name: str, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        told = path.read_text().split()
        if told and told[-1] == name:
            path.unlink()  # only one of several processes gets past this line
            if told[0] == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                os._exit(KILLED)
