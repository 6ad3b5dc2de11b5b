"""Works on the light of the photo, before it is a picture again: calms it, repaints the room, lights it anew.

Light is linear, height x width x 3, and changed in place where the name says so.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.generation.providers.local_staging.light import light_pattern, side_light
from services.generation.providers.local_staging.looks import Colour
from services.generation.providers.local_staging.order import Order
from services.generation.providers.local_staging.scene import (
    Scene,
    Surface,
    enlarged,
    linear_from_srgb,
    luminance_of,
    srgb_from_linear,
)

Light = NDArray[np.float32]
_WALL_LUMINANCE = 0.6  # a light wall in a well exposed photo
_STEPS = 2048  # of the film curve, for each unit of light
_PATTERN_SIDE = 480


def calmed(scene: Scene) -> Light:
    """Return the light with half of the texture gone that is no edge (stains, creases), and well exposed."""
    half = np.float32(0.5)
    luminance = np.maximum(scene.luminance, np.float32(1e-4))
    ratio = np.clip((scene.smooth * half + luminance * half) / luminance, 0.5, 1.8) * exposure_for(scene)
    return np.multiply(scene.linear, ratio[..., None])


def exposure_for(scene: Scene) -> np.float32:
    """Return the factor that lifts a dim photo, or takes back a glaring one, judged by its walls."""
    return np.float32(np.clip(_WALL_LUMINANCE / max(float(luminance_of(scene.wall.colour)), 0.01), 0.7, 2.0))


def repaint(light: Light, scene: Scene, order: Order) -> None:
    """Give walls, floor and what lies on it the colours of the style."""
    look = order.look
    for surface, colour, strength in (
        (scene.wall, look.wall, look.wall_strength),
        (scene.floor, look.floor, look.floor_strength),
        (scene.laid, look.accents[1], look.floor_strength * 0.5),
    ):
        target = _about(colour, order)
        # How a surface is lit stays as it is, since light and paint multiply.
        gain = np.clip(target / np.maximum(surface.colour * exposure_for(scene), 0.01), 0.03, 3.5)
        _multiply(light, surface, 1 + strength * (gain - 1))


def relight(light: Light, scene: Scene, order: Order) -> None:
    """Bring in daylight from the side and the light pattern of the style; the room stays as bright as it was."""
    height, width = light.shape[:2]
    scale = _PATTERN_SIDE / max(width, height)
    small = (max(2, round(width * scale)), max(2, round(height * scale)))
    day = 0.56 + 0.42 * side_light(size=small, side=order.side, dice=order.dice)
    pattern = light_pattern(order.look.light, size=small, side=order.side, dice=order.dice)
    strength = order.look.light_strength * order.dice.uniform(0.9, 1.1)
    level = float((day + 0.5 * strength * pattern).mean()) / 0.95
    fill = enlarged((day / level).astype(np.float32), (width, height))
    # Walls show a pattern, things standing about break it up.
    spot = enlarged(pattern, (width, height)) * (np.float32(0.45) + np.float32(0.55) * scene.wall.mask)
    tint = linear_from_srgb(np.array(order.look.light_colour) / 255) * np.float32(strength * 1.25 / level)
    for channel in range(3):
        light[..., channel] *= fill + spot * tint[channel]


def developed(light: Light, order: Order) -> Image.Image:
    """Return the light as an RGB picture, through a film's curve."""
    gain = np.float32(_STEPS * 2 ** (order.look.exposure * 0.7 + order.room.exposure))
    index = np.clip(light * gain, 0, len(_FILM_CURVE) - 1).astype(np.uint16)
    return Image.fromarray(_FILM_CURVE[index])


def _about(colour: Colour, order: Order) -> Light:
    """Return the colour in light, a little off, as no two pots of paint are alike."""
    return linear_from_srgb(np.clip(np.array(colour) + order.dice.uniform(-9, 9, 3), 2, 255) / 255)


def _multiply(light: Light, surface: Surface, gain: Light) -> None:
    for channel in range(3):
        light[..., channel] *= 1 + surface.mask * np.float32(gain[channel] - 1)


def _film_curve() -> NDArray[np.uint8]:
    """Return sRGB codes for light up to 4: straight below, bending softly to where paper is white."""
    light = np.arange(4 * _STEPS, dtype=np.float32) / _STEPS
    bent = np.where(light < 0.5, light, 0.5 + 0.5 * (1 - np.exp(-(light - 0.5) / 0.6)))  # noqa: PLR2004  where it bends
    return np.round(srgb_from_linear(bent) * 255).astype(np.uint8)


_FILM_CURVE = _film_curve()
