"""What pixels tell of a product for its technical pack: palette, surfaces, proportions, build, and how sure that is.

No model has looked: materials are told by how their surface looks, not by what they are.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from services.generation.providers.local_analyses.pixels import colour_name, looked_at
from services.generation.providers.local_analyses.words import UNKNOWN, kind_of, words_of
from services.generation.providers.local_pictures.details import spots
from services.generation.providers.local_products.figure import Figure, Mask, clusters, filled, find_figure
from services.generation.providers.local_staging.scene import box_mean, luminance_of
from shared.images import decode

SIDE_MAX: Final = 1024
_SAMPLE: Final = 20_000
_COLOURS: Final = 5
_SHARE_MIN: Final = 0.02
_SURE, _LIKELY, _GUESS = 0.55, 0.4, 0.15
_GLOSS, _ROUGH, _FINE = 0.012, 0.03, 0.012
_EVEN, _NEARLY = 0.93, 0.82
_THIRDS: Final = ("upper", "middle", "lower")
# What goes up and across a photo of a side; else it is height and width.
_AXES: Final = {
    "left": ("height", "depth"),
    "right": ("height", "depth"),
    "top": ("depth", "width"),
    "bottom": ("depth", "width"),
}


def look_over(
    photo: bytes, *, category: str = "", view_type: str = "", height_cm: float = 0, width_cm: float = 0
) -> dict[str, Any]:
    """Return what can be told of a product on a photo: see `RESULT_SCHEMAS`, ``vision.product``.

    Args:
        photo: of the product, or of a detail of it.
        category: what kind of thing it is, where somebody said so.
        view_type: which side the photo shows.
        height_cm: how high the product is, where that is known; 0 where not.
        width_cm: how wide from the front, likewise.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    picture = decode(photo, side=SIDE_MAX)
    figure, looks = find_figure(picture), looked_at(picture)
    kind = (kind_of(words_of(category)) or category or UNKNOWN).partition("/")
    colours = _palette(figure)
    shades = " and ".join(dict.fromkeys(colour["name"] for colour in colours[:3]))
    what = kind[2] or (kind[0] if category else "product")
    return {
        "summary": f"A {what} in {shades}, {_shape(figure.mask)}; {looks.lighting} light.",
        "product_type": what,
        "category": kind[0],
        "subcategory": kind[2] or UNKNOWN,
        "materials": _surfaces(colours),
        "dimensions": _dimensions(figure.mask, view_type, {"height": height_cm, "width": width_cm}),
        "colors": [{name: colour[name] for name in ("hex", "name", "share")} for colour in colours],
        "construction": _construction(figure.mask),
        "design_elements": _design(figure, colours),
        "attributes": [
            *([_field("view", view_type)] if view_type else []),
            _field("photo", f"{picture.width} x {picture.height} pixels, {'sharp' if looks.sharp else 'soft'}"),
            _field(
                "told from its background", "certainly" if figure.certain else "probably" if figure.told_apart else "no"
            ),
        ],
        "confidence": _SURE if figure.certain else _LIKELY if figure.told_apart else _GUESS,
    }


def _palette(figure: Figure) -> list[dict[str, Any]]:
    """Return the product's own colours, most common first, each with where it is and how its surface looks."""
    small = figure.picture.copy()
    small.thumbnail((220, 220))
    pixels = np.asarray(small, np.float32) / np.float32(255)
    inside = pixels[..., 3] > 0.5  # noqa: PLR2004  half
    tone = luminance_of(pixels[..., :3])
    grain = np.abs(tone - box_mean(tone, 1))
    colours = pixels[..., :3][inside]
    if not len(colours):
        return []
    middles, owner = clusters(colours[:: max(1, len(colours) // _SAMPLE)], _COLOURS)
    owner = ((colours[:, None, :] - middles[None]) ** 2).sum(2).argmin(1)
    rows = np.nonzero(inside)[0]
    found = []
    for number in np.argsort(-np.bincount(owner, minlength=_COLOURS), kind="stable"):
        mine = owner == number
        share = float(mine.mean())
        if share < _SHARE_MIN:
            continue
        code = tuple(int(part) for part in np.round(np.median(colours[mine], 0) * 255))
        found.append(
            {
                "hex": f"#{code[0]:02x}{code[1]:02x}{code[2]:02x}",
                "name": colour_name((code[0], code[1], code[2])),
                "share": round(share, 3),
                "third": min(2, int(3 * float(rows[mine].mean()) / inside.shape[0])),
                "grain": float(grain[inside][mine].mean()),
                "gloss": float((tone[inside][mine] > 0.96).mean()),  # noqa: PLR2004  as bright as light gets
            }
        )
    return found


def _surfaces(colours: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "name": f"surface {number}, {one['name']}",
            "location": f"mostly {_THIRDS[one['third']]}, {round(one['share'] * 100)} % of what is seen",
            "finish": f"{'glossy' if one['gloss'] > _GLOSS else 'matt'}, {_texture(one['grain'])}",
        }
        for number, one in enumerate(colours[:4], start=1)
    ]


def _texture(grain: float) -> str:
    return "coarse" if grain > _ROUGH else "fine-grained" if grain > _FINE else "smooth"


def _dimensions(mask: Mask, view_type: str, stated_cm: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return how far the product goes up and across the photo, by what that is called from there.

    In cm where one of both is stated, else in percent of the first; of a detail nothing can be told.
    """
    if view_type == "detail":
        return []
    up, across = _AXES.get(view_type, ("height", "width"))
    pixels = {up: mask.shape[0], across: mask.shape[1]}
    known = {name: stated_cm[name] for name in pixels if stated_cm.get(name, 0) > 0}
    each, unit, told = 100 / mask.shape[0], f"% of {up}", "measured"
    for name, size in known.items():
        each, unit, told = size / pixels[name], "cm", "estimated"
    return [
        {
            "name": name,
            "value": round(known.get(name, size * each), 1),
            "unit": unit,
            "basis": "stated" if name in known else told,
        }
        for name, size in pixels.items()
    ]


def _construction(mask: Mask) -> list[dict[str, str]]:
    mirrored = float((mask & mask[:, ::-1]).sum()) / max(1, int((mask | mask[:, ::-1]).sum()))
    even = "symmetrical" if mirrored > _EVEN else "nearly symmetrical" if mirrored > _NEARLY else "asymmetrical"
    open_share = float((filled(np.pad(mask, 1)[::4, ::4]) & ~np.pad(mask, 1)[::4, ::4]).mean())
    return [
        _field("symmetry", f"{even} from left to right ({round(100 * mirrored)} % covers its mirror image)"),
        _field("outline", f"{_shape(mask)}; fills {round(100 * float(mask.mean()))} % of its box"),
        _field("openings", f"{round(100 * open_share, 1):g} % of its box" if open_share > 0.004 else "none seen"),  # noqa: PLR2004  reflections
    ]


def _design(figure: Figure, colours: list[dict[str, Any]]) -> list[dict[str, str]]:
    (finest, *_) = spots(figure.picture.convert("RGB"), 1)
    found = [_field("finest detail", finest.place)]
    if colours:
        tones = len({one["name"] for one in colours})
        found.append(
            _field("colour scheme", f"{colours[0]['name']} leads; {tones} {'colours' if tones > 1 else 'colour'}")
        )
    return found


def _shape(mask: Mask) -> str:
    ratio = mask.shape[1] / mask.shape[0]
    format_ = "wide" if ratio > 1.25 else "tall" if ratio < 0.8 else "compact"  # noqa: PLR2004  a quarter more
    return f"{format_} and {'full' if mask.mean() > 0.75 else 'rounded' if mask.mean() > 0.6 else 'open'}"  # noqa: PLR2004  an ellipse fills 0.785


def _field(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}
