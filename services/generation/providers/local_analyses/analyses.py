"""The analyses the local provider gives: pixels and words put into the results' shape, with honest confidence.

No model has looked: a kind of thing is known only from a name or from metadata, and said with confidence accordingly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.generation.providers.local_analyses.pixels import Looks, looked_at
from services.generation.providers.local_analyses.words import (
    ROOMS,
    STYLES,
    UNKNOWN,
    keywords,
    kind_of,
    ranked,
    words_of,
)
from services.generation.providers.local_pictures.details import SHOTS_MAX, Spot, spots
from shared.images import decode

SIDE_MAX: Final = 1024
_SHOTS_MIN: Final = 6
# What was told us is sure; what a name lets one guess is likely; a picture alone tells next to nothing.
_TOLD, _GUESSED, _NOTHING = 0.9, 0.5, 0.05
_MATERIALS: Final = ("wood", "oak", "walnut", "teak", "metal", "steel", "brass", "glass", "leather", "cotton", "linen",
                     "velvet", "wool", "marble", "ceramic", "plastic", "rattan")  # fmt: skip
_VIEWS: Final = ("texture", "edge", "joint", "surface", "fitting", "label", "corner", "seam", "underside", "whole")


def analyze(
    photo: bytes, *, name: str = "", category: str = "", metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what can be told of a picture: see `RESULT_SCHEMAS`, ``vision.analyze``.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    looks = looked_at(decode(photo, side=SIDE_MAX))
    words = words_of(name, category, metadata)
    kind, confidence = _kind(words, category=category)
    styles = ranked(words, STYLES)
    return {
        "summary": _summary(looks, kind),
        "category": kind,
        "style": styles[0] if styles else UNKNOWN,
        "lighting": looks.lighting,
        "composition": looks.composition,
        "colors": [{"hex": code, "name": called, "share": share} for code, called, share in looks.colours],
        "materials": [word for word in _MATERIALS if word in words],
        "details": [
            {"name": "size", "value": f"{looks.width} x {looks.height} pixels"},
            {"name": "sharpness", "value": f"{looks.sharpness:g} ({'sharp' if looks.sharp else 'blurred or empty'})"},
        ],
        "confidence": confidence,
    }


def categorize(
    photo: bytes, *, name: str = "", category: str = "", metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return ``{category, subcategory, confidence}``, from name and metadata; the picture is only checked.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    decode(photo, side=64)
    kind, confidence = _kind(words_of(name, category, metadata), category=category)
    first, _, second = kind.partition("/")
    return {"category": first, "subcategory": second or UNKNOWN, "confidence": confidence}


def plan(photos: Sequence[bytes], *, count: int = 6, name: str = "", views: Sequence[str] = ()) -> dict[str, Any]:
    """Return ``count`` (6 to 10) close-ups worth taking, where the pictures have most to show, and their confidence.

    The photos take turns, each with its finest places first: the n-th shot of a photo is `details.close_up`'s n-th.

    Args:
        photos: of one product.
        count: how many shots.
        name: what the product is called.
        views: which side each photo shows.

    Raises:
        ValueError: it is another count.
        UnsupportedImage, ImageTooLarge, CorruptImage: a photo is none, see shared.images.
    """
    if not _SHOTS_MIN <= count <= SHOTS_MAX:
        raise ValueError(f"a plan has {_SHOTS_MIN} to {SHOTS_MAX} close-ups, not {count}")
    each = -(-count // len(photos))
    found = [spots(decode(photo, side=SIDE_MAX), each) for photo in photos]
    in_turns = [(place, found[place][rank]) for rank in range(each) for place in range(len(photos))][:count]
    what = name or "the product"
    shots = [
        {
            "title": f"Detail {number}: {_seen_at(spot, views[photo : photo + 1])}",
            "view": _VIEWS[number - 1],
            "instruction": f"Close-up of {what}, {spot.place}, with even light and nothing else in the frame.",
            "reason": f"{round(spot.detail * 100)} % of the detail of the finest place",
            "photo": photo + 1,
        }
        for number, (photo, spot) in enumerate(in_turns, start=1)
    ]
    sure = sum(spot.detail for _, spot in in_turns) / count
    return {"shots": shots, "confidence": round(min(_GUESSED, 0.2 + 0.3 * sure), 2)}


def analyze_text(*, products: Sequence[Mapping[str, Any]] = (), text: str = "") -> dict[str, Any]:
    """Return what names and metadata of products say together: see `RESULT_SCHEMAS`, ``text.analyze``.

    ``products`` are dicts with ``name`` and what else is known (``category``, ``room_types``, ``description``,
    ``metadata``); rooms that they name themselves come before those that are guessed.
    """
    words = words_of(text, *products)
    named = [str(room) for product in products for room in product.get("room_types") or ()]
    kinds = [kind_of(words_of(product)) for product in products]
    known = [kind for kind in kinds if kind]
    rooms = list(dict.fromkeys([*sorted(named, key=lambda room: -named.count(room)), *ranked(words, ROOMS)]))
    share = len(known) / len(products) if products else 0.0
    return {
        "summary": f"{len(products)} products, {len(known)} of a kind that is known by name.",
        "room_types": rooms,
        "styles": ranked(words, STYLES) or ["modern"],
        "categories": sorted(set(known), key=lambda kind: (-known.count(kind), kind)),
        "keywords": keywords(words),
        "confidence": round(max(_NOTHING, _GUESSED * share), 2),
    }


def _seen_at(spot: Spot, view: Sequence[str]) -> str:
    return ", ".join([*(f"{one} view" for one in view), spot.place])


def _kind(words: Sequence[str], *, category: str) -> tuple[str, float]:
    if category:
        return (kind_of(words_of(category)) or category), _TOLD
    kind = kind_of(words)
    return (kind, _GUESSED) if kind else (UNKNOWN, _NOTHING)


def _summary(looks: Looks, kind: str) -> str:
    subject = "A picture" if kind == UNKNOWN else f"A picture of {kind.rpartition('/')[2]}"
    tones = " and ".join(name for name in dict.fromkeys(name for _, name, _ in looks.colours[:2]))
    return f"{subject}, mostly {tones}; {looks.lighting} light; {looks.composition}."
