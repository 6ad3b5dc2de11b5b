"""Line drawings of a product for a technical pack: its edges in ink, numbered callouts, and what it measures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from services.generation.providers.local_products.figure import find_figure
from services.generation.providers.local_products.measures import ASSUMED_DEPTH, FACES, SIDES
from services.generation.providers.local_staging.drawing import Draw
from shared.images import decode, encode_jpeg

SIDE = 1400
VIEWS = ("front", "back", "side")
_MARGIN = 0.2
_INK = (38, 40, 46)
_MEASURE = (150, 60, 50)
_CALLOUT = (28, 74, 140)
_RADIUS = 19
_APART = 54  # pixels between callouts of a margin
_ENDS = ("x1", "y1", "x2", "y2")
_BLUR = 1.8  # pixels: finer is grain
_FAINT = 14  # of 255: fainter steps are no lines
_SPECK = 12  # pixels: shorter lines are specks


def sketch(
    photo: bytes,
    *,
    seed: int,
    view: str = "front",
    seen_from: str = "front",
    callouts: Sequence[Mapping[str, Any]] = (),
    measurements: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """Return a drawing of the product on ``photo`` as a JPEG of 1400 x 1400 pixels.

    Of a front or back that the photo does not show there is the outline, mirrored; such a side is seen narrow. The same
    arguments give the same bytes; the seed decides the pressure of the pen. Half a second of CPU: call it through
    `shared.off_hub`.

    Args:
        photo: of the product.
        seed: of the pen.
        view: what to draw: ``front``, ``back`` or ``side``.
        seen_from: what the photo shows.
        callouts: ``{number, x, y}``, places in shares of the box around the product.
        measurements: ``{code, value, unit, x1, y1, x2, y2}``, ends likewise; the first two are drawn below and beside.

    Raises:
        ValueError: there is no such view.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    if view not in VIEWS:
        raise ValueError(f"{view!r} is not a view of the local provider; choose one of {', '.join(VIEWS)}")
    figure = find_figure(decode(photo, side=SIDE)).picture
    room = round(SIDE * (1 - 2 * _MARGIN))
    scale = min(room / figure.width, room / figure.height)
    figure = figure.resize((max(8, round(figure.width * scale)), max(8, round(figure.height * scale))))
    unseen = view in FACES and seen_from != view
    lines = ImageOps.mirror(_outline(figure)) if unseen else _lines(figure, seed=seed)
    narrowed = ASSUMED_DEPTH if view == "side" and seen_from not in SIDES else 1.0
    size = (max(8, round(figure.width * narrowed)), figure.height)
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    sheet.paste(_INK, corner, lines.resize(size, Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(sheet)
    _measure(draw, corner, size, measurements)
    _point(draw, corner, size, callouts)
    return encode_jpeg(sheet, quality=92)


def _lines(figure: Image.Image, *, seed: int) -> Image.Image:
    """Return how much ink there is at each place: thin lines along the steps in colour, as Canny (1986) finds them."""
    pressure = float(np.random.default_rng(seed).uniform(0.85, 1.15))
    shape = figure.getchannel("A")
    paper = Image.new("RGB", figure.size, "white")
    paper.paste(figure.convert("RGB"), mask=shape)
    calm = paper.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(_BLUR))
    steps, across, down = _steepest(np.asarray(calm, np.float32))
    inside = shape.point(lambda value: 255 if value > 127 else 0).filter(ImageFilter.MinFilter(9))  # noqa: PLR2004  half
    steps = np.where(np.asarray(inside) > 0, steps, 0)
    ridge = steps * _is_ridge(steps, across, down)
    seen = ridge[ridge > 0]
    sure = max(_FAINT / pressure, float(np.percentile(seen, 82))) if seen.size else np.inf
    lines = _joined(ridge > sure * 0.4, ridge > sure)
    drawn = Image.fromarray(lines.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(3))
    return ImageChops.lighter(drawn.filter(ImageFilter.GaussianBlur(0.8 * pressure)), _outline(figure))


def _steepest(colours: Any) -> tuple[Any, Any, Any]:
    """Return how steep colours are at each place, and the step across and down, in the channel where it is most."""
    across, down = np.zeros_like(colours), np.zeros_like(colours)
    across[:, 1:-1] = colours[:, 2:] - colours[:, :-2]
    down[1:-1] = colours[2:] - colours[:-2]
    steep = np.hypot(across, down)
    channel = steep.argmax(2)[..., None]
    return tuple(np.take_along_axis(each, channel, 2)[..., 0] for each in (steep, across, down))  # type: ignore[return-value]  # three


def _is_ridge(steps: Any, across: Any, down: Any) -> Any:
    """Return where nothing on either side, along the step, is steeper: the middle of a line."""
    padded = np.pad(steps, 1)

    def beside(x: int, y: int) -> Any:
        return padded[1 + y : 1 + y + steps.shape[0], 1 + x : 1 + x + steps.shape[1]]

    turn = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    pairs = [((1, 0), (-1, 0)), ((1, 1), (-1, -1)), ((0, 1), (0, -1)), ((-1, 1), (1, -1))]
    return np.select(
        [turn == number for number in range(4)],
        [(steps >= beside(*one)) & (steps > beside(*other)) for one, other in pairs],
    )


def _joined(weak: Any, sure: Any) -> Any:
    """Return the weak places that are joined to a sure one, and specks no more."""
    found = sure & weak
    while True:
        padded = np.pad(found, 1)
        around = np.zeros_like(found)
        for y in range(3):
            for x in range(3):
                around |= padded[y : y + found.shape[0], x : x + found.shape[1]]
        more = weak & around
        if (more == found).all():
            break
        found = more
    length = np.asarray(Image.fromarray(found.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(_SPECK)), np.float32)
    return found & (length * (2 * _SPECK + 1) ** 2 > 255 * _SPECK)


def _outline(figure: Image.Image) -> Image.Image:
    """Return the line around the product, open where the picture cut it off."""
    alpha = figure.getchannel("A").filter(ImageFilter.GaussianBlur(4))
    shape = ImageOps.expand(alpha.point(lambda value: 255 if value > 127 else 0), 4, 0)  # noqa: PLR2004  half
    edge = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(7)))
    return edge.crop((4, 4, 4 + figure.width, 4 + figure.height)).filter(ImageFilter.GaussianBlur(0.8))


def _measure(
    draw: Draw, corner: tuple[int, int], size: tuple[int, int], measurements: Sequence[Mapping[str, Any]]
) -> None:
    """Draw width below and height beside the product, the others across it, each with its code and length."""
    left, top = corner
    right, bottom = left + size[0], top + size[1]
    lines = [
        (left, bottom + 56, right, bottom + 56),
        (right + 56, top, right + 56, bottom),
        *(_placed(one, corner, size) for one in measurements[2:]),
    ]
    font = ImageFont.load_default(24)
    for number, (line, one) in enumerate(zip(lines, measurements, strict=False)):
        if number > 1:
            _dashes(draw, line)
        else:
            draw.line(line, fill=_MEASURE, width=2)
            draw.line((line[0], line[1], left if number == 0 else right, bottom if number == 0 else top), fill=_MEASURE)
            draw.line((line[2], line[3], right, bottom), fill=_MEASURE)
        for x, y in (line[:2], line[2:]):
            _tick(draw, x, y, upright=line[1] == line[3])
        text = f"{one['code']}  {_number(one['value'])} {_unit(one['unit'])}"
        if number == 1:
            draw.text((line[0] + 14, (line[1] + line[3]) / 2), text, fill=_MEASURE, font=font, anchor="lm")
        elif number == 0:
            draw.text(((line[0] + line[2]) / 2, line[1] + 12), text, fill=_MEASURE, font=font, anchor="ma")
        else:
            _label(draw, ((line[0] + line[2]) / 2, line[1]), text)


def _label(draw: Draw, at: tuple[float, float], text: str) -> None:
    font = ImageFont.load_default(20)
    left, top, right, bottom = draw.textbbox(at, text, font=font, anchor="mm")
    draw.rectangle((left - 5, top - 3, right + 5, bottom + 3), fill="white")
    draw.text(at, text, fill=_MEASURE, font=font, anchor="mm")


def _tick(draw: Draw, x: float, y: float, *, upright: bool) -> None:
    draw.line((x, y - 10, x, y + 10) if upright else (x - 10, y, x + 10, y), fill=_MEASURE, width=2)


def _dashes(draw: Draw, line: tuple[float, ...]) -> None:
    x1, y, x2, _ = line
    for start in np.arange(x1, x2, 16):
        draw.line((start, y, min(start + 9, x2), y), fill=_MEASURE, width=1)


def _point(draw: Draw, corner: tuple[int, int], size: tuple[int, int], callouts: Sequence[Mapping[str, Any]]) -> None:
    """Put the numbers into the margin they are nearer to, in the order of their places, and lead each to its place."""
    font = ImageFont.load_default(24)
    sides: dict[bool, list[Mapping[str, Any]]] = {False: [], True: []}
    for one in sorted(callouts, key=lambda each: each["y"]):
        sides[_goes_right(one, sides)].append(one)
    for on_right, several in sides.items():
        x = SIDE - 60 if on_right else 60
        for y, one in zip(_spaced([corner[1] + one["y"] * size[1] for one in several]), several, strict=True):
            at = (corner[0] + one["x"] * size[0], corner[1] + one["y"] * size[1])
            draw.line((x, y, *at), fill=_CALLOUT, width=2)
            draw.ellipse((at[0] - 5, at[1] - 5, at[0] + 5, at[1] + 5), fill=_CALLOUT)
            draw.ellipse((x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS), fill="white", outline=_CALLOUT, width=2)
            draw.text((x, y), str(one["number"]), fill=_CALLOUT, font=font, anchor="mm")


def _goes_right(one: Mapping[str, Any], sides: Mapping[bool, Sequence[Any]]) -> bool:
    if 0.4 < one["x"] < 0.6:  # noqa: PLR2004  the middle: where there is more room
        return len(sides[True]) < len(sides[False])
    return bool(one["x"] >= 0.5)  # noqa: PLR2004  half


def _spaced(heights: Sequence[float]) -> list[float]:
    """Return heights so far apart that their numbers do not touch, within the sheet."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + _APART) if placed else max(height, 60.0))
    for index in range(len(placed) - 1, -1, -1):
        highest = SIDE - 60 - _APART * (len(placed) - 1 - index)
        placed[index] = min(placed[index], highest)
    return placed


def _placed(one: Mapping[str, Any], corner: tuple[int, int], size: tuple[int, int]) -> tuple[float, ...]:
    ends = [one[name] for name in _ENDS]
    return tuple(corner[number % 2] + share * size[number % 2] for number, share in enumerate(ends))


def _number(value: float) -> str:
    return f"{value:g}"


def _unit(unit: str) -> str:
    return "%" if unit.startswith("%") else unit[:12]
