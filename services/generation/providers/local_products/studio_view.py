"""Photographs a product anew: lifted off its photo, in the middle of a plain ground that is lit softly from above."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from services.generation.providers.local_products.figure import find_figure

SIDE = 1600
_SHARE = 0.72  # of the picture that the product takes
_GROUNDS = ((244, 243, 241), (240, 242, 245), (246, 243, 238))


def product_view(picture: Image.Image, seed: int) -> Image.Image:
    """Return the product of an RGB photo alone, 1600 x 1600 pixels; the seed decides ground, light and distance."""
    dice = np.random.default_rng(seed)
    figure = find_figure(picture).picture
    share = _SHARE * float(dice.uniform(0.94, 1.04))
    scale = share * SIDE / max(figure.size)
    size = (max(8, round(figure.width * scale)), max(8, round(figure.height * scale)))
    figure = figure.resize(size, Image.Resampling.LANCZOS)
    sheet = _ground(_GROUNDS[int(dice.integers(len(_GROUNDS)))], light=float(dice.uniform(-0.25, 0.25)))
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    sheet.paste((62, 58, 56), (0, 0), _shadow(figure, corner))
    edge = figure.getchannel("A").filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(1.2))
    lit = ImageEnhance.Brightness(figure.convert("RGB")).enhance(float(dice.uniform(1.02, 1.08)))
    sheet.paste(lit.filter(ImageFilter.UnsharpMask(radius=2, percent=50, threshold=2)), corner, edge)
    return sheet


def _ground(colour: tuple[int, int, int], *, light: float) -> Image.Image:
    """Return a backdrop that falls off from where the light is, to one side by ``light`` (-1 to 1)."""
    y, x = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
    away = np.hypot(x - light, (y + 0.3) * 0.9)
    shade = 1 - 0.11 * np.clip(away - 0.35, 0, None) ** 1.5
    return Image.fromarray((np.array(colour, np.float32) * shade[..., None]).clip(0, 255).astype(np.uint8))


def _shadow(figure: Image.Image, corner: tuple[int, int]) -> Image.Image:
    """Return how dark the ground is: its shadow where it stands, tight below and soft around."""
    shape = figure.getchannel("A")
    foot = Image.new("L", (SIDE, SIDE), 0)
    low = shape.crop((0, round(shape.height * 0.45), shape.width, shape.height))
    foot.paste(low, (corner[0], corner[1] + round(shape.height * 0.45) + SIDE // 90))
    soft = foot.filter(ImageFilter.GaussianBlur(SIDE / 40)).point(lambda value: value * 0.42)
    tight = foot.filter(ImageFilter.GaussianBlur(SIDE / 220)).point(lambda value: value * 0.3)
    return Image.fromarray(np.maximum(np.asarray(soft), np.asarray(tight)))
