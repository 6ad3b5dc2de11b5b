"""One picture of a technical pack made again: a base view, as the product's next revision, a close-up or a sketch.

What is made is analysed or measured anew. The analysis and the pictures there were before stay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from services.generation import tech_pack_facts as facts
from services.generation import tech_pack_steps as steps
from services.generation.workflows import Assets, DoneOperation, PlannedGeneration, PlannedOperation
from services.generation.workflows.tech_pack_base_views import look
from services.generation.workflows.tech_pack_close_ups import look_operation, seen, shot_operation
from services.generation.workflows.tech_pack_sketches import about, measure_operation, sketch_operation

PROMPT_MAX = 1000

NAME = "tech_pack_regenerate"
TITLE = "A view, close-up or sketch made again"
ASSETS = ()
PRODUCTS = ("product_id",)
REVISIONS = ("revision_id",)
EXAMPLE = {"revision_id": "rev_01jx0000000000000000000000", "prompt": "Lit from the left."}
ESTIMATED_SECONDS = 40

SKU = "tech_pack.regenerate"
VIEW_VERSION = "tech-pack-view-1"
VIEW_PROMPT = (
    "Studio photograph of the {view} view of exactly the product in the given picture, alone, whole, before a plain"
    " light ground, evenly lit. Shape, proportions, colours, material and labels unchanged. What is known of it:"
    " {known}.{more} No people, no added text."
)
_OF_SHOT = ("title", "view", "instruction", "reason", "seen_from", "number", "count")


class Inputs(Schema):
    """What a client sends: the revision of a view, or a product and the image of its close-up or sketch."""

    revision_id = fields.String()
    product_id = fields.String()
    image_id = fields.String()
    prompt = fields.String(validate=validate.Length(1, PROMPT_MAX))

    @validates_schema
    def _one_thing(self, data: Mapping[str, Any], **_: Any) -> None:
        named = {name for name in ("revision_id", "product_id", "image_id") if name in data}
        if named not in ({"revision_id"}, {"product_id", "image_id"}):
            raise ValidationError("Name a `revision_id`, or a `product_id` and an `image_id`.", "revision_id")


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan the new picture; what it shows is found out when it is there.

    Raises:
        StepNotAllowed: the view was not analysed yet.
    """
    more = inputs.get("prompt", "")
    if "revision_id" in inputs:
        return [_view(assets[inputs["revision_id"]], seed=seed, more=more)]
    part, product = assets[inputs["image_id"]], assets[inputs["product_id"]]
    return [(_close_up if part["kind"] == "close_up" else _sketch)(part, product, seed=seed, more=more)]


def follow_up(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> Sequence[PlannedOperation]:
    """Plan the analysis of the new picture, or the drawing of what was measured."""
    if len(done) > 1:
        return ()
    (first,) = done
    if settings["part"] == "sketch":
        return [
            sketch_operation(
                settings["place"],
                seen_from=settings["seen_from"],
                source=first.sources[0],
                measured=first.result or {},
                seed=settings["seed"],
                more=settings["prompt"],
            )
        ]
    picture, seed, category = first.image_keys[0], settings["seed"], settings["category"]
    if settings["part"] == "close_up":
        return [look_operation(settings["shot"], picture=picture, category=category, seed=seed)]
    return [look(picture, view_type=settings["view_type"], category=category, size=settings["size"], seed=seed)]


def result_of(settings: Mapping[str, Any], done: Sequence[DoneOperation]) -> dict[str, Any]:
    """Return what is known of the new picture: as `tech_pack_base_views`, `…_close_ups` and `…_sketches` do of one."""
    first, last = done
    if settings["part"] == "sketch":
        told_ = {"view_type": settings["place"], "seen_from": settings["seen_from"]}
        return {**told_, "revision_id": settings["revision_id"], **(first.result or {}), "image_id": last.image_ids[0]}
    if settings["part"] == "close_up":
        return {"order": int(settings["place"]), **settings["shot"], **seen(first, last)}
    return {"view_type": settings["view_type"], **seen(first, last)}


def renews_view(settings: Mapping[str, Any]) -> bool:
    """Tell whether it is a view of the product that is made anew."""
    return bool(settings["part"] == "view")


def _view(view: Mapping[str, Any], *, seed: int, more: str) -> PlannedGeneration:
    (view,) = steps.analyzed_of([view], before=steps.REGENERATE)
    known = facts.known_of([view["analysis"]])
    return PlannedGeneration(
        sku=SKU,
        seed=seed,
        product_id=view["product_id"],
        revision_id=view["id"],
        view_type=view["view_type"],
        settings={
            "part": "view",
            "view_type": view["view_type"],
            "category": facts.kind_told(view["analysis"]),
            "size": facts.size_told(view["analysis"]),
            "seed": seed,
            "prompt": more,
        },
        operations=(
            PlannedOperation(
                name="image.edit",
                prompt=VIEW_PROMPT.format(view=view["view_type"], known=known, more=f" {more}" if more else ""),
                prompt_version=VIEW_VERSION,
                seed=seed,
                sources=(view["key"],),
                parameters={"edit": "product_view"},
            ),
        ),
    )


def _close_up(part: Mapping[str, Any], product: Mapping[str, Any], *, seed: int, more: str) -> PlannedGeneration:
    shot = {name: part["data"][name] for name in _OF_SHOT}
    operation = shot_operation(shot, source=part["key"], seed=seed, more=more)
    return _of_part(part, operation, seed=seed, prompt=more, shot=shot, category=_kind_of(product))


def _sketch(part: Mapping[str, Any], product: Mapping[str, Any], *, seed: int, more: str) -> PlannedGeneration:
    seen_from = part["data"]["seen_from"]
    operation = measure_operation(
        part["place"],
        seen_from=seen_from,
        source=part["key"],
        about=about(product, category=_kind_of(product)),
        size=product["size"],
        seed=seed,
        more=more,
    )
    return _of_part(part, operation, seed=seed, prompt=more, seen_from=seen_from)


def _kind_of(product: Mapping[str, Any]) -> str:
    return facts.kind_for({}, product, [view for view in steps.in_order(product["views"].values()) if view["analysis"]])


def _of_part(part: Mapping[str, Any], operation: PlannedOperation, **settings: Any) -> PlannedGeneration:
    named = {name: part[name] for name in ("place", "set_id")}
    return PlannedGeneration(
        sku=SKU,
        seed=settings["seed"],
        product_id=part["product_id"],
        revision_id=part["revision_id"],
        settings={
            "part": part["kind"],
            "parent_image_id": part["image_id"],
            "revision_id": part["revision_id"],
            **named,
            **settings,
        },
        operations=(operation,),
    )
