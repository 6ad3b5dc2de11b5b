"""Events as JSON Schema for the documents of the system: the CloudEvent around them, and each type's data.

A schema refers to the others as components of its document.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared import events
from shared.events import Event

COMPONENTS = "#/components/schemas"
_TEXT = {"type": "string"}
_MOMENT = {"type": "string", "format": "date-time"}
_ENVELOPE = {
    "id": {**_TEXT, "description": "Unique; an event may arrive twice under the same id."},
    "subject": {**_TEXT, "description": "The id of what the event is about."},
    "time": _MOMENT,
    "dataschema": _TEXT,
    "orgid": {**_TEXT, "description": "The organization it belongs to."},
    "sequence": {**_TEXT, "description": "Orders the events of one source; compare as text."},
    "correlationid": {**_TEXT, "description": "The request this story began with."},
    "causationid": {**_TEXT, "description": "The event that brought this one about."},
    "traceparent": _TEXT,
}
_NUMBERED = {
    "orgsequence": {
        "type": "integer",
        "description": "Orders the events of the organization, without a gap: its number in the organization's log.",
    }
}


def cloud_event(cls: type[Event]) -> dict[str, Any]:
    """Return the schema of a whole event of a type, as it is on the broker."""
    own = {
        "specversion": {"const": "1.0"},
        "source": {"const": f"/darkroom/{cls.SOURCE}"},
        "type": {"const": cls.__name__},
        "datacontenttype": {"const": "application/json"},
        "data": {"$ref": f"{COMPONENTS}/{cls.__name__}"},
    }
    return {
        "type": "object",
        "required": [*own, "id", "subject", "time", "dataschema", "sequence"],
        "properties": {**own, **_ENVELOPE},
    }


def public_cloud_event(cls: type[Event]) -> dict[str, Any]:
    """Return the schema of a whole event as its organization sees it."""
    schema = cloud_event(cls)
    required = [name for name in schema["required"] if name != "sequence"]
    return {**schema, "required": required, "properties": {**schema["properties"], **_NUMBERED}}


def data_schemas(classes: Sequence[type[Event]]) -> dict[str, Any]:
    """Return the schemas of the types' data and of the values inside them by name, internal fields marked."""
    schemas = _components(classes)
    for cls in classes:
        properties = schemas[cls.__name__]["properties"]
        for name in properties.keys() - _leaving(cls):
            properties[name] = {**properties[name], "x-internal": True}
    return schemas


def public_data_schemas(classes: Sequence[type[Event]]) -> dict[str, Any]:
    """Return the same schemas without the internal fields."""
    schemas = _components(classes)
    for cls in classes:
        schema, leaving = schemas[cls.__name__], _leaving(cls)
        schema["properties"] = {name: part for name, part in schema["properties"].items() if name in leaving}
        schema["required"] = [name for name in schema["required"] if name in leaving]
    return schemas


def _components(classes: Sequence[type[Event]]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(classes, ref_template=f"{COMPONENTS}/{{name}}")
    schemas.pop("Meta")
    for cls in classes:
        schemas[cls.__name__]["properties"].pop("meta")
    return dict(sorted(schemas.items()))


def _leaving(cls: type[Event]) -> frozenset[str]:
    return frozenset(events.public_fields(cls)) if cls.PUBLIC else frozenset()
