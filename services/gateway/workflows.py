"""What each product line takes, as generated into shared/contracts: the gateway checks inputs by it before any call."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from shared.http_schemas import error_at, pointer, refusal
from shared.ids import SUFFIX_PATTERN, is_id

CONTRACTS = Path(__file__).resolve().parents[2] / "shared" / "contracts"
_ERRORS_MAX = 50
# What most clients come for, and what the other documents tell of.
_SHOWN_FIRST = "staging"
# What inputs may name: by the kind of id, its prefix and what a person calls it.
_KINDS = {"assets": ("ast", "an upload"), "products": ("prd", "a product"), "revisions": ("rev", "a view of a product")}
_CODES = {"required": "required", "additionalProperties": "unknown_field"}


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One product line: ``inputs`` is a JSON schema.

    ``assets``, ``products`` and ``revisions`` name those of its properties that are ids of uploads, of products and of
    revisions of their views.
    """

    name: str
    title: str
    inputs: Mapping[str, Any]
    assets: tuple[str, ...]
    products: tuple[str, ...]
    revisions: tuple[str, ...]
    example: Mapping[str, Any]
    validator: Any
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@cache
def contracts() -> Mapping[str, Contract]:
    """Return the contract of every product line, by name."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(CONTRACTS.glob("*.json")))
    return {document["name"]: _read(document) for document in found}


def described() -> dict[str, Any]:
    """Return what a JSON schema of a request says of ``workflow`` and ``inputs``: one branch a product line."""
    branches = [
        {
            "title": line.title,
            "properties": {
                "workflow": {"const": line.name},
                "inputs": _described(line),
            },
        }
        for line in contracts().values()
    ]
    shown = sorted(contracts().values(), key=lambda line: line.name != _SHOWN_FIRST)
    examples = [{"workflow": line.name, "inputs": dict(line.example)} for line in shown]
    return {"anyOf": branches, "examples": examples}


def _described(line: Contract) -> dict[str, Any]:
    """Return the inputs' schema, with what `check` wants beyond it: that things are named by their ids."""
    inputs = {name: part for name, part in line.inputs.items() if name != "$schema"}
    properties = dict(inputs["properties"])
    for kind, (prefix, _) in _KINDS.items():
        pattern = {"pattern": f"^{prefix}_{SUFFIX_PATTERN}$"}
        for name in getattr(line, kind):
            part = properties[name]
            properties[name] = (
                {**part, "items": {**part["items"], **pattern}} if "items" in part else {**part, **pattern}
            )
    return {**inputs, "properties": properties}


def contract(name: str) -> Contract:
    """Return the contract of the product line ``name``.

    Raises:
        BadRequest: there is none.
    """
    known = contracts()
    if name not in known:
        detail = f"there is no such workflow; there are {', '.join(known)}"
        raise refusal([error_at("/workflow", "invalid", detail)])
    return known[name]


def check(line: Contract, inputs: Mapping[str, Any], *, at: str) -> None:
    """Refuse ``inputs`` that the product line does not take; ``at`` is their JSON pointer in the request.

    Raises:
        BadRequest: with one entry in ``errors`` for each mistake.
    """
    found = (entry for error in line.validator.iter_errors(inputs) for entry in _entries(error, at))
    strangers = (
        error_at(pointer(name, at=at), "invalid", f"this is not the id of {what} ({prefix}_…)")
        for kind, (prefix, what) in _KINDS.items()
        for name in getattr(line, kind)
        for one in _texts(inputs.get(name))
        if not is_id(one, prefix=prefix)
    )
    # No more are looked for than are told: a body of 64 KiB has room for thousands.
    errors = list(islice(chain(found, strangers), _ERRORS_MAX))
    if errors:
        raise refusal(errors)


def check_some(line: Contract, inputs: Mapping[str, Any]) -> None:
    """Refuse what ``inputs`` have that the product line does not take; what they leave out is somebody else's matter.

    Raises:
        BadRequest: as `check`; the pointers begin at the body.
    """
    check(line, {**line.example, **inputs}, at="")


def named(line: Contract, inputs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what ``inputs`` names, each once: ``{asset_ids, product_ids, revision_ids}``."""
    return {
        f"{kind.removesuffix('s')}_ids": sorted(
            {one for name in getattr(line, kind) for one in _texts(inputs.get(name))}
        )
        for kind in _KINDS
    }


def named_in_all(asked: Mapping[str, Any]) -> int:
    """Return how many things a call of the catalog's ``resolve`` asks for: what `named` returns, or a part of it."""
    return sum(len(asked.get(f"{kind.removesuffix('s')}_ids", ())) for kind in _KINDS)


def _read(document: Mapping[str, Any]) -> Contract:
    return Contract(
        name=document["name"],
        title=document["title"],
        inputs=document["inputs"],
        **{kind: tuple(document.get(kind, ())) for kind in _KINDS},
        example=document["example"],
        validator=Draft202012Validator(document["inputs"]),
        choices=document["choices"],
    )


def _texts(value: Any) -> list[str]:
    """Return an id, or several, as a list; what has another type was found by the schema."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _entries(error: Any, at: str) -> Iterator[dict[str, str]]:
    """Turn one finding into entries; those about several properties become one for each."""
    place = pointer(*error.absolute_path, at=at)
    code = _CODES.get(str(error.validator), "invalid")
    if code == "required":
        names = [name for name in error.validator_value if name not in error.instance]
        yield from (error_at(pointer(name, at=place), code, "this is needed") for name in names)
    elif code == "unknown_field":
        names = [name for name in error.instance if name not in error.schema.get("properties", {})]
        yield from (error_at(pointer(name, at=place), code, "there is no such input") for name in names)
    elif error.validator == "anyOf":  # the first way to write it is the usual one
        yield error_at(place, code, error.context[0].message)
    else:
        yield error_at(place, code, error.message)
