"""`darkroom events tail`: what is published from now on, as it comes; nobody else's queue is touched."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from shared import broker
from shared.config import SERVICES
from tools.environment import setting
from tools.failures import CommandFailed

_TELLING = ("job_id", "org_id", "workflow", "status", "purpose", "amount", "available", "reason")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    tail = actions.add_parser("tail", help="follow them until Ctrl-C", description=__doc__)
    tail.add_argument("types", nargs="*", metavar="TYPE", help="only these, such as JobFinished (default: all)")
    tail.add_argument("--json", action="store_true", help="print each event whole, one a line")
    tail.add_argument("--count", type=int, metavar="N", help="stop after so many")
    tail.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print events until there were enough of them."""
    try:
        with broker.connected(setting("AMQP_URL"), name="events tail") as connection:
            for number, body in enumerate(_published(connection, arguments.types), 1):
                print(body.decode() if arguments.json else line(json.loads(body)), flush=True)
                if number == arguments.count:
                    break
    except broker.BROKER_ERRORS as error:
        raise CommandFailed(
            f"RabbitMQ does not answer as it should ({type(error).__name__}: {error}); is it up, and the topology"
            " declared? bin/darkroom topology"
        ) from error
    return 0


def line(event: dict[str, Any]) -> str:
    """Return an event in one line: when, what, about what, and those of its fields that tell most."""
    data = event["data"]
    told = " ".join(f"{name}={data[name]}" for name in _TELLING if data.get(name) not in {None, event["subject"]})
    return f"{event['time'][11:23]} {event['type']:<20} {event['subject']} {told}"


def _published(connection: Any, types: list[str]) -> Iterator[bytes]:
    """Yield events from a queue of our own, which goes when we do."""
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True, auto_delete=True).queue
    for service in SERVICES:
        for routing_key in types or ["#"]:
            channel.queue_bind(queue, f"{service}.events", routing_key)
    arrived: list[Any] = []
    channel.basic_consume(queue, no_ack=True, callback=arrived.append)
    while True:
        while arrived:
            body = arrived.pop(0).body
            yield body if isinstance(body, bytes) else str(body).encode()
        broker.read_events(connection, seconds=1.0)
        connection.heartbeat_tick()
