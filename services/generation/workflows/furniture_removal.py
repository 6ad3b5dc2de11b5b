"""Furniture removal: what stands about in a room is taken away, what belongs to the room stays."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

NAME = "furniture_removal"
TITLE = "Furniture removal"
ASSETS = ("upload_id",)
EXAMPLE = {"upload_id": "ast_01jx0000000000000000000000"}
ESTIMATED_SECONDS = 45

SKU = "staging.edit"
PROMPT_VERSION = "furniture-removal-1"
PROMPT = (
    "The same photograph with all movable furniture and decoration removed. Keep the room itself exactly as it is:"
    " walls, paint, windows, doors, floor, built-in kitchens and fixtures, camera position, light. Fill in"
    " floor and walls plausibly where something stood. Add nothing. No people, no text."
)


class Inputs(Schema):
    """What a client sends."""

    upload_id = fields.String(required=True)


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan the one edited photo."""
    return [
        PlannedGeneration(
            sku=SKU,
            seed=seed,
            operations=(
                PlannedOperation(
                    name="image.edit",
                    prompt=PROMPT,
                    prompt_version=PROMPT_VERSION,
                    seed=seed,
                    sources=(assets[inputs["upload_id"]]["key"],),
                    parameters={"edit": NAME},
                ),
            ),
        )
    ]
