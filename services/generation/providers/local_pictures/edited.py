"""Edits by name: a room cleared, a day turned to dusk, a photo enhanced, a product photographed before a plain ground.

Words it cannot follow, it does not follow.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from services.generation.providers.local_pictures.emptied import SIDE_MAX, emptied, printed
from services.generation.providers.local_products.studio_view import product_view
from services.generation.providers.local_staging.grade import with_bloom, with_grain, with_vignette
from services.generation.providers.local_staging.scene import linear_from_srgb, luminance_of, step
from shared.images import decode, encode_jpeg

_DUSK = (0.36, 0.42, 0.66)  # the light of the sky after sunset, on each channel
_LAMP = (1.0, 0.72, 0.36)
_LINEAR = linear_from_srgb(np.arange(256) / 255)


def edit(photo: bytes, *, seed: int, edit: str = "enhancement") -> bytes:
    """Return the photo edited as a JPEG of at most 2048 pixels on its longer side.

    ``edit`` is ``furniture_removal``, ``day_to_dusk``, ``enhancement`` or ``product_view``. The same arguments give the
    same bytes. Up to a second of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: it is another edit.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    if edit not in _EDITS:
        raise ValueError(f"{edit!r} is not an edit of the local provider; choose one of {', '.join(_EDITS)}")
    return encode_jpeg(_EDITS[edit](decode(photo, side=SIDE_MAX), seed), quality=90)


def _without_furniture(picture: Image.Image, seed: int) -> Image.Image:
    return emptied(picture, seed=seed)


def _at_dusk(picture: Image.Image, seed: int) -> Image.Image:
    """Darken to the light of the sky, and let what is brightest, windows and lamps, shine warmly."""
    dice = np.random.default_rng(seed)
    light = _LINEAR[np.asarray(picture)]
    luminance = luminance_of(light)
    high = float(np.percentile(luminance, 92))
    bright = step(luminance, high * 0.8, max(high * 1.8, 0.05))
    around = Image.fromarray((bright * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(max(picture.size) / 60))
    glow = np.maximum(bright * np.float32(0.6), np.asarray(around, np.float32) / 255)  # light has no edge
    lit = glow[..., None] * np.float32(dice.uniform(0.85, 1))
    dusk, lamps = np.array(_DUSK, np.float32) * np.float32(0.42), np.array(_LAMP, np.float32) * np.float32(1.15)
    evening = printed(light * (dusk + (lamps - dusk) * lit))
    return with_grain(with_vignette(with_bloom(evening, 0.5), 0.25), 0.006, dice=dice)


def _enhanced(picture: Image.Image, seed: int) -> Image.Image:
    """Stretch the tones, put some colour and sharpness back; the seed decides how much, within a little."""
    dice = np.random.default_rng(seed)
    stretched = Image.blend(picture, ImageOps.autocontrast(picture, cutoff=(0.5, 0.5), preserve_tone=True), 0.8)
    coloured = ImageEnhance.Color(stretched).enhance(float(dice.uniform(1.06, 1.14)))
    return coloured.filter(ImageFilter.UnsharpMask(radius=2, percent=int(dice.integers(50, 80)), threshold=2))


_EDITS: Mapping[str, Callable[[Image.Image, int], Image.Image]] = {
    "furniture_removal": _without_furniture,
    "day_to_dusk": _at_dusk,
    "enhancement": _enhanced,
    "product_view": product_view,
}
