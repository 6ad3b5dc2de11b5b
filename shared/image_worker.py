"""The process behind shared.off_hub: answers requests one by one until the socket on its stdin closes.

Run as ``python -m shared.image_worker MEMORY_BYTES CPU_SECONDS files|no-files``. A request can do no more than call a
public function of ``shared`` or ``services``.
"""

import importlib
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from shared.off_hub import receive_frame, send_frame
from shared.problems import Problem

# Whoever waits for the process that asks, waits for all it does; what is done here is one request's affair.
NICE = 10
_NAME = re.compile(r"((?:shared|services)(?:\.[a-z]\w*)+):([a-z]\w*)", re.ASCII)


def main() -> None:
    """Serve until the parent is gone; a SIGTERM to the group is not for us: a draining parent still needs us."""
    memory_bytes, cpu_seconds = (int(argument) for argument in sys.argv[1:3])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _set_limit(resource.RLIMIT_AS, memory_bytes)
    if sys.argv[3] != "files":
        _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_CORE, 0)
    os.nice(NICE)
    with socket.socket(fileno=0) as connection, suppress(ConnectionError):
        connection.settimeout(None)  # a green parent made both ends of the pair non-blocking
        send_frame(connection, b"ready")
        while (request := receive_frame(connection)) is not None:
            _grant_cpu(cpu_seconds)
            send_frame(connection, answer(request))


def answer(request: bytes | bytearray) -> bytes:
    """Return the packed ``[kind, payload]``: the result, the problem raised, or the kind of failure."""
    try:
        name, args, kwargs = msgspec.msgpack.decode(request)
        return msgspec.msgpack.encode(["result", resolve(name)(*args, **kwargs)])
    except Problem as problem:
        return msgspec.msgpack.encode(["problem", problem.as_dict()])
    except ValueError as error:
        return msgspec.msgpack.encode(["value_error", str(error)])
    except Exception as error:  # noqa: BLE001  a worker answers whatever happens; the parent logs the kind
        return msgspec.msgpack.encode(["failure", type(error).__name__])


def resolve(name: str) -> Callable[..., Any]:
    """Return the function ``package.module:function`` names.

    Raises:
        ValueError: it is not a public function defined in a module of ``shared`` or ``services``.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"{name!r} is not a public function of shared or services")
    module, function_name = parts.groups()
    function = getattr(importlib.import_module(module), function_name, None)
    if not callable(function) or getattr(function, "__module__", None) != module:
        raise ValueError(f"{name!r} is not a public function of shared or services")
    return function  # type: ignore[no-any-return]  # getattr cannot say more than Any


def _set_limit(which: int, value: int) -> None:
    with suppress(ValueError, OSError):  # macOS knows RLIMIT_AS but does not take it
        resource.setrlimit(which, (value, value))


def _grant_cpu(seconds: int) -> None:
    """Let this request use so much processor time: a runaway ends even if the parent has died meanwhile."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
