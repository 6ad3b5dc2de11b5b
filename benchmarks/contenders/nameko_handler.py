"""nameko's own event handler doing the same single-row work: a commit and an acknowledgement for each message.

Twenty workers, plain psycopg2 on kept connections, no inbox: less work and less machinery than a real service has.
"""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

import os
import sys
from typing import Any

import psycopg2
from eventlet.hubs import trampoline
from eventlet.queue import LifoQueue
from nameko.containers import ServiceContainer
from nameko.events import EventHandler
from nameko.extensions import DependencyProvider

from benchmarks.child import Conversation
from benchmarks.servers import QUORUM

MAX_WORKERS = 20
_CAPTURE = "UPDATE lines SET state = 'captured', times = times + 1 WHERE line_id = %s"


class QuorumEventHandler(EventHandler):
    """nameko's handler on a quorum queue, which it has no setting for."""

    def setup(self) -> None:
        """Declare the queue as the benchmark did."""
        super().setup()
        self.queue.queue_arguments = QUORUM


class Connections(DependencyProvider):
    """One open connection for each worker, every statement committed on its own."""

    def setup(self) -> None:
        """Open them."""
        self._free = LifoQueue()
        for _ in range(MAX_WORKERS):
            connection = psycopg2.connect(self.container.config["database_url"].replace("+psycopg2", ""))
            connection.autocommit = True
            connection.cursor().execute("SET ROLE darkroom_system")
            self._free.put(connection)

    def get_dependency(self, _worker_ctx: Any) -> Any:
        """Return the pool."""
        return self._free


class Captures:
    """Updates one row for each event."""

    name = "captures"
    connections = Connections()

    @QuorumEventHandler.decorator("nameko", "CreditCaptured")
    def on_credit_captured(self, event: dict[str, Any]) -> None:
        """Mark the line of this event."""
        connection = self.connections.get()
        try:
            with connection.cursor() as cursor:
                cursor.execute(_CAPTURE, (event["data"]["line_id"],))
        finally:
            self.connections.put(connection)


def main() -> None:
    """Consume from `go` until the benchmark has seen enough."""
    talk = Conversation()
    orders = talk.orders()
    container = ServiceContainer(
        Captures,
        config={
            "AMQP_URI": orders["amqp_url"],
            "database_url": orders["database_url"],
            "max_workers": MAX_WORKERS,
        },
    )
    talk.say("ready")
    talk.wait()
    container.start()
    trampoline(sys.stdin.fileno(), read=True)
    container.stop()
    os._exit(0)


if __name__ == "__main__":
    main()
