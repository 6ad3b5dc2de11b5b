"""Puts the things of a style into the room: flat work lit as its wall or floor is, a lamp that glows, a plant in front.

A thing that finds no free place is left out.
"""

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from services.generation.providers.local_staging.drawing import Points, perspective
from services.generation.providers.local_staging.lamps import BULB_AT, LAMP_HEIGHT, LAMP_WIDTH, lamp
from services.generation.providers.local_staging.order import Order
from services.generation.providers.local_staging.paintwork import Light
from services.generation.providers.local_staging.pictures import framed_picture, rug
from services.generation.providers.local_staging.plants import plant
from services.generation.providers.local_staging.scene import Plane, Scene, Surface, linear_from_srgb, luminance_of

_SMALLEST = 24  # pixels: nothing smaller can be made out
_FREE_WALL = 0.97  # share of a place that must be wall for a picture to hang there
_FREE_FLOOR = 0.8
_RUG_SIZE = (900, 600)
_PRINT_WHITE = 0.72  # paper reflects less than the brightest wall


def lay_rug(light: Light, scene: Scene, order: Order) -> None:
    """Lay a rug on the floor before the camera, if enough floor is free there."""
    dice = order.dice
    height, width = light.shape[:2]
    middle, far, near = dice.uniform(0.44, 0.56), dice.uniform(0.74, 0.78), dice.uniform(0.9, 0.95)
    narrow, wide = dice.uniform(0.17, 0.2), dice.uniform(0.29, 0.33)
    corners = [(middle - narrow, far), (middle + narrow, far), (middle + wide, near), (middle - wide, near)]
    target: Points = [(x * width, y * height) for x, y in corners]
    across, down = _RUG_SIZE
    coefficients = perspective(target, [(0, 0), (across, 0), (across, down), (0, down)])
    shape = Image.new("L", _RUG_SIZE, 255).transform(
        (width, height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
    floor = np.asarray(shape.resize(scene.floor.small_mask.shape[::-1]), np.float32) / 255
    free = scene.floor.small_mask + scene.laid.small_mask
    if not order.room.rug or float((free * floor).sum() / max(floor.sum(), 1)) < _FREE_FLOOR:
        return
    flat = rug(order.look.rug, width=across, height=down, paint=order.paint)
    laid = flat.transform((width, height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    _shade(light, shape, radius=height / 90, shift=(0, height // 160), strength=0.45)
    alpha = np.asarray(shape.filter(ImageFilter.GaussianBlur(0.8)), np.float32)[..., None] / 255
    lit = _lit(scene, scene.floor, (0, 0, width, height))
    light += alpha * (linear_from_srgb(np.asarray(laid) / 255) * lit[..., None] - light)


def hang_picture(light: Light, scene: Scene, order: Order) -> None:
    """Hang a framed print where the wall before the camera is free."""
    height, width = light.shape[:2]
    tall = int(min(height, width) * order.dice.uniform(0.16, 0.21))
    wide = int(tall * order.dice.choice([0.75, 1.0, 1.3]))
    place = _free_place(scene.wall.small_mask, order, tall=tall / height, wide=wide / width)
    if not order.room.picture or place is None or tall < _SMALLEST:
        return
    left, top = round(place[0] * width), round(place[1] * height)
    box = (left, top, left + wide, top + tall)
    shape = Image.new("L", (width, height), 0)
    shape.paste(255, box)
    shift = (-order.side * tall // 40, tall // 24)
    _shade(light, shape, radius=tall / 22, shift=shift, strength=0.5)
    art = np.asarray(framed_picture(order.look.art, width=wide, height=tall, paint=order.paint))
    lit = _lit(scene, scene.wall, box)
    light[top : top + tall, left : left + wide] = (
        linear_from_srgb(art / 255) * (lit * np.float32(_PRINT_WHITE))[..., None]
    )


def with_lamp(picture: Image.Image, order: Order) -> Image.Image:
    """Return the picture with a pendant lamp and its glow, between middle and plant."""
    dice = order.dice
    size = int(min(picture.size) * dice.uniform(0.19, 0.25))
    if not order.room.lamp or size < _SMALLEST:
        return picture
    x = int(picture.width * (0.5 + order.side * dice.uniform(0.14, 0.26)))
    tall = size * LAMP_HEIGHT // LAMP_WIDTH
    top = -int(size * dice.uniform(0.2, 0.4))
    hung = lamp(order.look.lamp).resize((size, tall), Image.Resampling.LANCZOS)
    hung = hung.filter(ImageFilter.GaussianBlur(picture.width / 1600))
    result = ImageChops.screen(picture, _glow(picture.size, order, at=(x, top + tall * BULB_AT), reach=size * 1.5))
    result.paste(hung, (x - size // 2, top), hung)
    return result


def with_plant(picture: Image.Image, order: Order, *, grade: ImageFilter.Color3DLUT) -> Image.Image:
    """Return the picture with a plant in a lower corner, close to the camera and so a little out of focus."""
    size = int(min(picture.size) * order.dice.uniform(0.48, 0.62) * order.room.plant_size)
    if size < _SMALLEST:
        return picture
    grown = plant(order.look.plant, side=order.side, dice=order.dice).resize((size, size), Image.Resampling.LANCZOS)
    grown = grown.filter(ImageFilter.GaussianBlur(picture.width / 450))
    leaves = grown.convert("RGB")
    leaves = Image.blend(leaves, leaves.filter(grade), 0.45)
    shade = Image.linear_gradient("L").resize((size, size)).point([int(240 - value * 0.4) for value in range(256)])
    leaves = ImageChops.multiply(leaves, Image.merge("RGB", (shade, shade, shade)))
    result = picture.copy()
    left = 0 if order.side < 0 else picture.width - size
    result.paste(leaves, (left, picture.height - size), grown.getchannel("A"))
    return result


def _free_place(wall: Plane, order: Order, *, tall: float, wide: float) -> tuple[float, float] | None:
    """Return left and top (shares of the picture) of a place that is nearly all wall, or None.

    Among the good ones chance decides; eye height near the middle is best, the ceiling is no wall.
    """
    height, width = wall.shape
    rows, columns, margin = int(tall * height), int(wide * width), max(2, height // 60)
    tops = np.arange(int(height * 0.21), int(height * 0.4), 3)
    lefts = np.arange(int(width * 0.16), int(width * 0.86) - columns, 3)
    if not tops.size or not lefts.size:
        return None
    sums = np.pad(wall, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
    y0, y1 = tops[:, None] - margin, np.minimum(tops[:, None] + rows + margin, height)
    x0, x1 = lefts[None, :] - margin, np.minimum(lefts[None, :] + columns + margin, width)
    share = (sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]) / ((y1 - y0) * (x1 - x0))
    off_eye_height = np.abs((tops[:, None] + rows / 2) / height - 0.36)
    off_middle = np.abs((lefts[None, :] + columns / 2) / width - 0.5)
    score = share - 0.3 * off_eye_height - 0.08 * off_middle
    score[share < _FREE_WALL] = -1
    if score.max() < 0:
        return None
    good = np.argwhere(score > score.max() - 0.03)
    row, column = good[int(order.dice.integers(len(good)))]
    return float(lefts[column] / width), float(tops[row] / height)


def _lit(scene: Scene, surface: Surface, box: tuple[int, int, int, int]) -> Plane:
    """Return how light each place of the surface is, beside its mean."""
    left, top, right, bottom = box
    mean = np.maximum(luminance_of(surface.colour), np.float32(1e-3))
    lit: Plane = np.clip(scene.smooth[top:bottom, left:right] / mean, 0.35, 1.5)
    return lit


def _shade(light: Light, shape: Image.Image, *, radius: float, shift: tuple[int, int], strength: float) -> None:
    """Darken the light softly under and beside a shape."""
    box = shape.getbbox()
    if box is None:
        return
    room = int(3 * radius) + max(abs(shift[0]), abs(shift[1]))
    left, top = max(0, box[0] - room), max(0, box[1] - room)
    right, bottom = min(shape.width, box[2] + room), min(shape.height, box[3] + room)
    moved = ImageChops.offset(shape, *shift).crop((left, top, right, bottom)).filter(ImageFilter.GaussianBlur(radius))
    light[top:bottom, left:right] *= 1 - np.float32(strength) * (np.asarray(moved, np.float32) / 255)[..., None]


def _glow(size: tuple[int, int], order: Order, *, at: tuple[float, float], reach: float) -> Image.Image:
    coarse = 8
    x = np.arange(-(-size[0] // coarse))[None, :] * coarse - at[0]
    y = np.arange(-(-size[1] // coarse))[:, None] * coarse - at[1]
    strength = np.exp(-np.hypot(x, y) / reach * 2.2) * 0.5 * (0.35 + 0.8 * order.look.light_strength)
    colours = np.clip(strength[..., None] * np.array(order.look.light_colour), 0, 255).astype(np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR)
