"""What the gateway must know of each workflow, as data it can read without importing the engine."""

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from services.generation.workflows import Workflow, registered


def documents() -> dict[str, dict[str, Any]]:
    """Return, per workflow, ``{name, title, inputs (JSON Schema), assets, products, revisions, example, choices}``."""
    return {name: _document(line) for name, line in registered().items()}


def _document(line: Workflow) -> dict[str, Any]:
    plugin = MarshmallowPlugin()
    APISpec(title="workflows", version="1", openapi_version="3.1.0", plugins=[plugin])
    converter = plugin.converter
    assert converter is not None  # noqa: S101  set by APISpec, Optional only in its types
    inputs: dict[str, Any] = converter.schema2jsonschema(line.inputs())  # type: ignore[no-untyped-call]  # apispec has few types
    return {
        "name": line.name,
        "title": line.title,
        "inputs": {"$schema": "https://json-schema.org/draft/2020-12/schema", **inputs, "additionalProperties": False},
        "assets": list(line.assets),
        "products": list(line.products),
        "revisions": list(line.revisions),
        "example": dict(line.example),
        "choices": {name: list(values) for name, values in line.choices.items()},
    }
