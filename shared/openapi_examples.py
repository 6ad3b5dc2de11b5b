"""Examples for the OpenAPI document, made of its own schemas: what a field's metadata does not say, its name does."""

from collections.abc import Mapping
from typing import Any

from shared.ids import SUFFIX_PATTERN

EXAMPLE_ID = "01kafv0s2bf4v8e6f6z5m4j0zt"
_PREFIXES = {
    "user": "usr",
    "owner": "usr",
    "member": "usr",
    "upload": "ast",
    "asset": "ast",
    "image": "img",
    "parent": "img",
    "generation": "gen",
    "quote": "quo",
    "grant": "grt",
    "adjustment": "adj",
    "organization": "org",
    "product": "prd",
    "session": "ses",
    "retry": "job",
    "operation": "op",
}
_TEXTS = {
    "name": "Oak & Linen Studio",
    "title": "Virtual staging",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bd822cd15d6c15b0f00a0",
    "url": "https://files.example.com/files/images/room.jpg?expires=1796025600&signature=4f1c",
    "thumbnail_url": "https://files.example.com/files/images/room-small.webp?expires=1796025600&signature=a07b",
    "content_type": "image/jpeg",
    "style": "scandinavian",
    "room_type": "living_room",
    "workflow": "staging",
    "status": "succeeded",
    "unit": "credits",
    "sku": "staging.variant",
    "plan": "pro",
    "reason": "Blurred result",
    "kind": "capture",
    "api_key": "sk_live_…",
    "currency": "USD",
}
_FORMATS = {
    "date-time": "2026-11-30T08:00:00Z",
    "date": "2026-11-30",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "6f1d2c3b-4a59-4e68-8f77-9a0b1c2d3e4f",
    "binary": "…",
}
_DEEPEST = 8


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, name: str = "", depth: int = 0) -> Any:
    """Return a value that fits ``schema``.

    Args:
        schema: a JSON schema of the document.
        schemas: its components, which ``schema`` may refer to.
        name: what the value is called, for texts that have to make sense.
        depth: how deep in another example it stands.
    """
    if "$ref" in schema:
        named = str(schema["$ref"]).rpartition("/")[2]
        return example_of(schemas[named], schemas, name=named if not depth else name, depth=depth)
    if "examples" in schema:
        return schema["examples"][0]
    for choice in ("const", "enum"):
        if choice in schema:
            return schema["const"] if choice == "const" else _chosen(schema["enum"], name)
    for several in ("allOf", "anyOf", "oneOf"):
        if several in schema and "properties" not in schema:
            first = next((one for one in schema[several] if one.get("type") != "null"), schema[several][0])
            return example_of(first, schemas, name=name, depth=depth)
    return _of_type(schema, schemas, name=name, depth=depth)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, name: str, depth: int) -> Any:
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next(one for one in kinds if one != "null")
    if kind == "object":
        return _object(schema, schemas, name=name, depth=depth)
    if kind == "array":
        wanted = 1 if depth < _DEEPEST else 0
        item = example_of(schema.get("items", {}), schemas, name=name.removesuffix("s"), depth=depth + 1)
        return [item] * max(wanted, int(schema.get("minItems", 0)))
    if kind == "boolean":
        return bool(schema.get("default") or False)
    if kind in {"integer", "number"}:
        return _number(schema)
    return _text(schema, name)


def _object(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, name: str, depth: int) -> dict[str, Any]:
    needed = set(schema.get("required", ()))
    return {
        field: _id_of(name) if field == "id" else example_of(inner, schemas, name=field, depth=depth + 1)
        for field, inner in schema.get("properties", {}).items()
        if field in needed or "examples" in inner
    }


def _number(schema: Mapping[str, Any]) -> int:
    if isinstance(schema.get("default"), int):
        return int(schema["default"])
    return int(max(schema.get("minimum", 10), min(10, schema.get("maximum", 10))))


def _text(schema: Mapping[str, Any], name: str) -> str:
    pattern = str(schema.get("pattern", ""))
    if pattern.startswith("^") and pattern.endswith(f"_{SUFFIX_PATTERN}$"):
        return f"{pattern[1:].partition('_')[0]}_{EXAMPLE_ID}"
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if name.endswith(("_id", "_of")):
        return _id_of(name[:-3])
    if name.endswith("_url") and name not in _TEXTS:
        return _FORMATS["uri"]
    text = str(schema.get("default") or _TEXTS.get(name, "text"))
    return text.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 1000))]


def _id_of(name: str) -> str:
    word = name.lower().removesuffix("request")
    return f"{_PREFIXES.get(word, word[:3] or 'job')}_{EXAMPLE_ID}"


def _chosen(values: Any, name: str) -> Any:
    usual = _TEXTS.get(name)
    return usual if usual in values else values[0]
