"""Ways in which a server can be away: frozen, or killed and back later."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from deploy.local.stack import Broker, Postgres


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Stop processes without ending them: their sockets stay open, and nobody answers."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
                os.kill(pid, signal.SIGCONT)


def processes_of(server: Postgres) -> list[int]:
    """Return the ids of all processes of a PostgreSQL server."""
    main = psutil.Process(server.pid)
    return [main.pid, *(child.pid for child in main.children(recursive=True))]


def settle(node: Broker) -> None:
    """Have the names of new queues written to disk.

    RabbitMQ 3.10 does that about a second late; a quorum queue that is younger when its node is killed has no leader
    after it, for ever. These tests are about queues that exist.
    """
    node.ctl("eval", "[dets:sync(Table) || Table <- dets:all()], ok.")


@contextmanager
def killed(server: Postgres | Broker, *, at_once: bool = False) -> Iterator[None]:
    """Kill -9 a server; it is back when the block ends. ``at_once`` is for a node that was settled before."""
    if isinstance(server, Broker) and not at_once:
        settle(server)
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds, f"took {took:.2f} s, at most {seconds} s were allowed"
