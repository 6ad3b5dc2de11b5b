"""Strokes that the drawn things share: colours made lighter, leaves, spines, and flat work laid in perspective."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from services.generation.providers.local_staging.looks import Colour

Dice = np.random.Generator
Draw = ImageDraw.ImageDraw
Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Paint:
    """What a drawing is done with: the palette of the style, and chance."""

    accents: Sequence[Colour]
    dice: Dice

    def accent(self) -> Colour:
        """Return one of the palette's colours."""
        return self.accents[int(self.dice.integers(len(self.accents)))]


def shaded(colour: Colour, amount: float) -> Colour:
    """Return the colour darkened (down to -1) or lightened (up to 1)."""
    target = 255 if amount > 0 else 0
    red, green, blue = (round(part + (target - part) * min(1, abs(amount))) for part in colour)
    return (red, green, blue)


def spine(x: float, y: float, angle: float, length: float, *, bend: float) -> Points:
    """Return 40 points of a stem from its foot along ``angle`` (radians, up is negative), bending as it goes."""
    angles = angle + bend * np.linspace(0, 1, 40)
    xs = x + np.cumsum(np.cos(angles)) * length / 40
    ys = y + np.cumsum(np.sin(angles)) * length / 40
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def blade(x: float, y: float, angle: float, length: float, width: float, *, bend: float = 0) -> Points:
    """Return the outline of a leaf from its foot along ``angle``: first one side to the tip, then the other back."""
    t = np.linspace(0, 1, 14)
    angles = angle + bend * t
    xs = x + np.cumsum(np.cos(angles)) * length / 14
    ys = y + np.cumsum(np.sin(angles)) * length / 14
    half = width * np.sin(np.pi * t**0.75)
    across, down = -np.sin(angles) * half, np.cos(angles) * half
    there = zip((xs + across).tolist(), (ys + down).tolist(), strict=True)
    back = zip((xs - across)[::-1].tolist(), (ys - down)[::-1].tolist(), strict=True)
    return [*there, *back]


def draw_leaf(draw: Draw, outline: Points, colour: Colour) -> None:
    """Paint a leaf made by ``blade``, lighter on one side of its midrib."""
    half = len(outline) // 2
    middle = [
        ((ax + bx) / 2, (ay + by) / 2) for (ax, ay), (bx, by) in zip(outline[:half], outline[::-1][:half], strict=True)
    ]
    draw.polygon(outline, fill=(*colour, 255))
    draw.polygon([*outline[:half], *middle[::-1]], fill=(*shaded(colour, 0.16), 255))


def perspective(source: Points, target: Points) -> list[float]:
    """Return the eight numbers that carry four ``source`` points to four ``target`` points, as Pillow takes them."""
    rows: list[list[float]] = []
    values: list[float] = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(number) for number in np.linalg.solve(np.array(rows), np.array(values))]
