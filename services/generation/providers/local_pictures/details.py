"""Finds where a picture has something to show, and takes close-ups of it. It knows no product."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from services.generation.providers.local_products.figure import salient
from services.generation.providers.local_staging.scene import Plane, box_mean, luminance_of
from shared.images import decode, encode_jpeg

SHOTS_MAX = 10
_SMALL_SIDE = 240
_SHARE = 0.34  # of the shorter side that a close-up takes
_SIDE = 1024
_AROUND = 0.02  # what detail is worth that is not the product's
_THIRDS = (("upper", "middle", "lower"), ("left", "centre", "right"))


@dataclass(frozen=True, kw_only=True)
class Spot:
    """The middle of a close-up, in shares of width and height; ``detail`` is 0 to 1, the finest spot having 1."""

    x: float
    y: float
    detail: float

    @property
    def place(self) -> str:
        """Where that is, in words: ``upper left``."""
        row, column = _THIRDS[0][min(2, int(self.y * 3))], _THIRDS[1][min(2, int(self.x * 3))]
        return f"{row} {column}"


def spots(picture: Image.Image, count: int) -> list[Spot]:
    """Return ``count`` spots with the most detail, finest first, as far apart as there is room for.

    The first of them are the same whatever the count; a picture of fewer pixels has its own over again.
    """
    small = picture.copy()
    small.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    energy = _energy(small)
    height, width = energy.shape
    rows, columns = np.mgrid[0:height, 0:width]
    finest = float(energy.max()) + 1e-9
    found: list[Spot] = []
    for share in (1, 0.5, 0.25, 0):
        free = energy + np.float32(1e-9)  # even a blank picture has places
        apart = share * _SHARE * min(height, width)
        for spot in found:
            free *= np.hypot(rows + 0.5 - spot.y * height, columns + 0.5 - spot.x * width) > apart
        while len(found) < count and float(free.max()) > 0:
            row, column = np.unravel_index(int(free.argmax()), free.shape)
            detail = min(1.0, float(energy[row, column]) / finest)
            found.append(Spot(x=(column + 0.5) / width, y=(row + 0.5) / height, detail=detail))
            free *= np.hypot(rows - row, columns - column) > apart
    return [found[number % len(found)] for number in range(count)]


def close_up(photo: bytes, *, seed: int, shot: int = 1, count: int = 6) -> bytes:
    """Return the ``shot``-th of ``count`` close-ups (from 1) as a JPEG of 1024 x 1024 pixels.

    The same arguments give the same bytes; another seed steps a little aside. About 100 ms of CPU: call it through
    `shared.off_hub`.

    Raises:
        ValueError: there is no such shot, or more than 10 are asked for.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    if not 1 <= shot <= count <= SHOTS_MAX:
        raise ValueError(f"there is no shot {shot} of {count}; at most {SHOTS_MAX} are taken of a picture")
    picture = decode(photo)
    spot = spots(picture, count)[shot - 1]
    dice = np.random.default_rng(seed)
    side = min(picture.size) * _SHARE * dice.uniform(0.95, 1.05)
    x = float(np.clip(spot.x * picture.width + dice.uniform(-0.05, 0.05) * side, side / 2, picture.width - side / 2))
    y = float(np.clip(spot.y * picture.height + dice.uniform(-0.05, 0.05) * side, side / 2, picture.height - side / 2))
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    taken = picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, box=box)
    return encode_jpeg(taken.filter(ImageFilter.UnsharpMask(radius=3, percent=60, threshold=2)), quality=90)


def _energy(small: Image.Image) -> Plane:
    """Return how much there is to see around each place: fine contrast of the product, away from the edges."""
    light = np.asarray(small, np.float32) / np.float32(255)
    tone = luminance_of(light)
    radius = max(1, round(min(tone.shape) * _SHARE / 4))
    contrast = box_mean((tone - box_mean(tone, 2)) ** 2, radius)
    height, width = tone.shape
    inside = np.minimum(np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :])
    inside = np.minimum(inside, np.minimum(np.linspace(1, 0, height)[:, None], np.linspace(1, 0, width)[None, :]))
    energy: Plane = (np.maximum(contrast, 0) * np.clip(inside / (_SHARE / 2), 0.05, 1)).astype(np.float32)
    product = salient(small)
    return energy if product is None else energy * (_AROUND + (1 - _AROUND) * box_mean(product, radius) ** 2)
