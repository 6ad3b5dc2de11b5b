"""What an analysis answers: a JSON schema per operation, and the check of an answer against it. Knows no provider.

The schemas keep to what vendors take for structured output: every field required, none beside them, open fields as a
list of name and value.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator

from services.generation.storable import storable

_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_CONFIDENCE: Final = {"type": "number", "minimum": 0, "maximum": 1}


def _an_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_COLOUR: Final = _an_object(
    hex={"type": "string", "pattern": "^#[0-9a-f]{6}$"},
    name=_TEXT,
    share={"type": "number", "minimum": 0, "maximum": 1},
)
_SHOT: Final = _an_object(title=_TEXT, view=_TEXT, instruction=_TEXT, reason=_TEXT)

RESULT_SCHEMAS: Final[Mapping[str, dict[str, Any]]] = {
    "vision.analyze": _an_object(
        summary=_TEXT,
        category=_TEXT,
        style=_TEXT,
        lighting=_TEXT,
        composition=_TEXT,
        colors={"type": "array", "items": _COLOUR},
        materials=_TEXTS,
        details={"type": "array", "items": _an_object(name=_TEXT, value=_TEXT)},
        confidence=_CONFIDENCE,
    ),
    "vision.category": _an_object(category=_TEXT, subcategory=_TEXT, confidence=_CONFIDENCE),
    "vision.plan": _an_object(
        shots={"type": "array", "items": _SHOT, "minItems": 6, "maxItems": 10}, confidence=_CONFIDENCE
    ),
    "text.analyze": _an_object(
        summary=_TEXT, room_types=_TEXTS, styles=_TEXTS, categories=_TEXTS, keywords=_TEXTS, confidence=_CONFIDENCE
    ),
}


def schema_for(operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema an answer must satisfy: the workflow's own (parameter ``schema``), else the operation's."""
    schema: dict[str, Any] = parameters.get("schema") or RESULT_SCHEMAS[operation]
    return schema


def read(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer that satisfies ``schema``, and can be stored.

    Raises:
        ValueError: it is no JSON object, or does not satisfy it; the message says where, and quotes nothing.
    """
    try:
        found = storable(json.loads(text))
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError("the analysis is no JSON") from error
    problem = next(Draft202012Validator(schema).iter_errors(found), None)
    if problem is not None or not isinstance(found, dict):
        where = problem.json_path if problem else "$"
        raise ValueError(f"the analysis does not fit its schema at {where}")
    return found


def fits(result: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Tell whether a result satisfies ``schema``."""
    return bool(Draft202012Validator(schema).is_valid(result))
