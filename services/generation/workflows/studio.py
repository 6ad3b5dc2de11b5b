"""Catalogue photography in bulk: every product of a selection, placed in scenes of one style, in several variants."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from services.generation.styles import ROOM_TYPES, STYLES, Style, parameters_of, words_of
from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation
from shared.problems import LimitExceeded

ASPECT_RATIOS = ("1:1", "4:5", "3:4", "2:3", "9:16", "5:4", "4:3", "3:2", "16:9")
PRODUCTS_MAX = 500

NAME = "studio"
TITLE = "Studio photographs of products"
ASSETS = ("upload_ids",)
EXAMPLE = {
    "upload_ids": ["ast_01jx0000000000000000000000", "ast_01jx0000000000000000000001"],
    "style": "scandinavian",
    "room_type": "living_room",
    "variants": 4,
    "aspect_ratio": "1:1",
}
ESTIMATED_SECONDS = 30
CHOICES = {"style": tuple(STYLES), "room_type": tuple(ROOM_TYPES), "aspect_ratio": ASPECT_RATIOS}

SKU = "studio.image"
PROMPT_VERSION = "studio-1"
PROMPT = (
    "Catalogue photograph of exactly the product in the given picture, its shape, proportions, colours, material and"
    " labels unchanged. It stands alone in a setting taken from a {room}, whole and in focus, with a natural contact"
    " shadow. Style: {style}. Aspect ratio {aspect_ratio}. No people, no added text, no other products."
)
# As for stagings: seeds lie far apart; the step is odd, so that no two of a job are ever the same.
_SEED_STEP = 7919
_SEED_LIMIT = 2**31


def _require_unique(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        raise ValidationError("Each product may be named once.")


class Inputs(Schema):
    """What a client sends. How many products there may be is a named limit, and said by `plan`, not by the schema."""

    upload_ids = fields.List(
        fields.String(),
        required=True,
        validate=[validate.Length(min=1), _require_unique],
        metadata={"uniqueItems": True},
    )
    style = Style(required=True)
    room_type = fields.String(required=True, validate=validate.OneOf(tuple(ROOM_TYPES)))
    variants = fields.Integer(load_default=4, strict=True, validate=validate.Range(min=1, max=8))
    aspect_ratio = fields.String(load_default="1:1", validate=validate.OneOf(ASPECT_RATIOS))


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan one generation per product and variant, product by product, each with its own seed.

    Raises:
        LimitExceeded: there are more than 500 products.
    """
    excess = len(inputs["upload_ids"]) - PRODUCTS_MAX
    if excess > 0:
        raise LimitExceeded(
            f"Maximum {PRODUCTS_MAX} products per studioSession. Please reduce selection.",
            limit=PRODUCTS_MAX,
            excess=excess,
        )
    shots = [(upload_id, number) for upload_id in inputs["upload_ids"] for number in range(1, inputs["variants"] + 1)]
    return [
        _shot(
            inputs,
            assets,
            upload_id=upload_id,
            variant=variant,
            seed=(seed + position * _SEED_STEP) % _SEED_LIMIT,
        )
        for position, (upload_id, variant) in enumerate(shots)
    ]


def _shot(inputs: Mapping[str, Any], assets: Assets, *, upload_id: str, variant: int, seed: int) -> PlannedGeneration:
    style, room_type, aspect_ratio = inputs["style"], inputs["room_type"], inputs["aspect_ratio"]
    prompt = PROMPT.format(room=ROOM_TYPES[room_type], style=words_of(style, assets), aspect_ratio=aspect_ratio)
    return PlannedGeneration(
        sku=SKU,
        seed=seed,
        style=style,
        room_type=room_type,
        settings={"upload_id": upload_id, "variant": variant, "aspect_ratio": aspect_ratio},
        operations=(
            PlannedOperation(
                name="image.product_scene",
                prompt=prompt,
                prompt_version=PROMPT_VERSION,
                seed=seed,
                sources=(assets[upload_id]["key"],),
                parameters={**parameters_of(style, assets), "room_type": room_type, "aspect_ratio": aspect_ratio},
            ),
        ),
    )
