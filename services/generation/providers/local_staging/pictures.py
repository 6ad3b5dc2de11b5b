"""Flat work in the style's palette: framed prints for a wall, rugs for a floor. Drawn straight on, without light."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from services.generation.providers.local_staging.drawing import Draw, Paint, blade, shaded

Artist = Callable[[Image.Image, Draw, Paint], None]
_MAT = (240, 237, 230)


def framed_picture(kind: str, *, width: int, height: int, paint: Paint) -> Image.Image:
    """Return a framed print of that many pixels.

    Raises:
        KeyError: there is no such kind of picture.
    """
    canvas = Image.new("RGB", (width * 2, height * 2), shaded(paint.accents[0], -0.35))
    short = min(canvas.size)
    frame, mat = max(3, short // 26), max(3, short // 26) + short // 9
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((frame, frame, canvas.width - frame, canvas.height - frame), fill=_MAT)
    art = Image.new("RGB", (canvas.width - 2 * mat, canvas.height - 2 * mat), shaded(paint.accents[-1], 0.35))
    _ART[kind](art, ImageDraw.Draw(art), paint)
    canvas.paste(art, (mat, mat))
    # The frame throws a little shade on the mat.
    draw.line((frame, frame, canvas.width - frame, frame), fill=shaded(_MAT, -0.2), width=max(1, frame // 2))
    draw.line((frame, frame, frame, canvas.height - frame), fill=shaded(_MAT, -0.15), width=max(1, frame // 2))
    return canvas.resize((width, height), Image.Resampling.LANCZOS)


def rug(kind: str, *, width: int, height: int, paint: Paint) -> Image.Image:
    """Return a rug seen from above.

    Raises:
        KeyError: there is no such kind of rug.
    """
    ground = shaded(paint.accents[-1], -0.06)
    canvas = Image.new("RGB", (width, height), ground)
    _RUGS[kind](canvas, ImageDraw.Draw(canvas), paint)
    weave = paint.dice.normal(0, 7, (height, width, 1)) + 5 * (np.arange(height) // 2 % 2)[:, None, None]
    return Image.fromarray(np.clip(np.asarray(canvas) + weave, 0, 255).astype(np.uint8))


def _blocks(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    for _ in range(6):
        x, y = paint.dice.uniform(0, 0.7, 2) * (width, height)
        across, down = paint.dice.uniform(0.15, 0.5, 2) * (width, height)
        draw.rectangle((x, y, x + across, y + down), fill=paint.accent())


def _circle(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    radius = width * paint.dice.uniform(0.2, 0.32)
    x, y = width * 0.5, height * paint.dice.uniform(0.4, 0.6)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint.accents[1])


def _line(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    t = np.linspace(0, 1, 60)
    for number in range(3):
        wave = np.sin(t * paint.dice.uniform(5, 9) + number) * 0.12 * (1 - t * 0.4)
        xs = width * (0.3 + 0.2 * number + wave)
        points = list(zip(xs.tolist(), (height * (0.1 + 0.8 * t)).tolist(), strict=True))
        draw.line(points, fill=paint.accents[3], width=max(2, width // 60))


def _hills(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    t = np.linspace(0, 1, 50)
    for number in range(4):
        ridge = 0.35 + 0.16 * number + 0.07 * np.sin(t * paint.dice.uniform(3, 7) + paint.dice.uniform(0, 6))
        outline = list(zip((t * width).tolist(), (ridge * height).tolist(), strict=True))
        colour = shaded(paint.accents[number % len(paint.accents)], 0.25 - number * 0.1)
        draw.polygon([*outline, (width, height), (0, height)], fill=colour)


def _waves(art: Image.Image, draw: Draw, paint: Paint) -> None:
    sea = [shaded(paint.accents[0], 0.6), *paint.accents[::-1]]
    _hills(art, draw, Paint(accents=sea, dice=paint.dice))


def _sun(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    for number, radius in enumerate(np.linspace(0.62, 0.16, 5) * width):
        x, y = width * 0.5, height * paint.dice.uniform(0.6, 0.64)
        draw.pieslice((x - radius, y - radius, x + radius, y + radius), 180, 360, fill=paint.accents[number % 4])


def _stripes(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    edges = [0.0, *np.sort(paint.dice.uniform(0, 1, 7)).tolist(), 1.0]
    for number, (left, right) in enumerate(pairwise(edges)):
        draw.rectangle((left * width, 0, right * width, height), fill=paint.accents[number % 4])


def _boomerang(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    for number in range(4):
        x, y = paint.dice.uniform(0.05, 0.6) * width, height * (0.08 + 0.22 * number)
        size = width * paint.dice.uniform(0.22, 0.4)
        stem = (x + size / 2, y, width * 0.5, height)
        draw.line(stem, fill=shaded(paint.accents[1], -0.3), width=max(2, width // 90))
        draw.ellipse((x, y, x + size, y + size * 0.55), fill=paint.accents[number])


def _leaf(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    colour = shaded(paint.accents[0], -0.2)
    draw.line((width / 2, height * 0.92, width / 2, height * 0.1), fill=colour, width=max(2, width // 60))
    lean = paint.dice.uniform(0.8, 1.1)
    for along in np.linspace(0.18, 0.8, 8):
        for way in (-1, 1):
            angle = -np.pi / 2 + way * lean
            draw.polygon(blade(width / 2, height * along, angle, width * 0.3, width * 0.05), fill=colour)


def _ink(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    x, y, radius = width * 0.5, height * 0.48, min(width, height) * 0.32
    start = paint.dice.uniform(200, 260)
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.arc(box, start, start + 320, fill=paint.accents[0], width=max(4, width // 11))


def _fan(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    x, y = width / 2, height * 0.95
    draw.rectangle((0, 0, width, height), fill=paint.accents[0])
    rings = int(paint.dice.integers(6, 9))
    for number, radius in enumerate(np.linspace(0.95, 0.12, rings) * width):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.pieslice(box, 180, 360, fill=paint.accents[(1, 0)[number % 2]])
    for angle in np.linspace(np.pi, 2 * np.pi, 13):
        tip = (x + np.cos(angle) * width, y + np.sin(angle) * width)
        draw.line([(x, y), tip], fill=paint.accents[1], width=max(1, width // 120))


def _gilded(art: Image.Image, draw: Draw, paint: Paint) -> None:
    width, height = art.size
    draw.rectangle((0, 0, width, height), fill=paint.accents[0])
    t = np.linspace(-0.1, 1.1, 60)
    for _ in range(4):
        ridge = paint.dice.uniform(0.1, 0.9) + 0.12 * np.sin(t * paint.dice.uniform(3, 9) + paint.dice.uniform(0, 6))
        points = list(zip((t * width).tolist(), (ridge * height).tolist(), strict=True))
        draw.line(points, fill=paint.accents[1], width=max(2, int(width * paint.dice.uniform(0.01, 0.05))))


def _plain(canvas: Image.Image, draw: Draw, paint: Paint) -> None:
    edge = canvas.height // 24
    draw.rectangle((0, 0, canvas.width, edge), fill=shaded(paint.accents[0], 0.3))
    draw.rectangle((0, canvas.height - edge, canvas.width, canvas.height), fill=shaded(paint.accents[0], 0.3))


def _lines(canvas: Image.Image, draw: Draw, paint: Paint) -> None:
    pitch = canvas.height / int(paint.dice.integers(9, 14))
    for number in range(20):
        top = number * pitch
        draw.rectangle((0, top, canvas.width, top + pitch * 0.3), fill=paint.accents[2])


def _border(canvas: Image.Image, draw: Draw, paint: Paint) -> None:
    for number, colour in enumerate((paint.accents[0], paint.accents[1], paint.accents[0], paint.accents[2])):
        inset = number * canvas.height // 16
        draw.rectangle((inset, inset, canvas.width - inset, canvas.height - inset), fill=colour)
    inset = canvas.height // 4
    box = (inset, inset, canvas.width - inset, canvas.height - inset)
    draw.ellipse(box, fill=shaded(paint.accents[1], 0.2), outline=paint.accents[3], width=canvas.height // 60)


def _diamonds(canvas: Image.Image, draw: Draw, paint: Paint) -> None:
    columns = int(paint.dice.integers(4, 7))
    across, down = canvas.width / columns, canvas.height / 3
    for column in range(columns):
        for row in range(3):
            x, y = (column + 0.5) * across, (row + 0.5) * down
            for share, colour in ((0.5, paint.accents[0]), (0.32, paint.accents[1]), (0.14, paint.accents[2])):
                points = [
                    (x - across * share, y),
                    (x, y - down * share),
                    (x + across * share, y),
                    (x, y + down * share),
                ]
                draw.polygon(points, fill=colour)


_ART: dict[str, Artist] = {
    "blocks": _blocks,
    "boomerang": _boomerang,
    "circle": _circle,
    "fan": _fan,
    "gilded": _gilded,
    "hills": _hills,
    "ink": _ink,
    "leaf": _leaf,
    "line": _line,
    "stripes": _stripes,
    "sun": _sun,
    "waves": _waves,
}
_RUGS: dict[str, Artist] = {
    "blocks": _blocks,
    "border": _border,
    "diamonds": _diamonds,
    "lines": _lines,
    "plain": _plain,
}
