"""Plants as they stand in a corner before the camera, drawn as layers with alpha; they know no photo."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from services.generation.providers.local_staging.drawing import Dice, Draw, blade, draw_leaf, shaded, spine

PLANT_SIDE = 900
_FLOOR = PLANT_SIDE + 20


def plant(kind: str, *, side: int, dice: Dice) -> Image.Image:
    """Return a plant that grows out of the lower left corner (``side`` -1) or the lower right one (1).

    Raises:
        KeyError: there is no such plant.
    """
    layer = Image.new("RGBA", (PLANT_SIDE, PLANT_SIDE), (0, 0, 0, 0))
    _PLANTS[kind](ImageDraw.Draw(layer), dice)
    return layer if side < 0 else layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _sansevieria(draw: Draw, dice: Dice) -> None:
    for foot in np.linspace(20, 330, 11):
        angle = -1.62 + (foot - 150) / 520 + dice.uniform(-0.06, 0.06)
        length, bend = dice.uniform(430, 830), dice.uniform(-0.1, 0.22)
        green = shaded((58, 92, 62), dice.uniform(-0.45, 0.1))
        draw.polygon(blade(foot, _FLOOR, angle, length, 46, bend=bend), fill=(*shaded((170, 172, 104), -0.25), 255))
        draw_leaf(draw, blade(foot, _FLOOR, angle, length * 0.99, 37, bend=bend), green)


def _palm(draw: Draw, dice: Dice) -> None:
    for angle in np.linspace(-2.0, -0.55, 7):
        stem = spine(30, _FLOOR, angle, dice.uniform(580, 760), bend=0.75)
        green = shaded((66, 112, 62), dice.uniform(-0.5, 0.08))
        for number, (x, y) in enumerate(stem[8:]):
            along = angle + 0.8 * (number + 8) / len(stem)
            for way in (-1, 1):
                length = 190 * (1 - 0.6 * number / len(stem))
                draw_leaf(draw, blade(x, y, along + way * 0.7, length, 10, bend=way * -0.25), green)
        draw.line(stem, fill=(*shaded(green, -0.2), 255), width=6)


def _eucalyptus(draw: Draw, dice: Dice) -> None:
    for angle in np.linspace(-1.8, -0.5, 6):
        stem = spine(30, _FLOOR, angle, dice.uniform(560, 840), bend=dice.uniform(0.2, 0.6))
        draw.line(stem, fill=(116, 98, 80, 255), width=6)
        for number, (x, y) in enumerate(stem[7::3]):
            size = 60 * (1 - 0.5 * number / 11)
            for way in (-1, 1):
                green = shaded((122, 152, 132), dice.uniform(-0.4, 0.12))
                draw_leaf(draw, blade(x, y, angle + way * dice.uniform(0.8, 1.3), size * 1.7, size * 0.6), green)


def _pampas(draw: Draw, dice: Dice) -> None:
    for angle in np.linspace(-1.75, -0.95, 6):
        stem = spine(90, _FLOOR, angle, dice.uniform(700, 880), bend=dice.uniform(0.1, 0.5))
        straw = shaded((228, 200, 156), dice.uniform(-0.25, 0.05))
        draw.line(stem, fill=(*shaded(straw, -0.4), 255), width=6)
        for number, (x, y) in enumerate(stem[16:]):
            fullness = np.sin(np.pi * (number + 1) / 25)
            for _ in range(26):
                lean = angle + 0.4 + dice.normal(0, 0.42)
                hair = spine(x, y, lean, dice.uniform(40, 120) * fullness, bend=dice.uniform(0, 0.6))
                draw.line(hair[::6], fill=(*shaded(straw, dice.uniform(-0.25, 0.25)), 255), width=4)


def _rubber(draw: Draw, dice: Dice) -> None:
    for angle in (-1.62, -1.3, -0.95):
        stem = spine(60, _FLOOR, angle, dice.uniform(640, 860), bend=dice.uniform(0.05, 0.4))
        draw.line(stem, fill=(74, 66, 52, 255), width=9)
        for number, (x, y) in enumerate(stem[5::3]):
            way = 1 if number % 2 else -1
            lean = angle + way * dice.uniform(0.6, 1.15)
            length = dice.uniform(190, 250) * (1 - number * 0.03)
            green = shaded((62, 88, 60), dice.uniform(-0.45, 0.15))
            draw_leaf(draw, blade(x, y, lean, length, length * 0.27, bend=way * 0.3), green)


_PLANTS: dict[str, Callable[[Draw, Dice], None]] = {
    "eucalyptus": _eucalyptus,
    "palm": _palm,
    "pampas": _pampas,
    "rubber": _rubber,
    "sansevieria": _sansevieria,
}
