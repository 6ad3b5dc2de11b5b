"""Empty rooms: a furnished or cluttered room, shown with its walls, windows and floor alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

NAME = "empty_room"
TITLE = "Empty room"
ASSETS = ("upload_id",)
EXAMPLE = {"upload_id": "ast_01jx0000000000000000000000"}
ESTIMATED_SECONDS = 45

SKU = "staging.empty_room"
PROMPT_VERSION = "empty-room-1"
PROMPT = (
    "Photograph of the same room, completely empty: remove all furniture, rugs, curtains, pictures, lamps that stand or"
    " hang, and clutter. Keep walls, ceiling, windows, doors, floor and built-in fixtures, the camera position and the"
    " light as they are; continue floor and walls plausibly where something stood. No people, no text."
)


class Inputs(Schema):
    """What a client sends."""

    upload_id = fields.String(required=True)


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan the one empty room; with another seed it is another version."""
    return [
        PlannedGeneration(
            sku=SKU,
            seed=seed,
            operations=(
                PlannedOperation(
                    name="image.empty_room",
                    prompt=PROMPT,
                    prompt_version=PROMPT_VERSION,
                    seed=seed,
                    sources=(assets[inputs["upload_id"]]["key"],),
                ),
            ),
        )
    ]
