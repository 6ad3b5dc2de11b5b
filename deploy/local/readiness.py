"""Asks every process of a stack whether it is ready, and waits for all while telling a person what it waits for."""

import http.client
import time
from collections.abc import Callable, Mapping

from deploy.local import postgres, programs, rabbitmq, servers
from deploy.local.environment import ops_setting
from deploy.local.home import Home
from deploy.local.names import PROCESSES

POLL_SECONDS = 0.1
TELL_EVERY_SECONDS = 5.0

Check = Callable[[], str]


def answer_of(address: str) -> str:
    """Empty when `host:port` answers /readyz with 200, else what it said or that it said nothing."""
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(2000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return "no answer yet"
    finally:
        connection.close()
    return "" if response.status == http.client.OK else f"answers {response.status} {body}"


def server_checks(stack: Home, names: tuple[str, ...]) -> dict[str, Check]:
    """One check per embedded server in `names`."""
    return {name: _server_check(stack, name) for name in names}


def _server_check(stack: Home, name: str) -> Check:
    if name == "postgres":
        server = servers.postgres_of(stack)
        return lambda: "" if postgres.is_ready(server) else "not accepting connections yet"
    node = servers.rabbitmq_of(stack)
    if name == "epmd":
        return lambda: "" if programs.accepts_connections(node.epmd_port) else "not listening yet"
    return lambda: "" if rabbitmq.is_ready(node) else "not speaking AMQP yet"


def process_checks(variables: Mapping[str, str]) -> dict[str, Check]:
    """One check per Darkroom process: its /readyz at the address in `variables`."""

    def check(address: str) -> Check:
        return lambda: answer_of(address)

    return {process: check(variables[ops_setting(process)]) for process in PROCESSES}


def wait_for(checks: Mapping[str, Check], *, deadline: float, still_hopeful: Callable[[], bool]) -> dict[str, str]:
    """Wait until every check passes or `deadline` (monotonic) or `still_hopeful` says no.

    Prints a line at least every 5 s. Returns what is not ready, with the reason; empty when all is well.
    """
    began = told = time.monotonic()
    pending = dict.fromkeys(checks, "not asked yet")
    while True:
        pending = {name: reason for name in pending if (reason := checks[name]())}
        now = time.monotonic()
        if not pending or now > deadline or not still_hopeful():
            return pending
        if now - told >= TELL_EVERY_SECONDS:
            print(f"  waiting for {', '.join(pending)} ({now - began:.0f} s)", flush=True)
            told = now
        time.sleep(POLL_SECONDS)
