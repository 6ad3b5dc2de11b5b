"""Line drawings of a product for a technical pack: its edges in ink, with the lines it is measured along."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from services.generation.providers.local_products.cutout import cut_out
from services.generation.providers.local_staging.drawing import Draw
from shared.images import decode, encode_jpeg

SIDE = 1024
# How much of its width a product shows in each view. One photo tells no more: a preview of a drawing, not a drawing.
VIEWS = {"front": 1.0, "back": 1.0, "side": 0.45}
_MARGIN = 0.16
_INK = (38, 40, 46)
_MEASURE = (150, 60, 50)


def sketch(photo: bytes, *, seed: int, view: str = "front", width_label: str = "W", height_label: str = "H") -> bytes:
    """Return a drawing of the product on ``photo`` as a JPEG of 1024 x 1024 pixels, measured in width and height.

    The back is the front mirrored with nothing but its outline, the side the front seen narrow. The same arguments give
    the same bytes; the seed decides the pressure of the pen. About 100 ms of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: there is no such view.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    if view not in VIEWS:
        raise ValueError(f"{view!r} is not a view of the local provider; choose one of {', '.join(VIEWS)}")
    picture = decode(photo, side=SIDE)
    product = cut_out(picture)
    figure = product.picture if product else picture.convert("RGBA")
    lines = _outline(figure) if view == "back" else _lines(figure, seed=seed)
    room = round(SIDE * (1 - 2 * _MARGIN))
    scale = min(room / figure.width, room / figure.height)
    size = (max(8, round(figure.width * scale * VIEWS[view])), max(8, round(figure.height * scale)))
    drawn = lines.resize(size, Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    sheet.paste(_INK, corner, ImageOps.mirror(drawn) if view == "back" else drawn)
    _measure(ImageDraw.Draw(sheet), corner, size, labels=(width_label, height_label))
    return encode_jpeg(sheet, quality=92)


def _lines(figure: Image.Image, *, seed: int) -> Image.Image:
    """Return how much ink there is at each place: what is darker than its surroundings, at two widths of the pen."""
    pressure = float(np.random.default_rng(seed).uniform(5.5, 8))
    shape = figure.getchannel("A")
    paper = Image.new("RGB", figure.size, "white")
    paper.paste(figure.convert("RGB"), mask=shape)
    grey = ImageOps.autocontrast(paper.convert("L"), cutoff=1)
    fine, broad = (_darker_than_around(grey, radius) for radius in (1.2, 3.0))
    ink = ImageChops.lighter(fine, broad).point(lambda value: min(255, max(0, int((value - 6) * pressure))))
    return ImageChops.lighter(ink, _outline(figure))


def _darker_than_around(grey: Image.Image, radius: float) -> Image.Image:
    return ImageChops.subtract(
        grey.filter(ImageFilter.GaussianBlur(radius * 2)), grey.filter(ImageFilter.GaussianBlur(radius / 2))
    )


def _outline(figure: Image.Image) -> Image.Image:
    """Return the line around the product, three pixels wide, open where the picture cut it off."""
    shape = ImageOps.expand(figure.getchannel("A").point(lambda value: 255 if value > 127 else 0), 3, 0)  # noqa: PLR2004  half
    edge = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(5)))
    return edge.crop((3, 3, 3 + figure.width, 3 + figure.height))


def _measure(draw: Draw, corner: tuple[int, int], size: tuple[int, int], *, labels: tuple[str, str]) -> None:
    """Draw the lines below and to the right of the product, with ticks at their ends and their names."""
    left, top = corner
    right, bottom = left + size[0], top + size[1]
    below, beside = bottom + 48, right + 48
    font = ImageFont.load_default(22)
    draw.line((left, below, right, below), fill=_MEASURE, width=2)
    draw.line((beside, top, beside, bottom), fill=_MEASURE, width=2)
    for x in (left, right):
        draw.line((x, below - 10, x, below + 10), fill=_MEASURE, width=2)
    for y in (top, bottom):
        draw.line((beside - 10, y, beside + 10, y), fill=_MEASURE, width=2)
    draw.text(((left + right) / 2, below + 12), labels[0][:40], fill=_MEASURE, font=font, anchor="ma")
    draw.text((beside + 14, (top + bottom) / 2), labels[1][:12], fill=_MEASURE, font=font, anchor="lm")
