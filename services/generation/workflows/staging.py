"""Virtual staging: an empty or cluttered room, furnished in a style, in several variants."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields, validate

from services.generation.styles import ROOM_TYPES, STYLES, Style, parameters_of, words_of
from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

NAME = "staging"
TITLE = "Virtual staging"
ASSETS = ("upload_id",)
EXAMPLE = {
    "upload_id": "ast_01jx0000000000000000000000",
    "style": "scandinavian",
    "room_type": "living_room",
    "variants": 2,
}
ESTIMATED_SECONDS = 60
CHOICES = {"style": tuple(STYLES), "room_type": tuple(ROOM_TYPES)}

SKU = "staging.variant"
PROMPT_VERSION = "staging-1"
PROMPT = (
    "Photograph of the same room, same walls, windows, floor and camera position, professionally staged as a {room}."
    " Style: {style}. Realistic light and shadows, no people, no text."
)
# Seeds of the variants of one job lie far apart, so that neighbouring jobs never share one.
_SEED_STEP = 7919
_SEED_LIMIT = 2**31


class Inputs(Schema):
    """What a client sends."""

    upload_id = fields.String(required=True)
    style = Style(required=True)
    room_type = fields.String(required=True, validate=validate.OneOf(tuple(ROOM_TYPES)))
    variants = fields.Integer(load_default=2, strict=True, validate=validate.Range(min=1, max=8))


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan one generation per variant, each with its own seed.

    In the place of the upload may be an image of ours that was made of it: then that is what the variants are made of.
    """
    style, room_type = inputs["style"], inputs["room_type"]
    prompt = PROMPT.format(room=ROOM_TYPES[room_type], style=words_of(style, assets))
    source = assets[inputs["upload_id"]]
    seeds = [(seed + number * _SEED_STEP) % _SEED_LIMIT for number in range(inputs["variants"])]
    return [
        PlannedGeneration(
            sku=SKU,
            seed=one,
            style=style,
            room_type=room_type,
            settings={"parent_image_id": source["image_id"]} if "image_id" in source else {},
            operations=(
                PlannedOperation(
                    name="image.stage",
                    prompt=prompt,
                    prompt_version=PROMPT_VERSION,
                    seed=one,
                    sources=(source["key"],),
                    parameters={**parameters_of(style, assets), "room_type": room_type},
                ),
            ),
        )
        for one in seeds
    ]
