"""The events as an AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0).

One channel per service's exchange, one message per event type, and an operation for every publisher and every
`@subscribe`.
"""

from collections.abc import Sequence
from typing import Any

from shared import events
from shared.config import SERVICES
from shared.event_schemas import cloud_event, data_schemas
from shared.events import Event
from shared.topology import Binding

_AMQP = "0.3.0"


def document(bindings: Sequence[Binding], *, version: str) -> dict[str, Any]:
    """Return the document for the event types there are and for these subscriptions."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Darkroom events",
            "version": version,
            "description": (
                "Everything that happens in Darkroom, as CloudEvents 1.0 in structured JSON on RabbitMQ. Bind a"
                " queue of your own to an exchange; the routing key is the event's type. Delivery is at least once"
                " and in no promised order: drop ids you have seen, and ignore fields you do not know."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {_exchange(service): _channel(service) for service in SERVICES if _types_of(service)},
        "operations": {**_sends(), **_receives(bindings)},
        "components": {
            "messages": {name: _message(cls) for name, cls in _types()},
            "schemas": data_schemas([cls for _, cls in _types()]),
        },
    }


def _types() -> list[tuple[str, type[Event]]]:
    return sorted(events.types.items())


def _types_of(service: str) -> list[str]:
    return [name for name, cls in _types() if service == cls.SOURCE]


def _exchange(service: str) -> str:
    return f"{service}.events"


def _channel(service: str) -> dict[str, Any]:
    exchange = {"name": _exchange(service), "type": "topic", "durable": True, "autoDelete": False, "vhost": "/"}
    return {
        "address": _exchange(service),
        "title": f"What {service} tells",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _types_of(service)},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": _AMQP}},
    }


def _sends() -> dict[str, Any]:
    return {
        f"{service}.publish": {
            "action": "send",
            "summary": f"{service} publishes from its outbox, with persistent messages and confirms.",
            **_on(service, _types_of(service)),
            "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": _AMQP}},
        }
        for service in SERVICES
        if _types_of(service)
    }


def _receives(bindings: Sequence[Binding]) -> dict[str, Any]:
    operations = {}
    for binding in bindings:
        wanted = list(events.types) if binding.event_types is None else binding.event_types
        for service in sorted({events.types[name].SOURCE for name in wanted}):
            names = [name for name in _types_of(service) if name in wanted]
            operations[f"{binding.queue}.from.{service}"] = {
                "action": "receive",
                "summary": f"{binding.service} takes them from its queue {binding.queue}.",
                **_on(service, names),
                "bindings": {"amqp": {"ack": True, "bindingVersion": _AMQP}},
            }
    return dict(sorted(operations.items()))


def _on(service: str, names: Sequence[str]) -> dict[str, Any]:
    channel = f"#/channels/{_exchange(service)}"
    return {
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in names],
    }


def _message(cls: type[Event]) -> dict[str, Any]:
    return {
        "name": cls.__name__,
        "title": cls.__name__,
        "summary": str(cls.__doc__),
        "contentType": "application/cloudevents+json",
        "payload": cloud_event(cls),
    }
