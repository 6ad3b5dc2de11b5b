"""The light a style brings: what it falls through, from which side, and how it lies on the room.

Every pattern is drawn small, in perspective, and returned as a plane of 0 to 1; it knows neither photo nor colours.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.generation.providers.local_staging.drawing import Dice, Points, perspective
from services.generation.providers.local_staging.scene import Plane

_UNIT = 1000  # patterns are drawn on a square of this side before they are thrown on the room


def light_pattern(name: str, *, size: tuple[int, int], side: int, dice: Dice) -> Plane:
    """Return where light of the pattern falls on a picture of ``size``; it comes from ``side`` (-1 left, 1 right).

    Raises:
        KeyError: there is no such pattern.
    """
    if name == "pools":
        return _pools(size, dice)
    pattern = _PATTERNS[name](dice)
    thrown = _throw(pattern, size=size, side=side, dice=dice)
    return np.asarray(thrown, np.float32) / np.float32(255)


def side_light(*, size: tuple[int, int], side: int, dice: Dice) -> Plane:
    """Return the fall of daylight over the room: 1 beside the window, towards 0 across."""
    width, height = size
    across = np.linspace(0, 1, width)[None, :] if side < 0 else np.linspace(1, 0, width)[None, :]
    down = np.linspace(0, 1, height)[:, None]
    reach = dice.uniform(0.9, 1.3)
    return np.clip(1 - np.hypot(across, (down - dice.uniform(0.3, 0.45)) * 0.7) / reach, 0, 1).astype(np.float32)


def _throw(pattern: Image.Image, *, size: tuple[int, int], side: int, dice: Dice) -> Image.Image:
    """Lay the pattern on the wall like light through a window: sheared, spread and softer the farther it falls."""
    width, height = size
    left = dice.uniform(0.3, 0.44)
    spread, drop = dice.uniform(0.42, 0.56), dice.uniform(0.08, 0.18)
    top, tall = dice.uniform(0.1, 0.2), dice.uniform(0.42, 0.54)
    corners = [
        (left, top),
        (left + spread * 0.9, top + drop),
        (left + spread * 1.15, top + drop * 1.5 + tall),
        (left + 0.14, top + tall),
    ]
    if side > 0:
        corners = [(1 - x, y) for x, y in corners]
    points = [(x * width, y * height) for x, y in corners]
    unit: Points = [(0, 0), (_UNIT, 0), (_UNIT, _UNIT), (0, _UNIT)]
    coefficients = perspective(points, unit)
    thrown = pattern.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    sharp = thrown.filter(ImageFilter.GaussianBlur(width / 300))
    soft = thrown.filter(ImageFilter.GaussianBlur(width / 55))
    distance = Image.linear_gradient("L").rotate(90 if side < 0 else -90).resize(size)
    return Image.composite(soft, sharp, distance)


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (_UNIT, _UNIT), 0)
    return image, ImageDraw.Draw(image)


def _grid(columns: int, rows: int, *, bar: float) -> Image.Image:
    image, draw = _canvas()
    for column in range(columns):
        for row in range(rows):
            left, top = _UNIT * column / columns, _UNIT * row / rows
            right, bottom = _UNIT * (column + 1) / columns, _UNIT * (row + 1) / rows
            draw.rectangle((left + bar, top + bar, right - bar, bottom - bar), fill=255)
    return image


def _curtain(dice: Dice) -> Image.Image:
    """Soft folds that let the most of it through."""
    x = np.linspace(0, 1, _UNIT)
    folds = 0.72 + 0.28 * np.sin(2 * np.pi * (9 * x + 0.35 * np.sin(2 * np.pi * x * 2 + dice.uniform(0, 6))))
    return Image.fromarray((np.ones((_UNIT, 1)) * folds * 255).clip(0, 255).astype(np.uint8))


def _slats(count: int, *, gap: float) -> Image.Image:
    image, draw = _canvas()
    for number in range(count):
        top = _UNIT * number / count
        draw.rectangle((20, top, _UNIT - 20, top + _UNIT / count * gap), fill=255)
    return image


def _fronds(dice: Dice) -> Image.Image:
    """A window with palm leaves before it."""
    window = _grid(2, 2, bar=14)
    leaves, draw = _canvas()
    for _ in range(5):
        x, y = dice.uniform(-100, _UNIT), dice.uniform(_UNIT * 0.3, _UNIT * 1.1)
        lean = dice.uniform(-1.9, -1.0)
        for blade in np.linspace(-1.15, 1.15, 15):
            angle, length = lean + blade, 420 * (1 - 0.35 * abs(blade))
            tip = (x + length * np.cos(angle), y + length * np.sin(angle))
            across = (-14 * np.sin(angle), 14 * np.cos(angle))
            middle = ((x + tip[0]) / 2, (y + tip[1]) / 2)
            draw.polygon(
                [
                    (x, y),
                    (middle[0] + across[0], middle[1] + across[1]),
                    tip,
                    (middle[0] - across[0], middle[1] - across[1]),
                ],
                fill=225,
            )
    return ImageChops.subtract(window, leaves)


def _arches(_dice: Dice) -> Image.Image:
    """Three tall arches with rays above, as on a picture palace."""
    image, draw = _canvas()
    for left in (20, 350, 680):
        draw.rectangle((left, 330, left + 300, _UNIT), fill=255)
        draw.pieslice((left, 180, left + 300, 480), 180, 360, fill=255)
        for x in (left + 95, left + 195):
            draw.rectangle((x, 180, x + 10, _UNIT), fill=0)
        draw.rectangle((left, 430, left + 300, 442), fill=0)
    return image


def _slit(_dice: Dice) -> Image.Image:
    image, draw = _canvas()
    draw.polygon([(120, 0), (420, 0), (980, _UNIT), (680, _UNIT)], fill=255)
    return image


def _pools(size: tuple[int, int], dice: Dice) -> Plane:
    """Cones of lamps along the wall: scallops, bright above and below each lamp."""
    width, height = size
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, height / width, height)[:, None]
    light = np.zeros((height, width), np.float32)
    for centre in np.array([0.16, 0.5, 0.84]) + dice.uniform(-0.06, 0.06):
        for way, reach in ((1, 0.3), (-1, 0.2)):
            along = (y - 0.2) * way
            spread = 0.02 + np.maximum(along, 0) * 0.42
            cone = np.exp(-(((x - centre) / spread) ** 2)) * (along > 0)
            light += (cone * np.exp(-np.maximum(along, 0) / reach) * np.clip(along * 40, 0, 1)).astype(np.float32)
    return np.clip(light, 0, 1)


_PATTERNS: dict[str, Callable[[Dice], Image.Image]] = {
    "arches": _arches,
    "blinds": lambda _: _slats(13, gap=0.55),
    "curtain": _curtain,
    "factory": lambda _: _grid(6, 5, bar=11),
    "fronds": _fronds,
    "muntins": lambda _: _grid(2, 3, bar=16),
    "panes": lambda _: _grid(3, 1, bar=13),
    "shoji": lambda _: _grid(4, 6, bar=8),
    "shutters": lambda _: ImageChops.multiply(_slats(9, gap=0.68), _grid(2, 1, bar=24)),
    "slit": _slit,
}
