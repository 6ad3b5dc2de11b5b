"""Enhancement: the same photo, with the light, colours and sharpness a photographer would have given it."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

NAME = "enhancement"
TITLE = "Enhancement"
ASSETS = ("upload_id",)
EXAMPLE = {"upload_id": "ast_01jx0000000000000000000000"}
ESTIMATED_SECONDS = 45

SKU = "staging.edit"
PROMPT_VERSION = "enhancement-1"
PROMPT = (
    "The same photograph, professionally enhanced: balanced exposure, straight white balance, natural colours, clear"
    " shadows, controlled highlights, fine sharpness, little noise. Change nothing that is in the picture: no object is"
    " added, moved or removed. No text."
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
