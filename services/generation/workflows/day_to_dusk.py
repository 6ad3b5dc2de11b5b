"""Day to dusk: a photo taken by day, as it would look shortly after sunset."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

NAME = "day_to_dusk"
TITLE = "Day to dusk"
ASSETS = ("upload_id",)
EXAMPLE = {"upload_id": "ast_01jx0000000000000000000000"}
ESTIMATED_SECONDS = 45

SKU = "staging.edit"
PROMPT_VERSION = "day-to-dusk-1"
PROMPT = (
    "The same photograph taken at dusk, shortly after sunset: deep blue sky with a warm horizon, windows and lamps lit"
    " warmly from inside, soft ambient light, realistic shadows. Keep building, room, furniture, plants and camera"
    " position exactly as they are. No people, no text."
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
