"""Runs pure functions over bytes in a few worker processes, so that neither their time nor their crash is ours.

A service is one thread: 50 ms of Pillow would stop all its requests, and a hostile picture may take memory or the
process with it. Workers hold no secret, write no files unless that is their work, and live as long as the socket to
them.
"""

import atexit
import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_type_hints

import msgspec
import structlog

from shared.problems import Problem, from_dict

WORKERS = 2
MEMORY_BYTES = 2 << 30
CPU_SECONDS = 20
WORK_SECONDS = 60.0
WAIT_SECONDS = 30.0
START_SECONDS = 30.0
FRAME_BYTES_MAX = 1 << 30
_LENGTH_BYTES = 8
_TOO_MUCH = "The image took too long or too much memory; send a smaller one, or try again"
_ROOT = Path(__file__).resolve().parent.parent
P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger(__name__)


class WorkFailed(Problem):
    """The worker ran out of time or memory, or died; the process that asked is untouched."""

    status = 503
    code = "image_work_failed"
    title = "The image could not be processed right now"
    remedy = "Send the request again in a minute; if it fails again, send a smaller image."
    retryable = True


class Pool:
    """At most ``size`` worker processes, each started when first needed and replaced when it dies.

    Only those that are to write files may: a hostile picture must not get near one.
    """

    def __init__(
        self,
        *,
        size: int = WORKERS,
        memory_bytes: int = MEMORY_BYTES,
        cpu_seconds: int = CPU_SECONDS,
        work_seconds: float = WORK_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        writes_files: bool = False,
    ) -> None:
        self._limits = (str(memory_bytes), str(cpu_seconds), "files" if writes_files else "no-files")
        self._work_seconds = work_seconds
        self._wait_seconds = wait_seconds
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(*args, **kwargs)``, as worked out by a worker.

        The function is a public one of a module in ``shared`` or ``services``. Its arguments are numbers, text, bytes
        and lists or dicts of them; its result may also be a dataclass of them, if its annotation says so.

        Raises:
            Problem: the one the function raised.
            ValueError: the function raised it.
            WorkFailed: no worker was free within ``wait_seconds``, or this one took more than its share of memory
                or processor time, or more than ``work_seconds`` in all, or died.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        kind, payload = self._ask(name, msgspec.msgpack.encode([name, args, kwargs]))
        if kind == "problem":
            raise from_dict(payload)
        if kind == "value_error":
            raise ValueError(payload)
        if kind != "result":
            log.warning("image_work_failed", function=name, cause=payload)
            raise WorkFailed(_TOO_MUCH)
        result: T = msgspec.convert(payload, get_type_hints(function)["return"])
        return result

    @property
    def free(self) -> int:
        """Return how many more requests would start at once."""
        return self._free.qsize()

    def close(self) -> None:
        """End the idle workers; one at work ends with the call that waits for it, or with this process."""
        idle = [self._free.get_nowait() for _ in range(self._free.qsize())]
        for worker in idle:
            if worker:
                worker.stop()
            self._free.put(None)

    def _ask(self, name: str, request: bytes) -> tuple[str, Any]:
        try:
            worker = self._free.get(timeout=self._wait_seconds)
        except queue.Empty:
            raise WorkFailed("Too many images are being processed; try again in a minute") from None
        try:
            worker = self._alive(worker)
            answer = worker.ask(request, deadline=time.monotonic() + self._work_seconds)
        except BaseException as error:  # also when the caller is cancelled: the worker is then in mid-answer
            if worker:
                worker.stop()
                worker = None
            if not isinstance(error, OSError | EOFError):
                raise
            log.warning("image_worker_stopped", function=name, cause=type(error).__name__)
            raise WorkFailed(_TOO_MUCH) from error
        finally:
            self._free.put(worker)
        return answer

    def _alive(self, worker: "_Worker | None") -> "_Worker":
        if worker and worker.is_alive():
            return worker
        if worker:
            worker.stop()
        return _Worker(self._limits)


class _Worker:
    """One worker process and our end of the socket to it."""

    def __init__(self, limits: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.callback(self._socket.close)
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module, no outside text
                [sys.executable, "-B", "-m", "shared.image_worker", *limits],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=_ROOT,
                env={"PATH": os.defpath, "OPENBLAS_NUM_THREADS": "1"},
            )
            undo.callback(self.stop)
            if receive_frame(self._socket, deadline=time.monotonic() + START_SECONDS) is None:
                raise EOFError
            undo.pop_all()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: bytes, *, deadline: float) -> tuple[str, Any]:
        """Send one request and wait for its answer; OSError or EOFError when there is none in time."""
        send_frame(self._socket, request, deadline=deadline)
        answer = receive_frame(self._socket, deadline=deadline)
        if answer is None:
            raise EOFError
        kind, payload = msgspec.msgpack.decode(answer)
        return str(kind), payload

    def stop(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def send_frame(connection: socket.socket, body: bytes, *, deadline: float | None = None) -> None:
    """Write ``body`` and its length; TimeoutError past ``deadline`` (monotonic seconds)."""
    _limit(connection, deadline)
    connection.sendall(len(body).to_bytes(_LENGTH_BYTES))
    connection.sendall(memoryview(body))  # a green socket slices what is left at every turn: no copies


def receive_frame(connection: socket.socket, *, deadline: float | None = None) -> bytearray | None:
    """Read what ``send_frame`` wrote; None where the other side is gone; TimeoutError past ``deadline``."""
    length = _receive(connection, _LENGTH_BYTES, deadline)
    if length is None or int.from_bytes(length) > FRAME_BYTES_MAX:
        return None
    return _receive(connection, int.from_bytes(length), deadline)


def _receive(connection: socket.socket, size: int, deadline: float | None) -> bytearray | None:
    body = bytearray(size)
    missing = memoryview(body)
    while missing:
        _limit(connection, deadline)
        count = connection.recv_into(missing)
        if count == 0:
            return None
        missing = missing[count:]
    return body


def _limit(connection: socket.socket, deadline: float | None) -> None:
    if deadline is not None:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))


_pool = Pool()
off_hub = _pool.run
atexit.register(_pool.close)
