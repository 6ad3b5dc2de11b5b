"""The style's way of printing: colour grading as one lookup table, glow, vignette and grain.

Works on finished RGB pictures; it knows nothing of rooms.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from services.generation.providers.local_staging.drawing import Dice
from services.generation.providers.local_staging.looks import Look, Room
from services.generation.providers.local_staging.scene import LUMA, linear_from_srgb, luminance_of, srgb_from_linear

Colours = NDArray[np.float32]
_TABLE_SIDE = 25
_MID_GREY = 0.48
_HARMONY = 0.65  # how far a strong hue turns towards the palette's nearest


def colour_grade(look: Look, *, room: Room, dice: Dice) -> ImageFilter.Color3DLUT:
    """Return the lookup table that gives a picture the colours of the style."""
    steps = np.linspace(0, 1, _TABLE_SIDE, dtype=np.float32)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red runs fastest, as Pillow wants it
    colours = np.stack([red, green, blue], -1).reshape(-1, 3)
    colours = _warmed(colours, look.warmth + room.warmth + dice.uniform(-0.05, 0.05))
    colours = _saturated(colours, look.saturation * room.saturation * dice.uniform(0.95, 1.05))
    toned = _split_toned(_harmonised(colours, look), look)
    contrasted = _MID_GREY + (toned - _MID_GREY) * (look.contrast * room.contrast)
    printed = look.blacks + contrasted * (1 - max(look.blacks, 0))
    table = np.clip(printed, 0, 1).ravel().tolist()
    return ImageFilter.Color3DLUT(_TABLE_SIDE, table, 3, target_mode="RGB")


def with_bloom(picture: Image.Image, strength: float) -> Image.Image:
    """Return the picture with its lights spread softly, as a lens does."""
    small = picture.resize((max(1, picture.width // 4), max(1, picture.height // 4)), Image.Resampling.BOX)
    lights = [round(max(0, value - 160) * 255 / 95 * strength) for value in range(256)]
    glow = small.point(lights * 3).filter(ImageFilter.GaussianBlur(small.width / 28))
    return ImageChops.screen(picture, glow.resize(picture.size, Image.Resampling.BILINEAR))


def with_vignette(picture: Image.Image, strength: float) -> Image.Image:
    """Return the picture darker towards its corners."""
    if not strength:
        return picture
    across, down = np.linspace(-1, 1, 256)[None, :], np.linspace(-1, 1, 256)[:, None]
    shade = 1 - strength * np.clip(np.hypot(across, down) - 0.45, 0, 1) ** 1.6
    plane = Image.fromarray((shade * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(picture, Image.merge("RGB", (plane, plane, plane)))


def with_grain(picture: Image.Image, strength: float, *, dice: Dice) -> Image.Image:
    """Return the picture with the grain of film, a little larger than a pixel."""
    if not strength:
        return picture
    size = (picture.height // 2 + 1, picture.width // 2 + 1)
    noise = Image.fromarray(dice.standard_normal(size, dtype=np.float32) * np.float32(strength * 255))
    grain = np.asarray(noise.resize(picture.size, Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(np.asarray(picture) + grain[..., None], 0, 255).astype(np.uint8))


def _warmed(colours: Colours, warmth: float) -> Colours:
    """Change the colour of the light and keep its amount."""
    balance = np.array([1 + 0.22 * warmth, 1 + 0.03 * warmth, 1 - 0.24 * warmth], np.float32)
    return srgb_from_linear(linear_from_srgb(colours) * balance / luminance_of(balance))


def _saturated(colours: Colours, amount: float) -> Colours:
    grey = luminance_of(colours)[:, None]
    saturated: Colours = (grey + (colours - grey) * amount).astype(np.float32)
    return saturated


def _split_toned(colours: Colours, look: Look) -> Colours:
    """Draw the shadows to one tint and the lights to another."""
    grey = np.clip(luminance_of(colours), 0, 1)[:, None]
    shadow, light = (np.array(tint) / 255 for tint in (look.shadow_tint, look.highlight_tint))
    pull = (1 - grey) ** 2 * (shadow - grey * 0.9 - 0.12) + grey**2 * (light - 1) * 1.1
    toned: Colours = (colours + look.tint_strength * 0.55 * pull).astype(np.float32)
    return toned


def _harmonised(colours: Colours, look: Look) -> Colours:
    """Turn strong hues towards the nearest ones of the palette, so that what stands about belongs together."""
    hue, chroma, grey = _polar(colours)
    palette_hue, palette_chroma, _ = _polar((np.array(look.accents) / 255).astype(np.float32))
    apart = (palette_hue[None, :] - hue[:, None] + np.pi) % (2 * np.pi) - np.pi
    pull = np.exp(-((apart / 0.8) ** 2)) * palette_chroma[None, :] ** 2
    turn = (apart * pull).sum(1) / (pull.sum(1) + 0.01) * _HARMONY
    return _from_polar(hue + turn, chroma, grey)


def _polar(colours: Colours) -> tuple[Colours, Colours, Colours]:
    """Return hue, chroma and grey, on the axes red-green and yellow-blue."""
    grey = luminance_of(colours)
    red_green = colours[:, 0] - colours[:, 1]
    yellow_blue = (colours[:, 0] + colours[:, 1]) / 2 - colours[:, 2]
    return np.arctan2(red_green, yellow_blue), np.hypot(red_green, yellow_blue), grey


def _from_polar(hue: Colours, chroma: Colours, grey: Colours) -> Colours:
    red_green, yellow_blue = chroma * np.sin(hue), chroma * np.cos(hue)
    green = grey - LUMA[0] * red_green - LUMA[2] * (red_green / 2 - yellow_blue)
    return np.stack([green + red_green, green, green + red_green / 2 - yellow_blue], 1).astype(np.float32)
