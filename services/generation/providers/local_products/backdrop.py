"""The place a product is photographed in: wall, ground and a stand in the palette of a style, lit from one side.

It knows no product.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from services.generation.providers.local_products.stands import STANDS
from services.generation.providers.local_staging.light import light_pattern, side_light
from services.generation.providers.local_staging.looks import Colour
from services.generation.providers.local_staging.order import Order
from services.generation.providers.local_staging.paintwork import Light, developed
from services.generation.providers.local_staging.plants import plant
from services.generation.providers.local_staging.scene import Plane, linear_from_srgb, step

_SMALL_SIDE = 448  # light is worked out small: out of focus, nobody sees the difference
_GROUNDS = {
    "kitchen": "tiles",
    "bathroom": "tiles",
    "balcony": "tiles",
    "hallway": "tiles",
    "home_office": "plain",
    "basement": "plain",
}
_SETTINGS = ("corner", "corner", "cove")
_FEET = ("ground", "ground", *STANDS)


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """An empty scene. ``foot`` is where a product stands: the middle of its lower edge, in pixels."""

    picture: Image.Image
    foot: tuple[int, int]
    horizon: int


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What chance decided, in shares of the picture's height and width."""

    cove: bool
    stand: str
    horizon: float
    foot: tuple[float, float]
    wall: Colour
    floor: Colour
    accent: Colour


def backdrop(order: Order, *, size: tuple[int, int], room_type: str, stand: bool = True) -> Backdrop:
    """Return a scene of ``size``; without ``stand`` there is nothing to put a product on."""
    plan = _planned(order, stand=stand)
    width, height = size
    picture = _lit_room(order, plan, size=size, ground=_GROUNDS.get(room_type, "boards"))
    picture = _with_plant(picture, order)
    foot = (round(plan.foot[0] * width), round(plan.foot[1] * height))
    if plan.stand != "ground":
        STANDS[plan.stand](picture, order, plan.accent, foot)
    return Backdrop(picture=picture, foot=foot, horizon=round(plan.horizon * height))


def _planned(order: Order, *, stand: bool) -> _Plan:
    dice, look = order.dice, order.look
    kind = _FEET[int(dice.integers(len(_FEET)))] if stand else "ground"
    tinted = float(dice.choice([0.0, 0.3, 0.62]))
    accent = order.paint.accent()
    return _Plan(
        cove=_SETTINGS[int(dice.integers(len(_SETTINGS)))] == "cove",
        stand=kind,
        horizon=float(dice.uniform(0.56, 0.7) if stand else dice.uniform(0.72, 0.8)),
        foot=(0.5 + float(dice.uniform(-0.05, 0.05)), float(dice.uniform(0.82, 0.88)) - 0.05 * (kind != "ground")),
        wall=_blend(look.wall, accent, tinted),
        floor=_blend(look.floor, order.paint.accent(), float(dice.choice([0.0, 0.0, 0.3]))),
        accent=order.paint.accent(),
    )


def _lit_room(order: Order, plan: _Plan, *, size: tuple[int, int], ground: str) -> Image.Image:
    """Paint wall and ground in light, let daylight and the style's light pattern fall on them, and develop that."""
    width, height = size
    scale = _SMALL_SIDE / max(size)
    small = (max(8, round(width * scale)), max(8, round(height * scale)))
    rows = np.linspace(0, 1, small[1], dtype=np.float32)[:, None]
    soft = 0.13 if plan.cove else 0.004
    below = step(rows, plan.horizon - soft, plan.horizon + soft)
    wall, floor = (linear_from_srgb(np.array(colour) / 255) for colour in (plan.wall, plan.floor))
    if plan.cove:
        floor, ground = wall * np.float32(1.05), "plain"
    laid = _ground(ground, order, size=small, horizon=plan.horizon)
    light = wall * (1 - below[..., None]) + floor * (below * laid)[..., None]
    light = light * np.ones((1, small[0], 1), np.float32)
    if not plan.cove:
        light *= _skirting(rows, plan.horizon)[..., None]
    _illuminate(light, order, below=below)
    room = developed(light.astype(np.float32), order)
    return room.filter(ImageFilter.GaussianBlur(0.7)).resize(size, Image.Resampling.BICUBIC)


def _illuminate(light: Light, order: Order, *, below: Plane) -> None:
    small = (light.shape[1], light.shape[0])
    day = 0.5 + 0.5 * side_light(size=small, side=order.side, dice=order.dice)
    pattern = light_pattern(order.look.light, size=small, side=order.side, dice=order.dice)
    strength = order.look.light_strength * order.dice.uniform(0.55, 0.95)
    level = float((day + 0.5 * strength * pattern).mean()) / 0.95
    tint = linear_from_srgb(np.array(order.look.light_colour) / 255) * np.float32(strength / level)
    spot = pattern * (1 - 0.6 * below)
    for channel in range(3):
        light[..., channel] *= day / level + spot * tint[channel]


def _skirting(rows: Plane, horizon: float) -> Plane:
    """Return the line where wall and ground meet: a board, a little lighter, and the gap below it."""
    board = ((rows > horizon - 0.035) & (rows < horizon)).astype(np.float32)
    gap = np.exp(-(((rows - horizon) / 0.006) ** 2))
    near = np.exp(-np.clip(rows - horizon, 0, None) / 0.07) * (rows >= horizon)
    line: Plane = ((1 + 0.14 * board) * (1 - 0.4 * gap) * (1 - 0.18 * near)).astype(np.float32)
    return line


def _ground(kind: str, order: Order, *, size: tuple[int, int], horizon: float) -> Plane:
    """Return how light the ground is at each place: boards or tiles, laid in perspective."""
    width, height = size
    plain = np.ones((height, width), np.float32)
    if kind == "plain":
        return plain
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(horizon - 0.12)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :] * np.float32(width / height)
    depth = np.float32(0.3) / np.maximum(y, np.float32(0.03))
    across, along = x * depth + np.float32(order.dice.uniform(0, 1)), depth + 0 * x
    pitch = order.dice.uniform(0.09, 0.13) if kind == "boards" else order.dice.uniform(0.2, 0.3)
    column = np.floor(across / pitch)
    shift = (column * 0.37) % 1 if kind == "boards" else 0 * column
    length = 0.9 if kind == "boards" else pitch
    row = np.floor(along / length + shift)
    shade = _chance(column, row)
    seam = _seam(across / pitch, depth / (height * pitch)) * _seam(along / length + shift, depth / (height * length))
    variety = 0.2 if kind == "boards" else 0.05
    laid: Plane = ((1 + variety * (shade - 0.5)) * (0.72 + 0.28 * seam)).astype(np.float32)
    return laid


def _chance(column: Plane, row: Plane) -> Plane:
    """Return a number from 0 to 1 for each board, the same all over it."""
    noise = np.sin(column * 12.9898 + row * 78.233) * 43758.547
    share: Plane = (noise - np.floor(noise)).astype(np.float32)
    return share


def _seam(position: Plane, pixel: Plane) -> Plane:
    """Return 0 on the joints (whole numbers of ``position``) and 1 between them, about two pixels wide."""
    away = np.abs(position - np.round(position))
    open_joint: Plane = step(away / np.maximum(pixel, 1e-6), 0.4, 1.6)
    return open_joint


def _with_plant(picture: Image.Image, order: Order) -> Image.Image:
    """Return the picture, two times in five with a plant in the corner away from the light, out of focus."""
    dice = order.dice
    wanted, share = dice.random() < 0.4, dice.uniform(0.42, 0.55)  # noqa: PLR2004  two scenes in five
    size = int(min(picture.size) * share * order.room.plant_size)
    if not wanted or size < 24:  # noqa: PLR2004  pixels: smaller cannot be made out
        return picture
    grown = plant(order.look.plant, side=-order.side, dice=dice).resize((size, size), Image.Resampling.BILINEAR)
    grown = grown.filter(ImageFilter.GaussianBlur(size / 130))
    left = 0 if order.side > 0 else picture.width - size
    picture.paste(grown.convert("RGB"), (left, picture.height - size), grown.getchannel("A"))
    return picture


def _blend(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return (red, green, blue)
