"""The fields of a product analysis, by path: reading one, changing one and nothing else, what may stand there. Pure.

A path is names and places joined by dots: ``summary``, ``dimensions.height.value``, ``materials.0.name``. What stands
in a list is meant by its place, or by its name; an open field may be named that is not there yet.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.generation.analyses import RESULT_SCHEMAS

PATH_MAX: Final = 200
# Lists of name and value: every product has others, so that an edit may add one.
OPEN_FIELDS: Final = ("construction", "design_elements", "attributes")
_SCHEMA: Final = RESULT_SCHEMAS["vision.product"]
_SCORE: Final = "confidence"
_MOST_ENTRIES: Final = 100


class NoSuchField(ValueError):
    """The analysis has nothing under the path; the message says what there is instead."""


def schema_at(path: str) -> dict[str, Any]:
    """Return the JSON schema of what stands under a path.

    Raises:
        NoSuchField: no analysis has such a field, or it is not for people to change.
    """
    schema: dict[str, Any] = _SCHEMA
    steps = _steps(path)
    if steps[0] == _SCORE:
        raise NoSuchField("how sure the analysis is follows from the analysis, and cannot be edited")
    for place, step in enumerate(steps):
        properties: Mapping[str, Any] = schema.get("properties", {})
        if schema["type"] == "array":
            schema = schema["items"]
        elif step in properties:
            schema = properties[step]
        else:
            known = ", ".join(name for name in properties if name != _SCORE) or "nothing below it"
            raise NoSuchField(f"there is no {'.'.join(steps[: place + 1])}; there is {known}")
    return schema


def value_at(analysis: Mapping[str, Any], path: str) -> Any:
    """Return what stands under a path; None for an open field that is not there yet.

    Raises:
        NoSuchField: there is none.
    """
    schema_at(path)
    found: Any = analysis
    steps = _steps(path)
    for place, step in enumerate(steps):
        if isinstance(found, list):
            index = _index(found, step)
            if index is None and _may_be_added(steps, place):
                return None
            if index is None:
                raise NoSuchField(f"{'.'.join(steps[:place])} has {_entries(found)}, and no {step!r}")
            found = found[index]
        else:
            found = found[step]
    return found


def with_value(analysis: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the analysis with another value under a path, all else as it was; an open field may be added.

    Raises:
        NoSuchField: there is no such field, or there is no room for another.
    """
    value_at(analysis, path)
    changed = copy.deepcopy(dict(analysis))
    steps = _steps(path)
    at: Any = changed
    for place, step in enumerate(steps):
        key: Any = step
        if isinstance(at, list):
            key = _index(at, step)
            if key is None:
                at.append(_added(at, step))
                key = len(at) - 1
        if place == len(steps) - 1:
            at[key] = value
        else:
            at = at[key]
    return changed


def overlap(analysis: Mapping[str, Any], one: str, other: str) -> bool:
    """Tell whether two paths into an analysis mean the same, or one a part of the other."""
    keys = (_keys(analysis, path) for path in (one, other))
    return all(first == second for first, second in zip(*keys, strict=False))


def _keys(analysis: Mapping[str, Any], path: str) -> list[str | int]:
    """Return a path in which what stands in a list is meant by its place, if it is there."""
    keys: list[str | int] = []
    at: Any = analysis
    for step in _steps(path):
        key: str | int | None = _index(at, step) if isinstance(at, list) else step
        keys.append(step if key is None else key)
        at = at[key] if at is not None and key is not None else None
    return keys


def _steps(path: str) -> list[str]:
    steps = path.replace("[", ".").replace("]", "").split(".")
    if len(path) > PATH_MAX or not all(step.strip() for step in steps):
        raise NoSuchField("a path is names and places joined by dots, such as materials.0.name")
    return steps


def _may_be_added(steps: Sequence[str], place: int) -> bool:
    """Tell whether the path means the value of an open field, by its name."""
    return place == 1 and steps[0] in OPEN_FIELDS and steps[2:] == ["value"] and not steps[1].isdigit()


def _added(fields: Sequence[Any], name: str) -> dict[str, str]:
    if len(fields) >= _MOST_ENTRIES:
        raise NoSuchField(f"{_MOST_ENTRIES} fields are the most")
    return {"name": name, "value": ""}


def _index(entries: Sequence[Any], step: str) -> int | None:
    """Return which entry of a list is meant: by its name before its place."""
    wanted = step.casefold().replace("_", " ")
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and str(entry.get("name", "")).casefold().replace("_", " ") == wanted:
            return number
    if step.isascii() and step.isdigit() and len(step) < 4 and int(step) < len(entries):  # noqa: PLR2004  digits
        return int(step)
    return None


def _entries(entries: Sequence[Any]) -> str:
    names = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and entry.get("name")]
    return f"{len(entries)} entries" + (f" ({', '.join(names[:10])})" if names else "")
