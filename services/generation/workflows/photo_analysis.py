"""What is to be seen on photos: their look (style, light, colours, materials), or what kind of thing they show.

An analysis that is known is taken again, and costs nothing then.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from services.generation.workflows import (
    Assets,
    Cached,
    PlannedGeneration,
    PlannedOperation,
    nothing_cached,
)
from shared.problems import LimitExceeded

PHOTOS_MAX = 500

NAME = "photo_analysis"
TITLE = "Analysis of photos"
ASSETS = ("upload_ids",)
EXAMPLE = {"upload_ids": ["ast_01jx0000000000000000000000"], "kind": "look"}
ESTIMATED_SECONDS = 10

SKU = "studio.analysis"
PROMPT_VERSION = "photo-analysis-1"
_OPERATIONS: Final = {"look": "vision.analyze", "category": "vision.category"}
PROMPTS: Final = {
    "look": (
        "Describe what is to be seen on this photo for somebody who will photograph something like it: what it shows,"
        " its style, lighting and composition, its main colours with their shares, its materials, and what else is"
        " remarkable. Say nothing that is not to be seen, and how sure you are."
    ),
    "category": (
        "Name the category and the subcategory of the product on this photo in the words of its trade, and how sure"
        " you are."
    ),
}
KINDS = tuple(_OPERATIONS)
CHOICES = {"kind": KINDS}


def _require_unique(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        raise ValidationError("Each photo may be named once.")


class Inputs(Schema):
    """What a client sends. How many photos there may be is a named limit, and said by `plan`, not by the schema."""

    upload_ids = fields.List(
        fields.String(),
        required=True,
        validate=[validate.Length(min=1), _require_unique],
        metadata={"uniqueItems": True},
    )
    kind = fields.String(load_default="look", validate=validate.OneOf(KINDS))


def plan(
    inputs: Mapping[str, Any], assets: Assets, seed: int, cached: Cached = nothing_cached
) -> Sequence[PlannedGeneration]:
    """Plan one generation per photo, in the order they are named; what is known has no price.

    Raises:
        LimitExceeded: there are more than 500 photos.
    """
    excess = len(inputs["upload_ids"]) - PHOTOS_MAX
    if excess > 0:
        raise LimitExceeded(
            f"A job may analyse {PHOTOS_MAX} photos. Name fewer, in several jobs.", limit=PHOTOS_MAX, excess=excess
        )
    return [
        _analysis(upload_id, assets[upload_id]["key"], kind=inputs["kind"], seed=seed, cached=cached)
        for upload_id in inputs["upload_ids"]
    ]


def _analysis(upload_id: str, source: str, *, kind: str, seed: int, cached: Cached) -> PlannedGeneration:
    operation = PlannedOperation(
        name=_OPERATIONS[kind],
        prompt=PROMPTS[kind],
        prompt_version=PROMPT_VERSION,
        seed=seed,
        sources=(source,),
        makes_image=False,
    )
    return PlannedGeneration(
        sku=None if cached(operation) else SKU,
        seed=seed,
        settings={"upload_id": upload_id, "kind": kind},
        operations=(operation,),
    )
