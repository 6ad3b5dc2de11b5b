"""Reads a photo of a room: where its walls and its floor are, how they are lit, and where a wall is free.

Works on a small copy; the masks it finds are carried to full size along the photo's own edges (guided filter, He, Sun
and Tang 2013; fast variant, He and Sun 2015). It knows no style.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]
SMALL_SIDE = 640
_SRGB_KNEE, _SRGB_SLOPE = 0.04045, 12.92  # below, the sRGB curve is straight
_COMMON = 0.02  # share of the lowest quarter that a colour needs to be the floor's
_APART = 0.16  # how far two colours of the floor lie apart, on the axes of Lab
LUMA = (np.float32(0.2126), np.float32(0.7152), np.float32(0.0722))  # ITU-R BT.709


@dataclass(frozen=True, kw_only=True)
class Surface:
    """One painted thing: how much each full-size pixel belongs to it (0 to 1), and its linear colour as lit."""

    mask: Plane
    small_mask: Plane
    colour: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What was found in the photo: planes of height x width, and ``linear``, height x width x 3, in light.

    ``smooth`` is the luminance without texture; ``laid`` is what lies on the floor, such as a rug.
    """

    linear: NDArray[np.float32]
    smooth: Plane
    luminance: Plane
    wall: Surface
    floor: Surface
    laid: Surface


def linear_from_srgb(values: Any) -> NDArray[np.float32]:
    """Return light (0 to 1) for sRGB code values (0 to 1), IEC 61966-2-1."""
    codes = np.asarray(values, np.float32)
    return np.where(codes <= _SRGB_KNEE, codes / _SRGB_SLOPE, ((codes + 0.055) / 1.055) ** 2.4).astype(np.float32)


def srgb_from_linear(values: Any) -> NDArray[np.float32]:
    """Return sRGB code values (0 to 1) for light (0 to 1)."""
    light = np.clip(np.asarray(values, np.float32), 0, 1)
    codes = np.where(light <= _SRGB_KNEE / _SRGB_SLOPE, light * _SRGB_SLOPE, 1.055 * light ** (1 / 2.4) - 0.055)
    return codes.astype(np.float32)


def luminance_of(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the luminance of colours in the last axis; summed by hand, since BLAS rounds by its number of threads."""
    luminance: NDArray[np.float32] = light[..., 0] * LUMA[0] + light[..., 1] * LUMA[1] + light[..., 2] * LUMA[2]
    return luminance


_LINEAR = linear_from_srgb(np.arange(256) / 255)


def read_scene(photo: Image.Image) -> Scene:
    """Find walls and floor in an RGB photo."""
    linear = _LINEAR[np.asarray(photo)]
    luminance = luminance_of(linear)
    tone = np.sqrt(luminance)  # nearly even to the eye, and cheap
    small = small_copy(photo)
    small_tone = np.sqrt(luminance_of(_LINEAR[np.asarray(small)]))
    guide = _Guide(small_tone, tone)
    smooth = guide.carry(small_tone, radius=4, epsilon=0.002) ** 2
    wall, (floor, laid) = _wall_likeness(small), _low_likenesses(small)
    return Scene(
        linear=linear,
        smooth=smooth,
        luminance=luminance,
        wall=_surface(guide, wall, small),
        floor=_surface(guide, floor * (1 - wall), small),
        laid=_surface(guide, laid * (1 - wall), small),
    )


def small_copy(photo: Image.Image) -> Image.Image:
    """Return the photo scaled to a longer side of 640 pixels."""
    scale = SMALL_SIDE / max(photo.size)
    return photo.resize((max(8, round(photo.width * scale)), max(8, round(photo.height * scale))), Image.Resampling.BOX)


def enlarged(plane: Plane, size: tuple[int, int]) -> Plane:
    """Return the plane scaled to (width, height)."""
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))


def box_mean(plane: Plane, radius: int) -> Plane:
    """Return the mean over the square around each pixel, edges repeated."""
    padded = np.pad(plane, radius + 1, mode="edge").cumsum(0, dtype=np.float64).cumsum(1)
    side = 2 * radius + 1
    total = padded[side:, side:] - padded[:-side, side:] - padded[side:, :-side] + padded[:-side, :-side]
    mean: Plane = (total / side**2).astype(np.float32)[:-1, :-1]
    return mean


def step(values: Any, low: float, high: float) -> Plane:
    """Return 0 below ``low``, 1 above ``high`` and a smooth ramp between (either way round)."""
    ramp = np.clip((np.asarray(values, np.float32) - low) / (high - low), 0, 1)
    smooth: Plane = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    return smooth


class _Guide:
    """Carries small planes to full size so that they follow the edges of the photo's tone."""

    def __init__(self, small: Plane, full: Plane) -> None:
        self._small = small
        self._full = full

    def carry(self, plane: Plane, *, radius: int, epsilon: float) -> Plane:
        """Return the small plane at full size; edges of less than ``epsilon`` (variance of tone) are smoothed over."""
        tone = self._small
        tone_mean, plane_mean = box_mean(tone, radius), box_mean(plane, radius)
        covariance = box_mean(tone * plane, radius) - tone_mean * plane_mean
        slope = covariance / (box_mean(tone * tone, radius) - tone_mean**2 + epsilon)
        offset = plane_mean - slope * tone_mean
        size = (self._full.shape[1], self._full.shape[0])
        slope, offset = (enlarged(box_mean(part, radius), size) for part in (slope, offset))
        carried: Plane = slope * self._full + offset
        return carried


def _surface(guide: _Guide, likeness: Plane, small: Image.Image) -> Surface:
    light = _LINEAR[np.asarray(small)]
    weight = likeness**2 + 1e-6
    colour = (light * weight[..., None]).sum((0, 1)) / weight.sum()
    mask = np.clip(guide.carry(likeness, radius=4, epsilon=0.0003), 0, 1)
    return Surface(mask=mask, small_mask=likeness, colour=colour.astype(np.float32))


def _features(small: Image.Image) -> tuple[Plane, Plane, Plane]:
    """Return lightness and the two colour axes (Lab, 0 to 1 and -1 to 1)."""
    lab = np.asarray(small.convert("LAB"), np.int16)
    lightness = (lab[..., 0] / 255).astype(np.float32)
    # Pillow stores the signed axes as bytes.
    axes = (((lab[..., 1:] + 128) % 256 - 128) / 128).astype(np.float32)
    return lightness, axes[..., 0], axes[..., 1]


def _calm(lightness: Plane) -> Plane:
    """Return where there is no texture, be it cloth or pattern, for the noise this photo has."""
    texture = np.abs(lightness - box_mean(lightness, 1))  # a gradient of light is none
    around = box_mean(texture, 6)
    limit = float(np.clip(np.percentile(around[: len(around) // 2], 30) * 2, 0.004, 0.01))
    return step(around, limit * 1.4, limit * 0.8)


def _wall_likeness(small: Image.Image) -> Plane:
    """Walls are calm, light for the room, and all of one colour: the commonest calm colour of the upper half."""
    lightness, a, b = _features(small)
    calm = _calm(lightness)
    high = step(np.linspace(0, 1, lightness.shape[0]), 0.92, 0.68)[:, None]
    weight = calm * high * step(lightness, 0.3, 0.6)
    total = float(weight.sum()) + 1e-6
    a0, b0, light0 = (float((plane * weight).sum() / total) for plane in (a, b, lightness))
    # Beside a lamp the wall takes the lamp's colour.
    spread = 0.05 + 0.14 * step(lightness, light0, light0 + 0.1)
    near = np.exp(-((a - a0) ** 2 + (b - b0) ** 2) / (2 * spread**2))
    bright = step(lightness, light0 - 0.36, light0 - 0.2) * step(lightness, 0.995, 0.96)  # not lamps, nor the sky
    beside_calm = step(box_mean(calm, 11), 0.02, 0.2)
    likeness: Plane = step(near * bright * beside_calm, 0.1, 0.6) * high
    return likeness


def _low_likenesses(small: Image.Image) -> tuple[Plane, Plane]:
    """Return the floor and what lies on it, told by the two commonest colours of the lowest quarter."""
    lightness, a, b = _features(small)
    height, width = lightness.shape
    low = step(np.linspace(0, 1, height), 0.52, 0.7)[:, None] * np.ones((1, width), np.float32)
    quarter = slice(int(height * 0.75), None)
    first, second = (
        low * np.exp(-((a - a0) ** 2 + (b - b0) ** 2) / (2 * 0.08**2)) * common
        for a0, b0, common in _floor_colours(a[quarter], b[quarter])
    )
    return first.astype(np.float32), (second * (1 - first)).astype(np.float32)


def _floor_colours(a: Plane, b: Plane) -> list[tuple[float, float, bool]]:
    """Return the places of the two commonest colours and whether they are common at all; the stronger one first.

    Floors are wood more often than what lies on them.
    """
    counts, edges, _ = np.histogram2d(a.ravel(), b.ravel(), bins=40, range=[[-1, 1], [-1, 1]])
    centres = (edges[1:] + edges[:-1]) / 2
    found = []
    for _ in range(2):
        row, column = np.unravel_index(int(counts.argmax()), counts.shape)
        found.append((float(centres[row]), float(centres[column]), bool(counts[row, column] > _COMMON * a.size)))
        apart = np.hypot(centres[:, None] - centres[row], centres[None, :] - centres[column])
        counts = counts * (apart > _APART)
    return sorted(found, key=lambda colour: -np.hypot(colour[0], colour[1]) * colour[2])
