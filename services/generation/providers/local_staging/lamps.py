"""Pendant lamps as the styles have them, drawn as layers with alpha; they know colours and shapes, not the photo."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from services.generation.providers.local_staging.drawing import Draw
from services.generation.providers.local_staging.looks import Colour

LAMP_WIDTH, LAMP_HEIGHT = 600, 900
BULB_AT = 0.74  # how far down the layer the light sits
_MIDDLE = LAMP_WIDTH / 2
_BRASS: Colour = (186, 148, 82)
_BLACK: Colour = (34, 34, 36)


def lamp(kind: str) -> Image.Image:
    """Return a lamp on its cord, which leaves the layer at the top.

    Raises:
        KeyError: there is no such lamp.
    """
    layer = Image.new("RGBA", (LAMP_WIDTH, LAMP_HEIGHT), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    draw.line((_MIDDLE, 0, _MIDDLE, LAMP_HEIGHT * 0.6), fill=(*_BLACK, 255), width=6)
    _LAMPS[kind](layer, draw)
    return layer


def _ball(layer: Image.Image, *, x: float, y: float, radius: float, colour: Colour, squash: float = 1.0) -> None:
    """Paint a sphere lit from the upper left."""
    reach = int(radius)
    axis = (np.arange(2 * reach) - reach + 0.5) / radius
    across, down = axis[None, :], axis[:, None]
    inside = across**2 + down**2
    light = np.clip(1.06 - 0.34 * np.hypot(across + 0.35, down + 0.35) ** 1.5, 0.25, 1.15)
    shade = np.clip(np.array(colour)[None, None, :] * light[..., None], 0, 255)
    alpha = np.clip((1 - np.sqrt(inside)) * radius, 0, 1) * 255
    pixels = np.dstack([shade, alpha]).astype(np.uint8)
    ball = Image.fromarray(pixels).resize((2 * reach, max(2, int(2 * reach * squash))))
    layer.alpha_composite(ball, (int(x - reach), int(y - ball.height / 2)))


def _cone(
    layer: Image.Image, *, top: float, bottom: float, narrow: float, wide: float, colour: Colour, power: float
) -> None:
    """Paint a shade that widens downwards, round and therefore lighter left of its middle."""
    height = int(bottom - top)
    down = np.linspace(0, 1, height)[:, None]
    half = (narrow + (wide - narrow) * down**power) / 2
    across = (np.arange(LAMP_WIDTH)[None, :] - _MIDDLE) / half
    light = np.clip(1.05 - 0.6 * np.abs(across + 0.3) ** 1.7, 0.3, 1.1)
    pixels = np.zeros((height, LAMP_WIDTH, 4))
    pixels[..., :3] = np.clip(np.array(colour) * light[..., None], 0, 255)
    pixels[..., 3] = np.clip((1 - np.abs(across)) * half, 0, 1) * 255
    layer.alpha_composite(Image.fromarray(pixels.astype(np.uint8)), (0, int(top)))


def _globe(layer: Image.Image, draw: Draw) -> None:
    draw.rectangle((_MIDDLE - 16, 470, _MIDDLE + 16, 530), fill=(*_BRASS, 255))
    _ball(layer, x=_MIDDLE, y=670, radius=150, colour=(255, 250, 238))


def _bell(layer: Image.Image, draw: Draw) -> None:
    draw.rectangle((_MIDDLE - 18, 440, _MIDDLE + 18, 520), fill=(*_BRASS, 255))
    _cone(layer, top=500, bottom=690, narrow=70, wide=430, colour=(224, 220, 210), power=1.6)
    draw.ellipse((_MIDDLE - 215, 670, _MIDDLE + 215, 712), fill=(255, 246, 224, 255))


def _lantern(_layer: Image.Image, draw: Draw) -> None:
    iron = (52, 40, 32, 255)
    draw.polygon([(_MIDDLE - 50, 480), (_MIDDLE + 50, 480), (_MIDDLE + 120, 560), (_MIDDLE - 120, 560)], fill=iron)
    draw.rectangle((_MIDDLE - 105, 560, _MIDDLE + 105, 800), fill=(255, 208, 136, 190), outline=iron, width=14)
    draw.line((_MIDDLE - 35, 560, _MIDDLE - 35, 800), fill=iron, width=9)
    draw.line((_MIDDLE + 35, 560, _MIDDLE + 35, 800), fill=iron, width=9)
    draw.rectangle((_MIDDLE - 120, 795, _MIDDLE + 120, 822), fill=iron)


def _bulb(layer: Image.Image, draw: Draw) -> None:
    _cone(layer, top=480, bottom=600, narrow=60, wide=330, colour=(58, 62, 64), power=0.8)
    draw.rectangle((_MIDDLE - 22, 595, _MIDDLE + 22, 640), fill=(70, 64, 56, 255))
    _ball(layer, x=_MIDDLE, y=685, radius=58, colour=(255, 214, 140), squash=1.25)


def _rattan(layer: Image.Image, draw: Draw) -> None:
    _cone(layer, top=460, bottom=720, narrow=130, wide=470, colour=(206, 164, 104), power=0.7)
    for number in range(9):
        y = 480 + number * 28
        half = (130 + 340 * ((y - 460) / 260) ** 0.7) / 2
        draw.arc((_MIDDLE - half, y - 14, _MIDDLE + half, y + 14), 0, 180, fill=(136, 96, 52, 255), width=5)
    for share in np.linspace(-1, 1, 15):
        draw.line((_MIDDLE + share * 65, 462, _MIDDLE + share * 235, 718), fill=(150, 108, 60, 190), width=4)
    draw.ellipse((_MIDDLE - 235, 700, _MIDDLE + 235, 740), fill=(255, 232, 184, 255))


def _paper(layer: Image.Image, draw: Draw) -> None:
    _ball(layer, x=_MIDDLE, y=650, radius=215, colour=(250, 240, 216), squash=0.86)
    for share in np.linspace(-0.9, 0.9, 13):
        half = 215 * np.sqrt(1 - share**2)
        y = 650 + share * 185
        draw.arc((_MIDDLE - half, y - 12, _MIDDLE + half, y + 12), 0, 180, fill=(206, 192, 162, 150), width=3)


def _sputnik(layer: Image.Image, draw: Draw) -> None:
    for angle in np.linspace(0, 2 * np.pi, 13)[:12]:
        reach = 210 if round(angle * 10) % 2 else 165
        x, y = _MIDDLE + np.cos(angle) * reach, 640 + np.sin(angle) * reach
        draw.line((_MIDDLE, 640, x, y), fill=(*_BRASS, 255), width=8)
        _ball(layer, x=x, y=y, radius=32, colour=(255, 240, 210))
    _ball(layer, x=_MIDDLE, y=640, radius=52, colour=_BRASS)


def _chandelier(layer: Image.Image, draw: Draw) -> None:
    for tier, (y, half) in enumerate(((560, 110), (640, 200), (720, 130))):
        draw.ellipse((_MIDDLE - half, y - 16, _MIDDLE + half, y + 16), outline=(*_BRASS, 255), width=8)
        for share in np.linspace(-1, 1, 7 - tier % 2):
            x = _MIDDLE + share * half
            draw.line((_MIDDLE, y - 90, x, y), fill=(*_BRASS, 120), width=3)
            _ball(layer, x=x, y=y + 34, radius=17, colour=(255, 238, 206), squash=1.9)


def _tiers(layer: Image.Image, draw: Draw) -> None:
    for number, half in enumerate((215, 155, 95)):
        y = 540 + number * 84
        draw.rectangle((_MIDDLE - half, y, _MIDDLE + half, y + 62), fill=(255, 234, 190, 255))
        for share in np.linspace(-1, 1, 13 - 3 * number):
            x = _MIDDLE + share * (half - 5)
            draw.line((x, y, x, y + 62), fill=(224, 190, 120, 255), width=4)
        draw.rectangle((_MIDDLE - half - 8, y - 10, _MIDDLE + half + 8, y + 4), fill=(*_BRASS, 255))
    _ball(layer, x=_MIDDLE, y=800, radius=28, colour=_BRASS)


_LAMPS: dict[str, Callable[[Image.Image, Draw], None]] = {
    "bell": _bell,
    "bulb": _bulb,
    "chandelier": _chandelier,
    "globe": _globe,
    "lantern": _lantern,
    "paper": _paper,
    "rattan": _rattan,
    "sputnik": _sputnik,
    "tiers": _tiers,
}
