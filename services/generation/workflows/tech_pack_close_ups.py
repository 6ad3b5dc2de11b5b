"""The close-ups of a technical pack: which details matter is planned, each is photographed, and each is analysed.

All analysed views are looked at for the plan; each close-up is made of the photo that shows its detail.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields, validate

from services.generation import tech_pack_facts as facts
from services.generation import tech_pack_steps as steps
from services.generation.workflows import Assets, DoneOperation, PlannedGeneration, PlannedOperation
from services.generation.workflows.tech_pack_base_views import VIEWS_MAX

SHOTS_MIN, SHOTS_MAX = 6, 10

NAME = "tech_pack_close_ups"
TITLE = "Close-ups of a technical pack"
ASSETS = ()
PRODUCTS = ("product_id",)
EXAMPLE = {"product_id": "prd_01jx0000000000000000000000", "category": "footwear", "count": 8}
ESTIMATED_SECONDS = 90

SKU = "tech_pack.close_ups"
PLAN_VERSION = "tech-pack-close-up-plan-2"
PLAN_PROMPT = (
    "Plan {count} close-ups of one product for its technical pack: the details a factory must see to make it, each"
    " another one, the most telling first.{category} Its photos show, in this order: {views}. What is known of it:"
    " {known}. For each: a title, what is seen, how it is to be photographed, why, and the number of the photo that"
    " shows it best, from 1; look at all of them."
)
SHOT_VERSION = "tech-pack-close-up-1"
SHOT_PROMPT = (
    "Macro photograph of a detail of exactly the product in the given picture: {title}. {instruction} Shape, material,"
    " colour and make unchanged. Even, soft light, everything in focus, nothing else in the frame. No people, no text."
)
LOOK_VERSION = "tech-pack-close-up-look-1"
LOOK_PROMPT = (
    "This close-up shows a detail of a product for its technical pack: {title}.{category} Extract what a maker must"
    " know of it: material and finish, how it is made and joined, dimensions that can be told, colours, and whatever"
    " else matters, in the terms of its trade. Say how sure you are, from 0 to 1."
)
_SEED_STEP, _SEED_LIMIT = 7919, 2**31


class Inputs(Schema):
    """What a client sends."""

    product_id = fields.String(required=True)
    category = fields.String(validate=validate.Length(1, facts.CATEGORY_MAX))
    count = fields.Integer(load_default=8, strict=True, validate=validate.Range(SHOTS_MIN, SHOTS_MAX))


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan the plan; the shots and their analyses follow on it.

    Raises:
        StepNotAllowed: nothing of the product was analysed yet.
    """
    product = assets[inputs["product_id"]]
    analyzed = steps.analyzed_of(steps.in_order(product["views"].values()), before=steps.CLOSE_UPS)
    category = facts.kind_for(inputs, product, analyzed)
    known = facts.known_of(view["analysis"] for view in analyzed)
    photos = analyzed[:VIEWS_MAX]
    seen_from = [view["view_type"] for view in photos]
    operation = PlannedOperation(
        name="vision.plan",
        prompt=PLAN_PROMPT.format(
            count=inputs["count"], category=facts.of_kind(category), views=", ".join(seen_from), known=known
        ),
        prompt_version=PLAN_VERSION,
        seed=seed,
        sources=tuple(view["key"] for view in photos),
        parameters={"count": inputs["count"], "views": seen_from},
        makes_image=False,
    )
    named = [{"seen_from": view["view_type"], "revision_id": view["id"]} for view in photos]
    return [
        PlannedGeneration(
            sku=SKU,
            seed=seed,
            product_id=product["id"],
            settings={"category": category, "seed": seed, "photos": named},
            operations=(operation,),
        )
    ]


def follow_up(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> Sequence[PlannedOperation]:
    """Plan a picture of each planned shot, and then the analysis of each picture."""
    shots = shots_of(done[0])
    if len(done) == 1:
        return [
            shot_operation(
                shot,
                source=done[0].sources[shot["photo"] - 1],
                seed=(settings["seed"] + number * _SEED_STEP) % _SEED_LIMIT,
            )
            for number, shot in enumerate(shots, start=1)
        ]
    if len(done) == 1 + len(shots):
        return [
            look_operation(shot, picture=one.image_keys[0], category=settings["category"], seed=settings["seed"])
            for shot, one in zip(shots, done[1:], strict=True)
        ]
    return ()


def result_of(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> dict[str, Any]:
    """Return ``{shots: [{order, seen_from, revision_id, image_id, analysis, confidence, …}]}``, see `shots_of`."""
    shots = shots_of(done[0])
    pictures, looks = done[1 : 1 + len(shots)], done[1 + len(shots) :]
    return {
        "shots": [
            {"order": order, **shot, **settings["photos"][shot["photo"] - 1], **seen(picture, look)}
            for order, (shot, picture, look) in enumerate(zip(shots, pictures, looks, strict=True), start=1)
        ]
    }


def shots_of(planned: DoneOperation) -> list[dict[str, Any]]:
    """Return the shots of a finished plan, ``{title, view, instruction, reason, photo, number, count}`` each.

    A shot is the ``number``-th of ``count`` that its ``photo`` shows. One of a photo that there is not is of the last.
    """
    photos = len(planned.sources)
    shots = [{**shot, "photo": min(shot["photo"], photos)} for shot in (planned.result or {})["shots"]]
    counts, numbers = Counter(shot["photo"] for shot in shots), Counter[int]()
    for shot in shots:
        numbers[shot["photo"]] += 1
        shot.update(number=numbers[shot["photo"]], count=counts[shot["photo"]])
    return shots


def shot_operation(shot: Mapping[str, Any], *, source: str, seed: int, more: str = "") -> PlannedOperation:
    """Return the picture of a planned shot, of the photo ``source``; ``more`` is what somebody adds to it."""
    return PlannedOperation(
        name="image.close_up",
        prompt=SHOT_PROMPT.format(title=shot["title"], instruction=shot["instruction"]) + (f" {more}" if more else ""),
        prompt_version=SHOT_VERSION,
        seed=seed,
        sources=(source,),
        parameters={"shot": shot["number"], "count": shot["count"], "aspect_ratio": "1:1"},
    )


def look_operation(shot: Mapping[str, Any], *, picture: str, category: str, seed: int) -> PlannedOperation:
    """Return the analysis of a shot's picture."""
    return PlannedOperation(
        name="vision.product",
        prompt=LOOK_PROMPT.format(title=shot["title"], category=facts.of_kind(category)),
        prompt_version=LOOK_VERSION,
        seed=seed,
        sources=(picture,),
        parameters={"view_type": "detail", "category": category},
        makes_image=False,
    )


def seen(picture: DoneOperation, look: DoneOperation) -> dict[str, Any]:
    """Return what a shot has come to: its image, the analysis of that, and how far this is to be trusted."""
    analysis = look.result or {}
    return {"image_id": picture.image_ids[0], "analysis": analysis, "confidence": steps.confidence(analysis)}
