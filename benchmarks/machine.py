"""What a run was measured on, and whether something else was busy there; a figure without it means nothing."""

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil

QUIET_PERCENT = 25
QUIET_WITHIN_SECONDS = 60

_LIBRARIES = ("nameko", "kombu", "amqp", "eventlet", "psycopg2-binary", "sqlalchemy", "pika")


def describe() -> str:
    """Return processor, memory, load, Python and library versions in one line."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{os.cpu_count()} x {_processor()}, {memory:.0f} GiB, {platform.system()} {platform.machine()}, load {load}; "
        f"everything on this machine, loopback; Python {sys.version.split()[0]}, {libraries}"
    )


def wait_until_quiet() -> None:
    """Wait, a minute at most, until the machine has little else to do; say so when it stays busy.

    A latency in milliseconds has no ratio that would cancel out what other programs do meanwhile.
    """
    deadline = time.monotonic() + QUIET_WITHIN_SECONDS
    while (busy := psutil.cpu_percent(interval=2)) > QUIET_PERCENT:
        if time.monotonic() > deadline:
            print(f"   NOTE: other programs keep this machine {busy:.0f}% busy; the latencies below include that")
            return


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor")
