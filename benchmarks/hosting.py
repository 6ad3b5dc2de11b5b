"""Runs a service class of ours in its own process exactly as production does: green, in nameko's container, with logs.

Imported by contenders only; it makes the whole process green.
"""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

import logging
import os
import sys
from typing import Any

from eventlet.hubs import trampoline
from nameko.containers import ServiceContainer

from benchmarks.child import Conversation
from benchmarks.servers import SERVICE
from shared import logs, runner
from shared.config import Secret, Settings
from shared.health import Health

READY_SECONDS = 20.0


class Host:
    """A service class in its container, under the orders of the benchmark."""

    def __init__(self, service_class: type[Any]) -> None:
        self.talk = Conversation()
        self.orders = self.talk.orders()
        logs.configure(process="benchmark", level="INFO")
        runner.raise_file_limit()
        settings = _settings(database_url=self.orders["database_url"], amqp_url=self.orders["amqp_url"])
        self._health = Health()
        self._container = ServiceContainer(
            service_class, config={"settings": settings, "health": self._health, "max_workers": settings.max_workers}
        )

    def start(self) -> None:
        """Start the service."""
        self._container.start()

    def wait_until_ready(self) -> None:
        """Wait until every readiness check is content."""
        with eventlet.Timeout(READY_SECONDS, RuntimeError(f"not ready: {self._health.problems()}")):
            while self._health.problems():
                eventlet.sleep(0.01)

    def serve_until_told(self) -> None:
        """Let the service work until the benchmark wants it to end, then stop it in order and leave the process."""
        trampoline(sys.stdin.fileno(), read=True)
        self._container.stop()
        logging.shutdown()
        os._exit(0)


def _settings(*, database_url: str, amqp_url: str) -> Settings:
    return Settings(
        process=SERVICE,
        service=SERVICE,
        database_url=Secret(database_url),
        amqp_url=Secret(amqp_url),
        storage_url=Secret("file:///nonexistent"),
        http_address=None,
        ops_address=("127.0.0.1", 0),
        public_url="",
        files_public_url="",
        signing_secret=Secret("s" * 32),
        encryption_keys=Secret("e" * 32),
        admin_api_key=Secret("a" * 32),
    )
