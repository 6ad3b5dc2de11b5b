"""Empties a room: what is neither wall nor floor is filled with the wall and the floor around it, as they are lit."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.generation.providers.local_staging.drawing import Dice
from services.generation.providers.local_staging.grade import with_grain
from services.generation.providers.local_staging.scene import (
    Plane,
    Scene,
    enlarged,
    read_scene,
    srgb_from_linear,
    step,
)
from shared.images import decode, encode_jpeg

SIDE_MAX = 2048
_FIELD_SIDE = 256  # light on a bare wall changes slowly
_WINDOW = 0.82  # luminance from which a place is a window or a lamp, and stays
_SURE = 0.5
_FLOOR_SHARE = 0.02  # of a photo: less is no floor, and it is taken to begin a third up
_GRAIN = 0.006

_STEPS = 16_383

Field = NDArray[np.float32]
_CODES = np.round(srgb_from_linear(np.arange(_STEPS + 1) / _STEPS) * 255).astype(np.uint8)


def empty_room(photo: bytes, *, seed: int) -> bytes:
    """Return the photo without what stands about in it, as a JPEG of at most 2048 pixels on its longer side.

    The same arguments give the same bytes; another seed gives another version: another light from another side, and a
    floor that begins a little higher or lower. About a second of CPU: call it through `shared.off_hub`.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    return encode_jpeg(emptied(decode(photo, side=SIDE_MAX), seed=seed), quality=90)


def emptied(picture: Image.Image, *, seed: int) -> Image.Image:
    """Return the picture of a room with its wall and its floor only."""
    dice = np.random.default_rng(seed)
    scene = read_scene(picture)
    bare = _bare(scene, shift=float(dice.uniform(-0.02, 0.02)))
    kept = np.clip(scene.wall.mask + scene.floor.mask + step(scene.luminance, _WINDOW, 0.95), 0, 1)[..., None]
    lit = (bare + (scene.linear - bare) * kept) * _light(dice, width=picture.width)
    return with_grain(printed(lit), _GRAIN, dice=dice)


def printed(light: Field) -> Image.Image:
    """Return light (0 to 1) as an RGB picture; by a table, since powers of millions of numbers take a second."""
    return Image.fromarray(_CODES[np.clip(light * np.float32(_STEPS), 0, _STEPS).astype(np.uint16)])


def _light(dice: Dice, *, width: int) -> Field:
    """Return the light of one version: stronger from one side, a little warmer or cooler, by channel."""
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(dice.uniform(-0.16, 0.16))
    warmth = np.float32(dice.uniform(-0.05, 0.05))
    balance = np.array([1 + warmth, 1, 1 - warmth], np.float32) * np.float32(dice.uniform(0.9, 1.08))
    light: Field = ((1 + across)[None, :, None] * balance).astype(np.float32)
    return light


def _bare(scene: Scene, *, shift: float = 0.0) -> Field:
    """Return wall above and floor below, everywhere, as bright as they are beside what hides them.

    ``shift``, a share of the height, moves the line at which the floor begins.
    """
    height, width = scene.luminance.shape
    wall, floor = (_spread(scene.linear, mask) for mask in (scene.wall.mask, scene.floor.mask))
    rows = np.arange(height, dtype=np.float32)[:, None]
    horizon = _horizon(scene) + shift * height
    below = step(rows, horizon - height * 0.01, horizon + height * 0.01)[..., None]
    field = wall * (1 - below) + floor * below
    bare: Field = np.broadcast_to(field, (height, width, 3)).astype(np.float32)
    return bare


def _horizon(scene: Scene) -> int:
    """Return the row at which the floor begins: where least wall lies below it, and least floor above it."""
    wall, floor = scene.wall.mask.sum(1), scene.floor.mask.sum(1)
    if float(floor.sum()) < _FLOOR_SHARE * floor.size * scene.floor.mask.shape[1]:
        return len(wall) * 2 // 3
    return int((wall[::-1].cumsum()[::-1] + floor.cumsum()).argmin())


def _spread(light: Field, mask: Plane) -> Field:
    """Return the light where the mask is, spread to where it is not: means of ever larger squares fill what is left."""
    height, width = mask.shape
    scale = _FIELD_SIDE / max(height, width)
    small = (max(2, round(width * scale)), max(2, round(height * scale)))
    weight = _shrunk(mask * (mask > _SURE), small) + np.float32(1e-5)
    planes = [_filled(_shrunk(light[..., channel] * mask * (mask > _SURE), small), weight) for channel in range(3)]
    return np.dstack([enlarged(plane, (width, height)) for plane in planes])


def _filled(total: Plane, weight: Plane) -> Plane:
    """Pull the sums down to a point, then push the means back up into what has no weight of its own."""
    if min(total.shape) <= 1:
        mean: Plane = (total / np.maximum(weight, np.float32(1e-9))).astype(np.float32)
        return mean
    half = (max(1, total.shape[1] // 2), max(1, total.shape[0] // 2))
    coarse = enlarged(_filled(_shrunk(total, half), _shrunk(weight, half)), (total.shape[1], total.shape[0]))
    share = np.clip(weight, np.float32(0), np.float32(1))
    own = total / np.maximum(weight, np.float32(1e-9))
    filled: Plane = (share * own + (np.float32(1) - share) * coarse).astype(np.float32)
    return filled


def _shrunk(plane: Plane, size: tuple[int, int]) -> Plane:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BOX))
