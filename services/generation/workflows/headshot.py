"""Headshots: a photo of a person, framed and printed in one style, or in several at once to choose from."""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from services.generation.workflows import Assets, PlannedGeneration, PlannedOperation
from shared.problems import BadRequest

STYLES: dict[str, str] = {
    "corporate": "business attire, calm slate-blue studio backdrop, even soft light, confident and approachable",
    "creative": "bold coloured gel light, vivid orange to violet backdrop, lively colours, relaxed pose",
    "model": "fashion portfolio, seamless white backdrop, high-key light, muted colours, strong contrast",
    "casual": "everyday clothes, warm beige surroundings out of focus, soft window light, natural smile",
    "outdoor": "open air, sky and foliage far out of focus, warm late-afternoon sun",
    "monochrome": "black and white, dark backdrop, deep contrast, light from the side",
}
ASPECT_RATIOS = ("1:1", "4:5", "3:4", "2:3", "9:16", "5:4", "4:3", "3:2", "16:9")
QUALITIES = ("low", "medium", "high")

NAME = "headshot"
TITLE = "Headshots"
ASSETS = ("upload_id",)
EXAMPLE = {
    "upload_id": "ast_01jx0000000000000000000000",
    "style": "corporate",
    "aspect_ratio": "1:1",
    "quality": "high",
}
ESTIMATED_SECONDS = 45
CHOICES = {"style": tuple(STYLES), "aspect_ratio": ASPECT_RATIOS, "quality": QUALITIES}

SKU = "headshot.image"
# What becomes of the original is promised for uploads of this purpose only.
PURPOSE = "face"
PROMPT_VERSION = "headshot-1"
PROMPT = (
    "Professional headshot of exactly the person in the given photo: identity, face, age, skin, hair and expression"
    " unchanged, no beautification. Head and shoulders, eyes sharp, looking at the camera. Style: {style}."
    " Aspect ratio {aspect_ratio}. One person, no text, no watermark."
)
# As for stagings: seeds lie far apart, so that neighbouring jobs never share one.
_SEED_STEP = 7919
_SEED_LIMIT = 2**31


def _require_unique(styles: Sequence[str]) -> None:
    if len(set(styles)) < len(styles):
        raise ValidationError("Each style may be named once.")


class Inputs(Schema):
    """What a client sends: one ``style``, or the ``styles`` of a batch."""

    upload_id = fields.String(required=True, metadata={"description": "An upload of the purpose `face`."})
    style = fields.String(validate=validate.OneOf(tuple(STYLES)))
    styles = fields.List(
        fields.String(validate=validate.OneOf(tuple(STYLES))),
        validate=[validate.Length(min=1, max=len(STYLES)), _require_unique],
        metadata={"uniqueItems": True, "description": "Several styles of one photo, in the place of `style`."},
    )
    aspect_ratio = fields.String(load_default="1:1", validate=validate.OneOf(ASPECT_RATIOS))
    quality = fields.String(load_default="high", validate=validate.OneOf(QUALITIES))

    @validates_schema
    def _one_way(self, data: Mapping[str, Any], **_: Any) -> None:
        if ("style" in data) == ("styles" in data):
            raise ValidationError("Give either style or styles.", field_name="style")


def plan(inputs: Mapping[str, Any], assets: Assets, seed: int) -> Sequence[PlannedGeneration]:
    """Plan one generation per style, each with its own seed.

    Raises:
        BadRequest: the upload is no ``face``: nobody would delete it in time.
    """
    source = assets[inputs["upload_id"]]
    if source.get("purpose") != PURPOSE:
        detail = "send the photo with purpose=face: such an original is deleted 30 minutes after its upload"
        error = {"pointer": "/inputs/upload_id", "code": "invalid", "detail": detail}
        raise BadRequest("Headshots are made of uploads of the purpose face.", errors=[error])
    styles = inputs["styles"] if "styles" in inputs else [inputs["style"]]
    return [
        _headshot(inputs, source, style=style, seed=(seed + number * _SEED_STEP) % _SEED_LIMIT)
        for number, style in enumerate(styles)
    ]


def _headshot(inputs: Mapping[str, Any], source: Mapping[str, Any], *, style: str, seed: int) -> PlannedGeneration:
    taken = {name: inputs[name] for name in ("aspect_ratio", "quality")}
    return PlannedGeneration(
        sku=SKU,
        seed=seed,
        style=style,
        settings={"upload_id": inputs["upload_id"], **taken},
        operations=(
            PlannedOperation(
                name="image.headshot",
                prompt=PROMPT.format(style=STYLES[style], aspect_ratio=inputs["aspect_ratio"]),
                prompt_version=PROMPT_VERSION,
                seed=seed,
                sources=(source["key"],),
                parameters={"style": style, **taken},
            ),
        ),
    )
