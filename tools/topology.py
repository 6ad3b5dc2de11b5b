"""`darkroom topology`: declares every exchange, queue and binding, from the `@subscribe`s of all services."""

import inspect
from importlib import import_module
from typing import Any

from shared import broker, topology
from shared.messaging import Subscription
from shared.runner import PROCESSES
from shared.topology import Binding


def subscriptions() -> list[Binding]:
    """Return the bindings of all services, found on their classes."""
    found = []
    for process, path in PROCESSES.items():
        module_name, _, class_name = path.partition(":")
        service = process.partition("-")[0]
        found += bindings_of(getattr(import_module(module_name), class_name), service=service)
    return found


def bindings_of(service_class: Any, *, service: str) -> list[Binding]:
    """Return the bindings that one service class's methods ask for."""
    return [
        topology.binding(service, name, entrypoint.event_type)
        for name, method in inspect.getmembers(service_class, inspect.isfunction)
        for entrypoint in getattr(method, "nameko_entrypoints", ())
        if isinstance(entrypoint, Subscription)
    ]


def declare(amqp_url: str) -> list[Binding]:
    """Declare the whole topology; doing so again changes nothing. Return the bindings."""
    bindings = subscriptions()
    with broker.connected(amqp_url, name="topology") as connection:
        topology.declare_all(connection.channel(), bindings)
    return bindings
