"""Edits of one field of an analysis by plain instructions, as far as they can be followed without a model."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_SET: Final = re.compile(
    r"^\s*(?:please\s+)?(?:set|change|make|rename|call|correct|update|replace|fix|put|write|use)\b"
    r"(?:\s+(?:it|this|that|the\s+\w+|value|field))*?\s*(?:to|as|with|by|into|=|:)\s+(?P<value>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN: Final = re.compile(
    r"^\s*(?:set|make|use|write|put|call)\s+(?:it\s+|this\s+)?(?P<value>.+)$", re.IGNORECASE | re.DOTALL
)
_ADD: Final = re.compile(r"^\s*(?:please\s+)?(?:add|append)\s+(?P<value>.+)$", re.IGNORECASE | re.DOTALL)
_QUOTED: Final = re.compile(r"[\"\u201c'`](?P<value>[^\"\u201d'`]+)[\"\u201d'`]")
_NUMBER: Final = re.compile(r"-?\d+(?:[.,]\d+)?")
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}\b")
_FOLLOWED, _TAKEN = 0.8, 0.4


def edit_field(*, instruction: str, current: Any = None, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the new value of a field: ``{value, explanation, confidence}``.

    Understood are "set (it) to …", "add …", a quoted value, a number for a number, a ``#rrggbb`` for a colour, and
    JSON for what is made of parts; any other text is taken as the value itself, and said to be.

    Args:
        instruction: what a person wrote.
        current: the field as it is.
        schema: of the whole answer.

    Raises:
        ValueError: the instruction has no value of the kind the field takes.
    """
    wanted: Mapping[str, Any] = (schema or {}).get("properties", {}).get("value", {"type": "string"})
    said, followed = _said(instruction)
    kind = wanted.get("type")
    if kind in {"number", "integer"}:
        value: Any = _number(said, whole=kind == "integer")
    elif kind in {"array", "object"}:
        value = _parts(said)
    elif "pattern" in wanted and "#" in str(wanted["pattern"]):
        found = _COLOUR.search(said)
        if found is None:
            raise ValueError("the instruction names no colour: write it as #rrggbb")
        value = found[0].lower()
    else:
        value = _text(said, instruction, current)
    explanation = "set as the instruction says" if followed else "the instruction was taken as the value itself"
    return {"value": value, "explanation": explanation, "confidence": _FOLLOWED if followed else _TAKEN}


def _said(instruction: str) -> tuple[str, bool]:
    for pattern in (_SET, _ADD, _PLAIN):
        found = pattern.match(instruction)
        if found:
            return found["value"].strip().removesuffix(".").strip(), True
    quoted = _QUOTED.search(instruction)
    return (quoted["value"], True) if quoted else (instruction.strip(), False)


def _text(said: str, instruction: str, current: Any) -> str:
    quoted = _QUOTED.fullmatch(said)
    value = quoted["value"] if quoted else said
    return f"{current}; {value}" if _ADD.match(instruction) and isinstance(current, str) and current else value


def _number(said: str, *, whole: bool) -> float:
    found = _NUMBER.search(said)
    if found is None:
        raise ValueError("the instruction has no number, and the field is one")
    number = float(found[0].replace(",", "."))
    return int(number) if whole else number


def _parts(said: str) -> Any:
    try:
        return json.loads(said)
    except ValueError:
        raise ValueError("the field is made of parts: give them as JSON, or edit one of them") from None
