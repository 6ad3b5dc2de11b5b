"""Tells how far pictures are apart by what they show: what their files say of themselves is another in any case."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

_SIDE = 64


def closest(pictures: Mapping[str, Path]) -> tuple[float, str, str]:
    """Return the two of several pictures that are hardest to tell apart, by their labels, behind how far they are.

    That is the mean difference of their shades, seen from afar: 0 where they are one and the same, at most 255.

    Raises:
        OSError: a picture cannot be read.
    """
    seen = {label: _from_afar(path) for label, path in pictures.items()}
    return min((_difference(seen[one], seen[other]), one, other) for one, other in combinations(seen, 2))


def _from_afar(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)


def _difference(one: Image.Image, other: Image.Image) -> float:
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)
