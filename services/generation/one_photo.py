"""What product lines share that make one picture of one photo: what a client sends, and the plan. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation

ASSETS = ("upload_id",)
EXAMPLE = {"upload_id": "ast_01jx0000000000000000000000"}


class OnePhoto(Schema):
    """What a client sends."""

    upload_id = fields.String(required=True)


def one_picture(
    operation: str, *, sku: str, prompt: str, prompt_version: str, parameters: Mapping[str, Any] | None = None
) -> Callable[[Mapping[str, Any], Assets, int], Sequence[PlannedGeneration]]:
    """Return the ``plan`` of a product line that does one ``operation`` with the photo.

    With another seed it is another version of the picture.
    """

    def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
        work = PlannedOperation(
            name=operation,
            prompt=prompt,
            prompt_version=prompt_version,
            seed=seed,
            sources=(assets[inputs["upload_id"]]["key"],),
            parameters=dict(parameters or {}),
        )
        return [PlannedGeneration(sku=sku, seed=seed, operations=(work,))]

    return plan
