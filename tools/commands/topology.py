"""`darkroom topology`: what RabbitMQ must have before any event is published."""

import argparse

from shared import broker
from tools import topology
from tools.environment import setting
from tools.failures import CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Declare it all and list the subscriptions."""
    try:
        bindings = topology.declare(setting("AMQP_URL"))
    except broker.BROKER_ERRORS as error:
        raise CommandFailed(
            f"RabbitMQ did not take the topology ({type(error).__name__}: {error}); is it up, and is AMQP_URL right?"
            " PRECONDITION_FAILED names a queue that was declared otherwise before: drain and delete that one"
        ) from error
    for binding in bindings:
        print(f"{binding.queue:<45} <- {', '.join(binding.event_types or ['every event'])}")
    return 0
