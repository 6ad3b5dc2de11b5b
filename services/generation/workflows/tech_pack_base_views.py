"""The base views of a product analysed for its technical pack: up to five, side by side, whatever the product is.

A view that is known already is not paid for: of the price for them together, its part is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from services.generation import tech_pack_facts as facts
from services.generation import tech_pack_steps as steps
from services.generation.workflows import (
    Assets,
    Cached,
    DoneOperation,
    PlannedGeneration,
    PlannedOperation,
    nothing_cached,
)
from shared.problems import NotFound

VIEWS_MAX = 5

NAME = "tech_pack_base_views"
TITLE = "Base views of a technical pack"
ASSETS = ()
PRODUCTS = ("product_id",)
REVISIONS = ("revision_ids",)
EXAMPLE = {
    "product_id": "prd_01jx0000000000000000000000",
    "revision_ids": ["rev_01jx0000000000000000000000"],
    "category": "footwear",
}
ESTIMATED_SECONDS = 15

SKU = "tech_pack.base_views"
PROMPT_VERSION = "tech-pack-base-view-2"
PROMPT = (
    "You write the technical pack of a product, from which a factory will make it. This photo shows its {view} view."
    "{category}{size} Whatever the product is, use the terms of its own trade, and choose the fields that matter for"
    " it. Give: materials (what, where, with which finish), dimensions (value, unit, and whether stated, measured or"
    " estimated), colours with their shares, construction (how it is made and joined), design elements, and under"
    " attributes whatever else a maker of such things must know. Only what is to be seen or follows from it; say how"
    " sure you are, from 0 to 1."
)


def _require_unique(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        raise ValidationError("Each view may be named once.")


class Inputs(Schema):
    """What a client sends; without ``revision_ids`` the current views of the product are taken, the front first."""

    product_id = fields.String(required=True)
    revision_ids = fields.List(
        fields.String(), validate=[validate.Length(1, VIEWS_MAX), _require_unique], metadata={"uniqueItems": True}
    )
    category = fields.String(validate=validate.Length(1, facts.CATEGORY_MAX))


def look(source: str, *, view_type: str, category: str, size: Mapping[str, float], seed: int) -> PlannedOperation:
    """Return the analysis of one view; the same picture, view, category and stated size are the same question."""
    return PlannedOperation(
        name="vision.product",
        prompt=PROMPT.format(view=view_type, category=facts.of_kind(category), size=facts.of_size(size)),
        prompt_version=PROMPT_VERSION,
        seed=seed,
        sources=(source,),
        parameters={"view_type": view_type, "category": category, **size},
        makes_image=False,
    )


def plan(
    inputs: Mapping[str, Any], assets: Assets, seed: int, cached: Cached = nothing_cached
) -> Sequence[PlannedGeneration]:
    """Plan one generation of an analysis for each view; it has no price where all of them are known.

    Raises:
        NotFound: a revision is of another product.
        StepNotAllowed: the product has no view.
    """
    product = assets[inputs["product_id"]]
    views = _views(inputs, assets, product)
    steps.require(steps.ANALYZE, views=len(views), analyzed=0)
    category = facts.kind_for(inputs, product)
    operations = tuple(
        look(view["key"], view_type=view["view_type"], category=category, size=product["size"], seed=seed)
        for view in views
    )
    named = [{name: view[name] for name in ("id", "subject", "view_type", "version")} for view in views]
    return [
        PlannedGeneration(
            sku=None if all(cached(operation) for operation in operations) else SKU,
            seed=seed,
            product_id=product["id"],
            settings={"views": named, "category": category},
            operations=operations,
            priced_by_operation=True,
        )
    ]


def result_of(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> dict[str, Any]:
    """Return ``{analyses: [{revision_id, view_type, analysis, confidence}]}``, in the order they were asked for."""
    return {
        "analyses": [
            {
                "revision_id": view["id"],
                "view_type": view["view_type"],
                "analysis": one.result,
                "confidence": steps.confidence(one.result or {}),
            }
            for view, one in zip(settings["views"], done, strict=True)
        ]
    }


def _views(inputs: Mapping[str, Any], assets: Assets, product: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "revision_ids" not in inputs:
        return steps.in_order(product["views"].values())[:VIEWS_MAX]
    views = [assets[revision_id] for revision_id in inputs["revision_ids"]]
    strangers = [view["id"] for view in views if view["product_id"] != product["id"]]
    if strangers:
        raise NotFound("The product has no such view: " + ", ".join(strangers), missing=strangers)
    return views
