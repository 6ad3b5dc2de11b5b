"""A product line that makes views of a product anew, as a file of the workflows would declare it; for tests alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation.workflows import (
    Assets,
    Cached,
    PlannedGeneration,
    PlannedOperation,
    Workflow,
    last_result,
    nothing_cached,
    nothing_follows,
)

NAME = "view_again"


class Inputs(Schema):
    """Which view; ``only_look`` makes a picture of it that is no view."""

    revision_id = fields.String(required=True)
    only_look = fields.Boolean(load_default=False)


def plan(
    inputs: Mapping[str, Any], assets: Assets, seed: int, _cached: Cached = nothing_cached
) -> Sequence[PlannedGeneration]:
    """Plan one free picture of the revision."""
    revision = assets[inputs["revision_id"]]
    operation = PlannedOperation(
        name="image.product_scene", prompt="Again.", prompt_version="again-1", seed=seed, sources=(revision["key"],)
    )
    return [
        PlannedGeneration(
            sku=None,
            seed=seed,
            operations=(operation,),
            product_id=revision["product_id"],
            revision_id=revision["id"],
            view_type=revision["view_type"],
            settings={"only_look": inputs["only_look"]},
        )
    ]


LINE = Workflow(
    name=NAME,
    title="A view again",
    inputs=Inputs,
    assets=(),
    products=(),
    revisions=("revision_id",),
    example={"revision_id": "rev_01jx0000000000000000000000"},
    estimated_seconds=5,
    plan=plan,
    follow_up=nothing_follows,
    choices={},
    renews_view=lambda settings: not settings["only_look"],
    result_of=last_result,
)
