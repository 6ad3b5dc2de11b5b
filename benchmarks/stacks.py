"""Several processes that answer HTTP together, each started as in production: ours, and gunicorn's of the usual way."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.children import ROOT, ChildFailed
from deploy.local import ports, programs, readiness
from deploy.local.environment import ops_setting

READY_SECONDS = 90.0
STOP_SECONDS = 15.0
ADMIN_KEY = "benchmark-" + "a" * 32
SETTINGS = {
    "EVENTLET_NO_GREENDNS": "yes",
    "SIGNING_SECRET": "s" * 32,
    "ENCRYPTION_KEYS": "e" * 32,
    "ADMIN_API_KEY": ADMIN_KEY,
    # All clients of a benchmark are at one address, and send more than one address may.
    "RATE_LIMIT_ADDRESS": "60000/minute",
    "RATE_LIMIT_CREDENTIAL": "60000/minute",
}


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to start: arguments of our Python, settings, and the port on which ``/readyz`` tells when it is ready."""

    arguments: Sequence[str]
    variables: Mapping[str, str]
    ready_port: int


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Running processes that answer at ``port``; their processor time counts together."""

    name: str
    port: int
    processes: Mapping[str, subprocess.Popen[bytes]]

    def cpu_seconds(self) -> float:
        """Return the processor time all of them, and what they started, have used so far."""
        return sum(self.cpu_by_process().values())

    def cpu_by_process(self) -> dict[str, float]:
        """Return the processor time each of them, and what it started, has used so far."""
        return {name: _cpu_seconds(process.pid) for name, process in self.processes.items()}

    def fail_if_gone(self) -> None:
        """Raise `ChildFailed` when one has ended although nobody asked it to."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise ChildFailed(f"{name} of {self.name} ended")


@contextlib.contextmanager
def ours(
    name: str, services: Sequence[str], *, runner: str, variables: Mapping[str, str], log_folder: Path
) -> Iterator[Stack]:
    """Run our services by ``python -m <runner> <service>``; the first of them answers."""
    port, *ops = ports.pick_several(1 + len(services))
    settings = {
        **SETTINGS,
        "GATEWAY_ADDRESS": f"127.0.0.1:{port}",
        **{ops_setting(service): f"127.0.0.1:{number}" for service, number in zip(services, ops, strict=True)},
        **variables,
    }
    started = {
        service: Program(arguments=["-m", runner, service], variables=settings, ready_port=number)
        for service, number in zip(services, ops, strict=True)
    }
    with running(name, started, port=port, log_folder=log_folder) as stack:
        yield stack


@contextlib.contextmanager
def running(name: str, started: Mapping[str, Program], *, port: int, log_folder: Path) -> Iterator[Stack]:
    """Start programs, wait until all are ready, and stop them after the block."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for process, program in started.items():
            processes[process] = _start(program, log=log_folder / f"{name}-{process}.log")
        for process, program in started.items():
            programs.wait_until(
                partial(_is_ready, program.ready_port),
                what=f"{process} of {name}",
                timeout_seconds=READY_SECONDS,
                process=processes[process],
                log=log_folder / f"{name}-{process}.log",
            )
        yield Stack(name=name, port=port, processes=processes)
    finally:
        for one in processes.values():
            one.send_signal(signal.SIGTERM)
        for one in processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(STOP_SECONDS)
            programs.end(one, number=signal.SIGKILL, timeout_seconds=STOP_SECONDS)


def run_tool(name: str, variables: Mapping[str, str]) -> None:
    """Run ``python -m tools <name>``: in a process of its own, since the tools may make theirs green.

    Raises:
        ChildFailed: with what it said.
    """
    done = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-W", "ignore", "-m", "tools", name],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildFailed(f"bin/darkroom {name} failed:\n{done.stdout}{done.stderr}")


def _start(program: Program, *, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603  our own module
            programs.on_leash([sys.executable, "-W", "ignore", *program.arguments]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **program.variables},
            process_group=0,
        )


def _is_ready(port: int) -> bool:
    return not readiness.answer_of(f"127.0.0.1:{port}")


def _cpu_seconds(pid: int) -> float:
    first = psutil.Process(pid)
    times = [one.cpu_times() for one in [first, *first.children(recursive=True)]]
    return sum(each.user + each.system for each in times)
