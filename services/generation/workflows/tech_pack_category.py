"""What kind of thing a product is, for its technical pack: free, and the pack can do without."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation import tech_pack_steps as steps
from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

NAME = "tech_pack_category"
TITLE = "Category of a product"
ASSETS = ()
PRODUCTS = ("product_id",)
EXAMPLE = {"product_id": "prd_01jx0000000000000000000000"}
ESTIMATED_SECONDS = 5

SKU = "tech_pack.category"
PROMPT_VERSION = "tech-pack-category-1"
PROMPT = (
    "Name the category and the subcategory of the product on this photo, in the words of its own trade, whatever it is:"
    " furniture, apparel, footwear, jewellery, electronics, tools, food, or anything else. It is sold as {name!r}."
    " Say how sure you are, from 0 to 1."
)


class Inputs(Schema):
    """What a client sends."""

    product_id = fields.String(required=True)


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan the one look at the product's first view.

    Raises:
        StepNotAllowed: the product has no view.
    """
    product = assets[inputs["product_id"]]
    views = steps.in_order(product["views"].values())
    steps.require(steps.DETECT_CATEGORY, views=len(views), analyzed=0)
    operation = PlannedOperation(
        name="vision.category",
        prompt=PROMPT.format(name=product["name"]),
        prompt_version=PROMPT_VERSION,
        seed=seed,
        sources=(views[0]["key"],),
        parameters={"name": product["name"]},
        makes_image=False,
    )
    return [
        PlannedGeneration(
            sku=SKU,
            seed=seed,
            product_id=product["id"],
            revision_id=views[0]["id"],
            view_type=views[0]["view_type"],
            operations=(operation,),
        )
    ]
