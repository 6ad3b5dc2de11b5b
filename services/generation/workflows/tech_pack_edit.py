"""One field of a view's analysis edited by an instruction; everything else stays as it is."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields, validate

from services.generation import tech_pack_fields
from services.generation import tech_pack_steps as steps
from services.generation.workflows import (
    Assets,
    Cached,
    DoneOperation,
    PlannedGeneration,
    PlannedOperation,
    nothing_cached,
)
from shared.problems import BadRequest

PROMPT_MAX = 1000

NAME = "tech_pack_edit"
TITLE = "Edit of a technical pack's field"
ASSETS = ()
REVISIONS = ("revision_id",)
EXAMPLE = {
    "revision_id": "rev_01jx0000000000000000000000",
    "field_path": "materials.0.finish",
    "prompt": "Set it to semi-matt.",
}
ESTIMATED_SECONDS = 8

SKU = "tech_pack.edit"
PROMPT_VERSION = "tech-pack-edit-1"
PROMPT = (
    "The field {path} of a product's technical pack says: {current}. The photo shows the product. Edit the field, and"
    " nothing else, as its owner asks: {prompt!r}. Answer the new value, in the same form, why, and how sure you are,"
    " from 0 to 1."
)


class Inputs(Schema):
    """What a client sends. ``field_path`` is names and places joined by dots: ``dimensions.height.value``."""

    revision_id = fields.String(required=True)
    field_path = fields.String(required=True, validate=validate.Length(1, tech_pack_fields.PATH_MAX))
    prompt = fields.String(required=True, validate=validate.Length(1, PROMPT_MAX))


def plan(
    inputs: Mapping[str, Any], assets: Assets, seed: int, cached: Cached = nothing_cached
) -> Sequence[PlannedGeneration]:
    """Plan the one edit.

    Raises:
        StepNotAllowed: the view was not analysed yet.
        BadRequest: its analysis has no such field.
    """
    (view,) = steps.analyzed_of([assets[inputs["revision_id"]]], before=steps.EDIT)
    path = inputs["field_path"]
    current, schema = _field(view["analysis"], path)
    operation = PlannedOperation(
        name="vision.edit",
        prompt=PROMPT.format(path=path, current=json.dumps(current, ensure_ascii=False), prompt=inputs["prompt"]),
        prompt_version=PROMPT_VERSION,
        seed=seed,
        sources=(view["key"],),
        parameters={"instruction": inputs["prompt"], "current": current, "schema": answer_schema(schema)},
        makes_image=False,
    )
    return [
        PlannedGeneration(
            sku=None if cached(operation) else SKU,
            seed=seed,
            product_id=view["product_id"],
            revision_id=view["id"],
            view_type=view["view_type"],
            settings={"subject": view["subject"], "field_path": path, "prompt": inputs["prompt"]},
            operations=(operation,),
        )
    ]


def result_of(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> dict[str, Any]:
    """Return ``{field_path, value, explanation, confidence}``."""
    return {"field_path": settings["field_path"], **(done[-1].result or {})}


def _field(analysis: Mapping[str, Any], path: str) -> tuple[Any, dict[str, Any]]:
    try:
        return tech_pack_fields.value_at(analysis, path), tech_pack_fields.schema_at(path)
    except tech_pack_fields.NoSuchField as error:
        where = {"pointer": "/inputs/field_path", "code": "invalid", "detail": str(error)}
        raise BadRequest("The analysis has no such field.", errors=[where]) from error


def answer_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of the answer to an edit whose value fits ``schema``."""
    properties = {
        "value": dict(schema),
        "explanation": {"type": "string"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
