"""What a product may be set on, drawn into a picture: a round plinth, a slab. It knows neither product nor room."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.generation.providers.local_staging.drawing import shaded
from services.generation.providers.local_staging.looks import Colour
from services.generation.providers.local_staging.order import Order

_TOP_LIGHT = 0.22  # how much lighter than its sides the top is


def _disc(picture: Image.Image, order: Order, colour: Colour, foot: tuple[int, int]) -> None:
    """Set a low round plinth under ``foot``."""
    width, height = picture.size
    radius, tall = int(width * 0.36), int(height * 0.07)
    flat = max(6, int(min(width, height) * 0.085))
    top, base = _lens(foot, radius, flat), _lens((foot[0], foot[1] + tall), radius, flat)
    round_base, body, lid = (Image.new("L", picture.size, 0) for _ in range(3))
    ImageDraw.Draw(round_base).ellipse(base, fill=255)
    ImageDraw.Draw(body).rectangle((top[0], foot[1], top[2], foot[1] + tall), fill=255)
    ImageDraw.Draw(lid).ellipse(top, fill=255)
    _cast_shadow(picture, round_base, order, blur=height / 50)
    side = _side_shading(picture.size, colour, order, middle=foot[0], radius=radius)
    picture.paste(side, mask=_smooth(ImageChops.lighter(body, round_base)))
    picture.paste(shaded(colour, _TOP_LIGHT), mask=_smooth(lid))


def _block(picture: Image.Image, order: Order, colour: Colour, foot: tuple[int, int]) -> None:
    """Set a slab under ``foot``, seen from the front and a little from above; it ends below the picture."""
    width, height = picture.size
    half, deep = int(width * 0.35), max(4, int(height * 0.06))
    left, right, far, near = foot[0] - half, foot[0] + half, foot[1] - deep, foot[1] + deep
    inset = half // 10
    body, lid = (Image.new("L", picture.size, 0) for _ in range(2))
    ImageDraw.Draw(body).rectangle((left, near, right, height + near), fill=255)
    ImageDraw.Draw(lid).polygon([(left + inset, far), (right - inset, far), (right, near), (left, near)], fill=255)
    _cast_shadow(picture, body, order, blur=height / 40)
    side = _side_shading(picture.size, colour, order, middle=foot[0], radius=half * 2)
    picture.paste(side, mask=_smooth(body))
    picture.paste(shaded(colour, _TOP_LIGHT), mask=_smooth(lid))


def _lens(middle: tuple[int, int], radius: int, flat: int) -> tuple[int, int, int, int]:
    return (middle[0] - radius, middle[1] - flat, middle[0] + radius, middle[1] + flat)


def _side_shading(size: tuple[int, int], colour: Colour, order: Order, *, middle: int, radius: int) -> Image.Image:
    """Return a surface of the colour that turns away from the light across the picture."""
    across = np.clip((np.arange(size[0], dtype=np.float32) - middle) / max(radius, 1), -1, 1) * order.side
    light = np.float32(0.8) + np.float32(0.2) * across - np.float32(0.16) * across**2
    row = np.clip(np.array(colour, np.float32) * light[:, None], 0, 255).astype(np.uint8)
    return Image.fromarray(row[None]).resize(size)


def _cast_shadow(picture: Image.Image, layer: Image.Image, order: Order, *, blur: float) -> None:
    """Darken the picture beside a shape, on the side away from the light."""
    moved = Image.new("L", picture.size, 0)
    moved.paste(layer, (round(-order.side * blur), round(blur * 0.6)))
    picture.paste((12, 10, 10), mask=_blurred(moved, blur).point(lambda value: value * 0.5))


def _blurred(layer: Image.Image, radius: float) -> Image.Image:
    quarter = layer.resize((max(1, layer.width // 4), max(1, layer.height // 4)), Image.Resampling.BOX)
    return quarter.filter(ImageFilter.GaussianBlur(radius / 4)).resize(layer.size, Image.Resampling.BILINEAR)


def _smooth(layer: Image.Image) -> Image.Image:
    return layer.filter(ImageFilter.GaussianBlur(0.8))


# Each draws itself so that a product stands on the given place, in pixels.
STANDS: dict[str, Callable[[Image.Image, Order, Colour, tuple[int, int]], None]] = {
    "disc": _disc,
    "block": _block,
}
