"""What an analysis answers: a JSON schema per operation, and the check of an answer against it. Knows no provider.

The schemas keep to what vendors take for structured output: every field required, none beside them, open fields as a
list of name and value.
"""

import json
import string
from collections.abc import Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator

from services.generation.storable import storable

# What all readers of JSON take for the same whole number (RFC 8259, section 6); larger ones not all of them can hold.
LARGEST_NUMBER: Final = 2**53 - 1
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
# Which of the photos shows it, from 1.
_SHOT: Final = _an_object(
    title=_TEXT, view=_TEXT, instruction=_TEXT, reason=_TEXT, photo={"type": "integer", "minimum": 1}
)
# Open fields: each product has other things to say, in the words of its trade.
_FIELDS: Final = {"type": "array", "items": _an_object(name=_TEXT, value=_TEXT)}
_SHARE: Final = {"type": "number", "minimum": 0, "maximum": 1}
# Where on a product: shares of the box around it, from its upper left.
_CALLOUT: Final = _an_object(number={"type": "integer", "minimum": 1}, label=_TEXT, note=_TEXT, x=_SHARE, y=_SHARE)
_MEASUREMENT: Final = _an_object(
    code={"type": "string", "enum": list(string.ascii_uppercase)},
    name=_TEXT,
    value={"type": "number", "minimum": 0},
    unit=_TEXT,
    basis={"type": "string", "enum": ["stated", "measured", "estimated", "assumed"]},
    x1=_SHARE,
    y1=_SHARE,
    x2=_SHARE,
    y2=_SHARE,
)

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
    "vision.product": _an_object(
        summary=_TEXT,
        product_type=_TEXT,
        category=_TEXT,
        subcategory=_TEXT,
        materials={"type": "array", "items": _an_object(name=_TEXT, location=_TEXT, finish=_TEXT)},
        dimensions={
            "type": "array",
            "items": _an_object(name=_TEXT, value={"type": "number", "minimum": 0}, unit=_TEXT, basis=_TEXT),
        },
        colors={"type": "array", "items": _COLOUR},
        construction=_FIELDS,
        design_elements=_FIELDS,
        attributes=_FIELDS,
        confidence=_CONFIDENCE,
    ),
    "vision.measure": _an_object(
        callouts={"type": "array", "items": _CALLOUT, "minItems": 1, "maxItems": 12},
        measurements={"type": "array", "items": _MEASUREMENT, "minItems": 1, "maxItems": 12},
        confidence=_CONFIDENCE,
    ),
    "vision.edit": _an_object(value=_TEXT, explanation=_TEXT, confidence=_CONFIDENCE),
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
        ValueError: it is no JSON object, has a number that is none or has no end, or does not satisfy it; the message
            says where, and quotes nothing.
    """
    try:
        found = storable(json.loads(text, parse_int=_whole, parse_float=_number, parse_constant=_number))
    except (ValueError, RecursionError) as error:
        raise ValueError("the analysis is no JSON, or has a number nobody could keep") from error
    problem = next(Draft202012Validator(schema).iter_errors(found), None)
    if problem is not None or not isinstance(found, dict):
        where = problem.json_path if problem else "$"
        raise ValueError(f"the analysis does not fit its schema at {where}")
    return found


def fits(result: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Tell whether a result satisfies ``schema``."""
    return bool(Draft202012Validator(schema).is_valid(result))


def _number(text: str) -> float:
    """Return a number that can be stored, and be sent anywhere.

    Raises:
        ValueError: it is none, or too large.
    """
    value = float(text)
    if not abs(value) <= LARGEST_NUMBER:
        raise ValueError("too large a number")
    return value


def _whole(text: str) -> int:
    _number(text)
    return int(text)
