"""Styles and room types a client may name: slugs, with the words a prompt uses for them; and what a saved style adds.

Data and pure rules only.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from shared.ids import SUFFIX_PATTERN, is_id

STYLES: dict[str, str] = {
    "modern": "clean lines, neutral palette, low furniture, crisp daylight",
    "scandinavian": "pale wood, white walls, light textiles, bright soft daylight",
    "rustic": "reclaimed wood, warm earth tones, heavy textiles, warm evening light",
    "industrial": "exposed metal and concrete, dark leather, cool muted light",
    "bohemian": "layered textiles, plants, saturated warm accents",
    "coastal": "white and sea blue, linen, airy daylight",
    "mid_century": "teak, tapered legs, mustard and teal accents",
    "minimalist": "few pieces, white and grey, even light",
    "farmhouse": "painted wood, cream and sage, soft morning light",
    "luxury": "velvet, marble, brass, deep contrast",
    "japandi": "low oak furniture, beige and charcoal, calm diffuse light",
    "art_deco": "geometric brass, emerald and black, dramatic light",
    "mediterranean": "white plaster, terracotta tiles, ultramarine accents, hard noon sun",
    "tropical": "rattan, large leaves, leaf green and coral, bright humid light",
    "victorian": "burgundy damask, carved dark wood, gilded frames, warm lamplight",
    "french_country": "lavender and cream, toile, painted oak, hazy morning light",
    "contemporary": "charcoal walls, one strong yellow accent, clear shapes, gallery light",
    "traditional": "honey walls, cherry wood, rolled arms, navy and burgundy accents, even warm light",
    "southwestern": "adobe pink, turquoise, woven wool, desert evening light",
    "eclectic": "magenta and teal side by side, mixed periods, bold patterns, lively light",
}

ROOM_TYPES: dict[str, str] = {
    "living_room": "living room with sofa, coffee table, rug",
    "bedroom": "bedroom with bed, bedside tables, soft rug",
    "dining_room": "dining room with table and chairs",
    "kitchen": "kitchen with stools and tableware",
    "home_office": "home office with desk, chair, shelves",
    "bathroom": "bathroom with towels and plants",
    "kids_room": "children's room with small bed and toys",
    "nursery": "nursery with cot and soft light",
    "hallway": "hallway with console and mirror",
    "balcony": "balcony with outdoor chairs and plants",
    "studio_apartment": "studio apartment with bed, desk and seating",
    "basement": "basement lounge with seating",
}


class Style(fields.String):
    """A style as inputs name it: a slug of ours, or the id of a saved one, whose snapshot comes with the assets."""

    def __init__(self, **options: Any) -> None:
        described = {"anyOf": [{"enum": list(STYLES)}, {"pattern": f"^sty_{SUFFIX_PATTERN}$"}]}
        super().__init__(**{**options, "metadata": {**described, **options.get("metadata", {})}})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> str:
        style: str = super()._deserialize(value, attr, data, **more)
        if style not in STYLES and not is_saved(style):
            raise ValidationError(f"Must be one of: {', '.join(STYLES)}; or the id of a saved style (sty_…).")
        return style


def is_saved(style: object) -> bool:
    """Tell whether ``style`` is the id of a saved one."""
    return is_id(style, prefix="sty")


def words_of(style: str, assets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the words a prompt uses for a style; those of a saved one are added to its base's."""
    if style in STYLES:
        return STYLES[style]
    saved = assets[style]
    colours = f"accents in {', '.join(saved['colours'])}" if saved["colours"] else ""
    return ", ".join(part for part in (STYLES[saved["base"]], saved["words"], colours) if part)


def parameters_of(style: str, assets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a style as providers are told it: ``style``, a slug of ours, and ``colours`` where there are others."""
    if style in STYLES:
        return {"style": style}
    saved = assets[style]
    return {"style": saved["base"], **({"colours": list(saved["colours"])} if saved["colours"] else {})}
