"""The technical sketches of a technical pack: front, back and side as line drawings, with callouts and measurements.

What is pointed at and measured is found out first, and drawn then: so the data and the drawing say the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from marshmallow import Schema, fields, validate

from services.generation import tech_pack_facts as facts
from services.generation import tech_pack_steps as steps
from services.generation.workflows import Assets, DoneOperation, PlannedGeneration, PlannedOperation

NAME = "tech_pack_sketches"
TITLE = "Technical sketches"
ASSETS = ()
PRODUCTS = ("product_id",)
EXAMPLE = {"product_id": "prd_01jx0000000000000000000000", "category": "footwear"}
ESTIMATED_SECONDS = 60

SKU = "tech_pack.sketches"
MEASURE_VERSION = "tech-pack-measure-2"
MEASURE_PROMPT = (
    "Prepare a technical sketch of the {view} view of the product on this photo, which shows its {seen_from}."
    "{category}{size} What is known of it: {known}. Name up to 12 callouts, the places a maker must know of, numbered"
    " from 1, each with a label in the terms of the trade, a note, and its place; and up to 12 measurements, with codes"
    " from A: the overall width first, the overall height second, each with its value, unit, both its ends, and whether"
    " it is stated, measured, estimated or assumed: measured is only what this photo itself shows. Places are shares of"
    " the box around the product, from its upper left.{more}"
)
SKETCH_VERSION = "tech-pack-sketch-1"
SKETCH_PROMPT = (
    "Technical line drawing of the {view} view of exactly the product in the given picture, as a flat for a technical"
    " pack: thin black lines on white, no shading, no background, proportions kept. Draw these callouts as numbered"
    " circles with leader lines: {callouts}. Draw these measurements as dimension lines: {measurements}.{more}"
)
# Which photos show what is drawn, best first.
_SHOWN_BY: Final = {"front": ("front",), "back": ("back", "front"), "side": ("left", "right", "front")}


class Inputs(Schema):
    """What a client sends."""

    product_id = fields.String(required=True)
    category = fields.String(validate=validate.Length(1, facts.CATEGORY_MAX))


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan what is to be measured of each view; the drawings follow on it.

    Raises:
        StepNotAllowed: nothing of the product was analysed yet.
    """
    product = assets[inputs["product_id"]]
    views = steps.in_order(product["views"].values())
    analyzed = steps.analyzed_of(views, before=steps.SKETCHES)
    known = about(product, category=facts.kind_for(inputs, product, analyzed))
    shown = [(view, _best(views, view)) for view in _SHOWN_BY]
    return [
        PlannedGeneration(
            sku=SKU,
            seed=seed,
            product_id=product["id"],
            settings={
                "seed": seed,
                "sketches": [
                    {"view_type": view, "seen_from": photo["view_type"], "revision_id": photo["id"]}
                    for view, photo in shown
                ],
            },
            operations=tuple(
                measure_operation(
                    view,
                    seen_from=photo["view_type"],
                    source=photo["key"],
                    about=known,
                    size=product["size"],
                    seed=seed,
                )
                for view, photo in shown
            ),
        )
    ]


def follow_up(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> Sequence[PlannedOperation]:
    """Plan the drawing of each view that was measured."""
    sketches = settings["sketches"]
    if len(done) > len(sketches):
        return ()
    return [
        sketch_operation(
            one["view_type"],
            seen_from=one["seen_from"],
            source=measured.sources[0],
            measured=measured.result or {},
            seed=settings["seed"],
        )
        for one, measured in zip(sketches, done, strict=True)
    ]


def result_of(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> dict[str, Any]:
    """Return ``{sketches: [{view_type, seen_from, revision_id, image_id, callouts, measurements, confidence}]}``."""
    sketches = settings["sketches"]
    return {
        "sketches": [
            {**one, **(measured.result or {}), "image_id": drawn.image_ids[0]}
            for one, measured, drawn in zip(sketches, done[: len(sketches)], done[len(sketches) :], strict=True)
        ]
    }


def about(product: Mapping[str, Any], *, category: str) -> dict[str, str]:
    """Return what the question tells of a product: its category, and what its analyses say."""
    analyzed = [view["analysis"] for view in steps.in_order(product["views"].values()) if view["analysis"]]
    return {"category": facts.of_kind(category), "known": facts.known_of(analyzed)}


def measure_operation(
    view: str,
    *,
    seen_from: str,
    source: str,
    about: Mapping[str, str],
    size: Mapping[str, float],
    seed: int,
    more: str = "",
) -> PlannedOperation:
    """Return the question what is to be pointed at and measured; ``more`` is what somebody adds to it."""
    return PlannedOperation(
        name="vision.measure",
        prompt=MEASURE_PROMPT.format(
            view=view, seen_from=seen_from, size=facts.of_size(size), more=f" {more}" if more else "", **about
        ),
        prompt_version=MEASURE_VERSION,
        seed=seed,
        sources=(source,),
        parameters={"view": view, "seen_from": seen_from, **size},
        makes_image=False,
    )


def sketch_operation(
    view: str, *, seen_from: str, source: str, measured: Mapping[str, Any], seed: int, more: str = ""
) -> PlannedOperation:
    """Return the drawing of a view with what was measured of it."""
    callouts = "; ".join(f"{one['number']} {one['label']}" for one in measured["callouts"])
    lengths = "; ".join(
        f"{one['code']} {one['name']} {one['value']:g} {one['unit']}" for one in measured["measurements"]
    )
    return PlannedOperation(
        name="image.sketch",
        prompt=SKETCH_PROMPT.format(
            view=view, callouts=callouts, measurements=lengths, more=f" {more}" if more else ""
        ),
        prompt_version=SKETCH_VERSION,
        seed=seed,
        sources=(source,),
        parameters={
            "view": view,
            "seen_from": seen_from,
            "callouts": list(measured["callouts"]),
            "measurements": list(measured["measurements"]),
            "aspect_ratio": "1:1",
        },
    )


def _best(views: Sequence[Mapping[str, Any]], drawn: str) -> Mapping[str, Any]:
    """Return the photo that shows best what is to be drawn: any is better than none."""
    by_type = {view["view_type"]: view for view in views}
    return next((by_type[name] for name in _SHOWN_BY[drawn] if name in by_type), views[0])
