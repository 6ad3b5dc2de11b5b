"""Finds the product on any photo, and groups colours: before a plain background by cutting it out, else by salience.

What is salient differs in colour from what lies along the border, and is near the middle (as in Jiang et al. 2011,
"Automatic salient object segmentation based on context and shape prior"). It knows no product.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.generation.providers.local_products.cutout import cut_out
from services.generation.providers.local_staging.scene import Plane, box_mean, enlarged

Colours = NDArray[np.float32]
Mask = NDArray[np.bool_]
_SMALL_SIDE = 240
_BORDER = 0.04  # share of the shorter side
_BORDER_COLOURS = 6
_ROUNDS = 12
_AREA_MIN, _AREA_MAX = 0.03, 0.9  # of the photo: less is no figure, more is no ground
_SOFT = 0.5
_GAP = 18  # pixels of the small copy: gaps up to twice as wide are shadows and reflections


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A product as RGBA, cropped to itself; ``certain`` where the background was plain, ``told_apart`` if at all."""

    picture: Image.Image
    certain: bool
    told_apart: bool

    @property
    def mask(self) -> Mask:
        """Which pixels are the product's; all where it is too faint to have any."""
        inside: Mask = np.asarray(self.picture.getchannel("A")) > 127  # noqa: PLR2004  half
        return inside if inside.any() else np.ones_like(inside)


def find_figure(photo: Image.Image) -> Figure:
    """Return the product on an RGB photo; all of it where nothing can be told apart."""
    product = cut_out(photo)
    if product is not None:
        return Figure(picture=product.picture, certain=True, told_apart=True)
    mask = salient(photo)
    if mask is None:
        return Figure(picture=photo.convert("RGBA"), certain=False, told_apart=False)
    alpha = Image.fromarray(np.round(mask * 255).astype(np.uint8))
    whole = photo.convert("RGBA")
    whole.putalpha(alpha)
    box = alpha.point(lambda value: 255 if value > 127 else 0).getbbox()  # noqa: PLR2004  half
    return Figure(picture=whole.crop(box), certain=False, told_apart=True)


def clusters(colours: Colours, count: int) -> tuple[Colours, NDArray[np.intp]]:
    """Group colours (n x 3, 0 to 1) by k-means on `axes`; return their middles, and which each belongs to.

    It begins with the colours that are furthest from each other, so that it ends the same every time.
    """
    points = axes(colours)
    middles = [points.mean(0)]
    for _ in range(count - 1):
        away = np.min([((points - one) ** 2).sum(1) for one in middles], axis=0)
        middles.append(points[int(away.argmax())])
    centres = np.stack(middles)
    owner = np.zeros(len(points), np.intp)
    for _ in range(_ROUNDS):
        owner = ((points[:, None, :] - centres[None]) ** 2).sum(2).argmin(1)
        centres = np.stack(
            [points[owner == number].mean(0) if (owner == number).any() else centres[number] for number in range(count)]
        )
    found = [colours[owner == number].mean(0) if (owner == number).any() else colours[0] for number in range(count)]
    return np.stack(found).astype(np.float32), owner


def axes(colours: Colours) -> Colours:
    """Return lightness, and twice red-green and yellow-blue: distances as eyes have them, roughly."""
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    return np.stack([(red + green + blue) / 3, (red - green) * 1.4, (red + green) * 0.7 - blue * 1.4], -1)


def largest_part(mask: Mask) -> Mask:
    """Return the largest connected part of a mask, along rows and columns."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = labels
        padded = np.pad(labels, 1)
        around = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        labels = np.where(mask, np.maximum.reduce(around), 0)
        for _ in range(2):  # along whole runs at once, so that long parts do not take hundreds of rounds
            labels = _spread(_spread(labels, mask).T, mask.T).T
        if np.array_equal(before, labels):
            break
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    found: Mask = labels == counts.argmax()
    return found if counts.any() else mask


def filled(mask: Mask) -> Mask:
    """Return the mask without holes: what the border does not reach belongs to it."""
    outside = ~mask
    edge = np.zeros_like(mask)
    edge[[0, -1], :] = edge[:, [0, -1]] = True
    reached = outside & edge
    while True:
        padded = np.pad(reached, 1)
        around = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        more = outside & (reached | around)
        more = _spread(_spread(more, outside).T, outside.T).T & outside
        if np.array_equal(more, reached):
            closed: Mask = ~reached
            return closed
        reached = more


def _spread(values: Any, mask: Mask) -> Any:
    """Give each run of a row the largest value in it."""
    starts = ~mask
    starts[:, 0] = True
    begins = np.flatnonzero(starts)
    inside = np.where(mask, values, 0).ravel()
    highest = np.repeat(np.maximum.reduceat(inside, begins), np.diff(begins, append=mask.size))
    return np.where(mask, highest.reshape(mask.shape), 0).astype(values.dtype)


def salient(photo: Image.Image) -> Plane | None:
    """Return how much each pixel belongs to what stands out; None where nothing does."""
    small = photo.copy()
    small.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    colours = np.asarray(small, np.float32) / np.float32(255)
    height, width = colours.shape[:2]
    rim = max(2, round(_BORDER * min(height, width)))
    border = np.ones((height, width), np.bool_)
    border[rim:-rim, rim:-rim] = False
    middles, _ = clusters(colours[border], _BORDER_COLOURS)
    apart = np.min([((axes(colours) - axes(one)) ** 2).sum(-1) for one in middles], axis=0)
    standing_out = np.sqrt(apart) * _near_middle(height, width)
    chosen = standing_out > _otsu(standing_out)
    calm = box_mean(chosen.astype(np.float32), 2) > _SOFT
    if not calm.any():
        return None
    figure = _rounded(filled(largest_part(_closed(largest_part(calm)))))
    if not _AREA_MIN < figure.mean() < _AREA_MAX:
        return None
    soft = enlarged(box_mean(figure.astype(np.float32), 1), photo.size)
    edged: Plane = np.clip((soft - 0.25) * 2, 0, 1).astype(np.float32)
    return edged


def _closed(mask: Mask) -> Mask:
    """Return the mask with its narrow gaps closed: grown by half of such a gap, and shrunk again."""
    one_pixel = 0.5 / (2 * _GAP + 1) ** 2
    padded = np.pad(mask, 2 * _GAP).astype(np.float32)
    grown = box_mean(padded, _GAP) > one_pixel
    closed: Mask = box_mean(grown.astype(np.float32), _GAP) > 1 - one_pixel
    return closed[2 * _GAP : -2 * _GAP, 2 * _GAP : -2 * _GAP]


def _rounded(mask: Mask) -> Mask:
    """Return the mask with a calm outline."""
    for radius in (7, 4, 3):
        mask = box_mean(mask.astype(np.float32), radius) > _SOFT
    return mask


def _near_middle(height: int, width: int) -> Plane:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.exp(-(x * x + y * y) / 1.1).astype(np.float32)


def _otsu(values: Plane) -> float:
    """Return the value that parts a histogram best in two (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=96)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * middles).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[int(np.nan_to_num(between).argmax())])
