"""Cuts a product out of the photo it came on, where it stands before a plain background or has been cut out already.

The background is what reaches in from the border without a step in colour; the shadow a product throws on it belongs
to it. It knows no style and no scene.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from services.generation.providers.local_staging.scene import Plane, box_mean, enlarged, luminance_of

Colours = NDArray[np.float32]
Mask = NDArray[np.bool_]
_SMALL_SIDE = 384
_RING = 0.025  # share of the shorter side that is taken for border
_PLAIN_SHARE = 0.62  # of the border that must have the background's colour
_NEAR = 0.06  # colours so close are the same, on the axes of `_axes`
_ROUNDS = 4
_SHADOW_DARKEST = 0.55  # of the background's luminance
_SHADOW_STEP = 0.02  # luminance between neighbours: more is an edge, not a shadow
_SHADOW_FROM = 0.6  # share of the product's height: above, nothing throws its shadow on the ground
_RIM = 5  # pixels of the small copy: what is not twice as thick may be the rim of a shadow
_SHADOW_SHARE = 0.3  # of what stands out; were it more, part of the product would be among it
_AREA_MIN, _AREA_MAX = 0.004, 0.93  # share of the photo that a product takes
_CUT_OFF_SHARE = 0.06  # of the lower border that a product covers if the photo ends before it does
_NOISY = 1  # code values by which most pixels differ from those around them
_TRANSPARENT_SHARE = 0.01
_SWEEPS_MAX = 60


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A product as RGBA, cropped to itself; ``whole`` is False where the photo ends below before it does."""

    picture: Image.Image
    whole: bool


def cut_out(photo: Image.Image, *, alpha: Image.Image | None = None) -> Cutout | None:
    """Return the product on an RGB photo, or None where it cannot be told from what is around it.

    Args:
        photo: the photo on white, if it had holes.
        alpha: its own mask ("L", of the same size), where it came with one.
    """
    if min(photo.size) < 8:  # noqa: PLR2004  pixels: too little to tell anything from anything
        return None
    if alpha is not None and _has_holes(alpha):
        mask, background = np.asarray(alpha, np.float32) / np.float32(255), np.ones((1, 1, 3), np.float32)
    else:
        found = _against_plain_background(photo)
        if found is None:
            return None
        mask, background = found
    solid = mask > 0.5  # noqa: PLR2004  half
    if not _AREA_MIN < solid.mean() < _AREA_MAX:
        return None
    cropped = _box(mask > 0.02)  # noqa: PLR2004  fainter is nothing
    bottom = solid[-1 - max(1, len(solid) // 200) :].any(0)
    return Cutout(
        picture=_lifted(np.asarray(photo)[cropped], mask[cropped], _part(background, cropped)),
        whole=bool(bottom.mean() < _CUT_OFF_SHARE),
    )


def _has_holes(alpha: Image.Image) -> bool:
    return sum(alpha.histogram()[:128]) > _TRANSPARENT_SHARE * alpha.width * alpha.height


def _against_plain_background(photo: Image.Image) -> tuple[Plane, Colours] | None:
    """Return the product's soft mask and the background behind all of the photo, or None where there is no such."""
    small = photo.copy()
    small.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    colours = _code_values(_without_noise(small))
    background = _plain_background(colours)
    if background is None:
        return None
    apart = _apart(colours, background)
    limit = _tolerance(apart)
    standing_out = ~_reached_from_border(apart < limit)
    product = _without_shadow(standing_out, colours, background, ground=apart < limit)
    full = np.dstack([enlarged(background[..., channel], photo.size) for channel in range(3)])
    return _soft_mask(product, small_apart=apart, apart=_apart(_code_values(photo), full), limit=limit), full


def _without_noise(small: Image.Image) -> Image.Image:
    """Return a noisy photo calmed; one without noise keeps its thinnest lines."""
    calm = small.filter(ImageFilter.MedianFilter(3))
    noise = np.abs(np.asarray(small, np.int16) - np.asarray(calm, np.int16))
    return calm if np.median(noise) > _NOISY else small


def _soft_mask(product: Mask, *, small_apart: Plane, apart: Plane, limit: float) -> Plane:
    """Return the small mask at full size; on its edge a pixel belongs to the product as far as it has left the ground.

    How far that is for the product next to it is told by the largest distance around, since mixing is linear.
    """
    size = (apart.shape[1], apart.shape[0])
    core, reach = (enlarged(mask.astype(np.float32), size) for mask in (~_grown(~product, 2), _grown(product, 1)))
    highest = enlarged(_highest_around(small_apart, 3), size)
    share = (apart - limit * 0.5) / np.maximum(highest * 0.9 - limit * 0.5, limit)
    soft: Plane = np.maximum(core, reach * np.clip(share, 0, 1))
    return soft


def _highest_around(plane: Plane, radius: int) -> Plane:
    """Return the largest value in the square around each place, edges repeated."""
    for axis in (0, 1):
        padded = np.pad(plane, [(radius, radius) if axis == one else (0, 0) for one in (0, 1)], mode="edge")
        length = plane.shape[axis]
        shifted = (padded.take(range(start, start + length), axis=axis) for start in range(2 * radius + 1))
        plane = reduce(np.maximum, shifted)
    return plane


def _grown(mask: Mask, radius: int) -> Mask:
    """Return the mask with everything that is within ``radius`` of it, along rows and columns."""
    return _highest_around(mask.astype(np.float32), radius) > 0


def _plain_background(colours: Colours) -> Colours | None:
    """Fit a slowly changing colour (a quadratic in x and y) to the border, product that touches it left out."""
    height, width = colours.shape[:2]
    rim = max(2, round(_RING * min(height, width)))
    ring = np.ones((height, width), np.bool_)
    ring[rim:-rim, rim:-rim] = False
    terms = _terms(height, width)
    at, seen = terms[ring], colours[ring]
    model = np.broadcast_to(np.median(seen, 0), seen.shape)
    near = _apart(seen, model) < 3 * _NEAR
    for _ in range(_ROUNDS):
        if near.mean() < _PLAIN_SHARE:
            return None
        weights = _least_squares(at[near], seen[near])
        near = _apart(seen, _combined(at, weights)) < _NEAR
    return np.clip(_combined(terms, weights), 0, 1) if near.mean() >= _PLAIN_SHARE else None


def _terms(height: int, width: int) -> Colours:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1).astype(np.float32)


def _least_squares(at: Colours, seen: Colours) -> Colours:
    """Return 6 x 3 weights; summed by hand, since BLAS rounds by its number of threads."""
    square = (at[:, :, None] * at[:, None, :]).sum(0, dtype=np.float64) + 1e-3 * np.eye(at.shape[1])
    target = (at[:, :, None] * seen[:, None, :]).sum(0, dtype=np.float64)
    return np.linalg.solve(square, target).astype(np.float32)


def _combined(terms: Colours, weights: Colours) -> Colours:
    total = np.zeros((*terms.shape[:-1], weights.shape[-1]), np.float32)
    for number in range(len(weights)):
        total += terms[..., [number]] * weights[number]
    return total


def _code_values(picture: Image.Image) -> Colours:
    return np.asarray(picture, np.float32) / np.float32(255)


def _axes(colours: Colours) -> tuple[Plane, Plane, Plane]:
    """Return luminance, red-green and yellow-blue."""
    red, green, blue = (colours[..., channel] for channel in range(3))
    return luminance_of(colours), red - green, (red + green) * np.float32(0.5) - blue


def _apart(colours: Colours, background: Colours) -> Plane:
    """Return how far colours are from the background; a hue tells more than a shade does."""
    light, red_green, yellow_blue = _axes(colours - background)
    distance: Plane = np.sqrt(light * light + 2 * (red_green * red_green + yellow_blue * yellow_blue))
    return distance


def _tolerance(apart: Plane) -> float:
    """Return what still is background, for the noise that the background of this photo has."""
    calm = apart[apart < _NEAR]
    return float(np.clip(3 * np.median(calm), 0.03, _NEAR)) if calm.size else _NEAR


def _without_shadow(standing_out: Mask, colours: Colours, background: Colours, *, ground: Mask) -> Mask:
    """Return the product without specks and without the shadow it throws on the ground."""
    dim = _is_dim(colours, background) & _low_part(standing_out)
    product = ~_reached_from_border(ground | (dim & _is_smooth(colours)))
    if product.sum() < (1 - _SHADOW_SHARE) * standing_out.sum():
        product = standing_out
    # What is left of a shadow's rim is thin, and dim as well.
    bulk = _grown(~_grown(~product, _RIM), _RIM)
    return box_mean((product & (bulk | ~dim)).astype(np.float32), 2) > 0.5  # noqa: PLR2004  the majority of those around


def _low_part(mask: Mask) -> Mask:
    rows = np.flatnonzero(mask.any(1))
    low = np.zeros_like(mask)
    if rows.size:
        low[round(rows[0] + _SHADOW_FROM * (rows[-1] - rows[0])) :] = True
    return low


def _is_dim(colours: Colours, background: Colours) -> Mask:
    """Return where it is darker than the background, and of the same hue."""
    ratio = luminance_of(colours) / (luminance_of(background) + np.float32(1e-3))
    _, red_green, yellow_blue = _axes(colours - background * ratio[..., None])
    dim: Mask = (ratio > _SHADOW_DARKEST) & (ratio < 1) & (np.hypot(red_green, yellow_blue) < _NEAR)
    return dim


def _is_smooth(colours: Colours) -> Mask:
    """Return where it changes little from pixel to pixel."""
    light = Image.fromarray((luminance_of(colours) * 255).astype(np.uint8))
    highest, lowest = (
        np.asarray(light.filter(rank(3)), np.int16) for rank in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    smooth: Mask = highest - lowest < 255 * 2 * _SHADOW_STEP
    return smooth


def _reached_from_border(open_ground: Mask) -> Mask:
    """Return the open ground that is joined to the border, along rows and columns."""
    reached = open_ground.copy()
    reached[1:-1, 1:-1] = False
    for _ in range(_SWEEPS_MAX):
        before = int(reached.sum())
        reached = _along_rows(reached, open_ground)
        reached = _along_rows(reached.T, open_ground.T).T
        if int(reached.sum()) == before:
            break
    return reached


def _along_rows(reached: Mask, open_ground: Mask) -> Mask:
    """Spread what is reached over its whole run of open ground in each row."""
    blocked = ~open_ground
    starts = blocked.copy()
    starts[:, 0] = True
    runs = starts.ravel().cumsum()
    hit = np.bincount(runs, weights=(reached & open_ground).ravel()) > 0
    spread: Mask = hit[runs].reshape(open_ground.shape) & open_ground
    return spread


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _part(background: Colours, cropped: tuple[slice, slice]) -> Colours:
    return background if background.shape[0] == 1 else background[cropped]


def _lifted(photo: NDArray[np.uint8], mask: Plane, background: Colours) -> Image.Image:
    """Return the product as RGBA: where it is mixed with the background, its own share of the colour."""
    alpha = mask[..., None]
    mixed = photo.astype(np.float32) / np.float32(255)
    own = (mixed - (1 - alpha) * background) / np.maximum(alpha, np.float32(0.2))
    colours = np.where(alpha < 1, np.clip(own, 0, 1), mixed)
    return Image.fromarray(np.round(np.dstack([colours, mask]) * 255).astype(np.uint8))
