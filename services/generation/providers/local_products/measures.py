"""Measures the figure of a product: how wide and high it is and where, and the places worth pointing at.

Places are shares of the box around the product, from its upper left. One photo has no scale: without a stated size
lengths are percent of the height. It knows no product.
"""

from typing import Any, Final

import numpy as np
from PIL import Image

from services.generation.providers.local_analyses.pixels import colour_name
from services.generation.providers.local_pictures.details import spots
from services.generation.providers.local_products.figure import Figure, Mask, filled, find_figure
from shared.images import decode

SIDE_MAX: Final = 1024
PERCENT: Final = "% of height"
# How much of its width a product is taken to show from its side, where no photo shows that side.
ASSUMED_DEPTH: Final = 0.45
_SURE, _LIKELY, _GUESS = 0.6, 0.45, 0.15
_LEVELS: Final = (
    ("C", "Width at a quarter", 0.25),
    ("D", "Width at half height", 0.5),
    ("E", "Width at the base", 0.94),
)
SIDES: Final = ("left", "right", "side")
FACES: Final = ("front", "back")
_HOLE_MIN = 0.004  # of the box: smaller openings are reflections
_DETAILS = 3
_FOOT, _FLANK = (0, 1, 1, 1), (1, 0, 1, 1)  # below and beside the box


def measure(
    photo: bytes, *, view: str = "front", seen_from: str = "front", height_cm: float = 0, width_cm: float = 0
) -> dict[str, Any]:
    """Return callouts and measurements for a drawing of ``view``: see `RESULT_SCHEMAS`, ``vision.measure``.

    Args:
        photo: of the product.
        view: what is to be drawn: ``front``, ``back`` or ``side``.
        seen_from: what the photo shows; nothing of a view it does not show is said to be measured.
        height_cm: the product's height, where it is known; 0 where not.
        width_cm: its width from the front, likewise.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    figure = find_figure(decode(photo, side=SIDE_MAX))
    mask = figure.mask
    narrowed = ASSUMED_DEPTH if view == "side" and seen_from not in SIDES else 1.0
    unseen = view in FACES and seen_from != view
    mask = mask[:, ::-1] if unseen else mask
    width = width_cm if view != "side" else 0  # what is stated is the width from the front
    places = _outline_places(mask) + ([] if unseen else _inner_places(figure))
    return {
        "callouts": [
            {"number": number, **place}
            for number, place in enumerate(sorted(places, key=lambda one: one["y"]), start=1)
        ],
        "measurements": _measurements(
            mask,
            height_cm=height_cm,
            width_cm=width,
            narrowed=narrowed,
            bases=_bases(view, seen_from, scaled=height_cm > 0 or width > 0),
        ),
        "confidence": _SURE if figure.certain else _LIKELY if figure.told_apart else _GUESS,
    }


def width_profile(mask: Mask) -> tuple[Any, Any, Any]:
    """Return of each row of a mask where it begins, where it ends, and whether there is anything."""
    there = mask.any(1)
    first = np.where(there, mask.argmax(1), 0)
    last = np.where(there, mask.shape[1] - mask[:, ::-1].argmax(1), 0)
    return first, last, there


def _bases(view: str, seen_from: str, *, scaled: bool) -> tuple[str, str]:
    """Return how far lengths across and up a view are to be believed: what its photo shows is measured, no other.

    Front and back have one outline, mirrored, and so have the sides; all of these are equally high.
    """
    if seen_from == view or (view == "side" and seen_from in SIDES):
        told = "estimated" if scaled else "measured"
        return told, told
    if seen_from not in (*FACES, *SIDES):
        return "assumed", "assumed"
    return ("estimated" if view in FACES and seen_from in FACES else "assumed"), "estimated"


def _measurements(
    mask: Mask, *, height_cm: float, width_cm: float, narrowed: float, bases: tuple[str, str]
) -> list[dict[str, Any]]:
    """Return the lengths across and up, in cm where one of them is stated, each with its basis."""
    height, width = mask.shape
    scaled = height_cm > 0 or width_cm > 0
    each = height_cm / height if height_cm > 0 else width_cm / width if scaled else 100 / height
    unit = "cm" if scaled else PERCENT
    across, up = bases
    found = [
        _length(
            "A", "Overall width", width_cm or width * narrowed * each, unit, "stated" if width_cm else across, _FOOT
        ),
        _length("B", "Overall height", height * each, unit, "stated" if height_cm else up, _FLANK),
    ]
    first, last, there = width_profile(mask)
    for code, name, level in _LEVELS:
        row = min(height - 1, int(level * height))
        if there[row]:
            ends = (first[row] / width, level, last[row] / width, level)
            found.append(_length(code, name, (last[row] - first[row]) * narrowed * each, unit, across, ends))
    return found


def _length(
    code: str, name: str, value: float, unit: str, basis: str, ends: tuple[float, float, float, float]
) -> dict[str, Any]:
    places = {key: round(float(at), 4) for key, at in zip(("x1", "y1", "x2", "y2"), ends, strict=True)}
    return {"code": code, "name": name, "value": round(float(value), 1), "unit": unit, "basis": basis, **places}


def _outline_places(mask: Mask) -> list[dict[str, Any]]:
    """Return what the outline has: its top, its widest and narrowest place, its base."""
    height, width = mask.shape
    first, last, there = width_profile(mask)
    rows = np.flatnonzero(there)
    spans = (last - first)[rows]
    widest = int(rows[spans.argmax()])
    inner = rows[(rows > 0.12 * height) & (rows < 0.92 * height)]  # the ends of anything are narrow
    narrowest = int(inner[(last - first)[inner].argmin()]) if inner.size else widest
    top, base = int(rows[0]), int(rows[-1])
    found = [
        _place(
            "Top edge", f"{_percent(last[top] - first[top], width)} of the width", _middle(first, last, top, width), 0
        ),
        _place(
            "Widest point",
            f"at {_percent(widest, height)} of the height from above",
            last[widest] / width,
            widest / height,
        ),
        _place(
            "Base",
            f"stands on {_percent(last[base] - first[base], width)} of the width",
            _middle(first, last, base, width),
            1,
        ),
    ]
    if abs(narrowest - widest) > 0.1 * height:
        note = f"{_percent((last - first)[narrowest], width)} of the width"
        found.append(_place("Narrowest point", note, first[narrowest] / width, narrowest / height))
    return found


def _inner_places(figure: Figure) -> list[dict[str, Any]]:
    """Return what there is inside: the largest opening, and the finest details, each with its colour."""
    mask = figure.mask
    height, width = mask.shape
    found = []
    holes = filled(_small(mask)) & ~_small(mask)
    if holes.mean() > _HOLE_MIN:
        rows, columns = np.nonzero(holes)
        at = (float(columns.mean()) / holes.shape[1], float(rows.mean()) / holes.shape[0])
        found.append(_place("Opening", f"{_percent(float(holes.mean()), 1)} of the outline's box", *at))
    colours = np.asarray(figure.picture.convert("RGB"))
    for spot in spots(figure.picture.convert("RGB"), _DETAILS):
        row, column = min(height - 1, int(spot.y * height)), min(width - 1, int(spot.x * width))
        if mask[row, column]:
            around = colours[max(0, row - 6) : row + 7, max(0, column - 6) : column + 7].reshape(-1, 3).mean(0)
            tone = colour_name((int(around[0]), int(around[1]), int(around[2])))
            note = f"{tone}; {round(spot.detail * 100)} % of the finest detail"
            found.append(_place(f"Detail {spot.place}", note, spot.x, spot.y))
    return found


def _small(mask: Mask) -> Mask:
    """Return a mask small enough to be filled quickly, with a rim that the outside reaches around it."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    picture.thumbnail((200, 200), Image.Resampling.BOX)
    return np.pad(np.asarray(picture) > 127, 1)  # noqa: PLR2004  half


def _place(label: str, note: str, x: float, y: float) -> dict[str, Any]:
    return {"label": label, "note": note, "x": round(min(1.0, float(x)), 4), "y": round(min(1.0, float(y)), 4)}


def _middle(first: Any, last: Any, row: int, width: int) -> float:
    return float(first[row] + last[row]) / 2 / width


def _percent(part: float, whole: float) -> str:
    return f"{round(100 * float(part) / whole)} %"
