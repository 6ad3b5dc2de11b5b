"""Headshots out of a photo of a person: framed about the skin there is, the rest calmed, printed in a style."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from services.generation.providers.local_products.scene import size_of
from services.generation.providers.local_staging.grade import with_grain, with_vignette
from services.generation.providers.local_staging.scene import Plane, box_mean, step
from shared.images import decode, encode_jpeg

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Look:
    """A backdrop from its ``top`` to its ``bottom``, how much of it there is, and the print.

    ``colour`` and ``contrast`` are 1 where the print keeps them; ``tint`` is what its light is multiplied by.
    """

    top: Colour
    bottom: Colour
    share: float
    colour: float = 1.0
    contrast: float = 1.0
    tint: Colour = (255, 255, 255)
    vignette: float = 0.18


STYLES: dict[str, _Look] = {
    "corporate": _Look(top=(74, 90, 112), bottom=(138, 150, 164), share=0.9, colour=0.92),
    "creative": _Look(top=(232, 96, 62), bottom=(92, 42, 150), share=0.92, colour=1.25, contrast=1.08),
    "model": _Look(top=(244, 243, 240), bottom=(222, 219, 214), share=0.95, colour=0.5, contrast=1.12, vignette=0.04),
    "casual": _Look(top=(214, 196, 164), bottom=(168, 178, 140), share=0.85, colour=1.05, tint=(255, 246, 228)),
    "outdoor": _Look(top=(150, 198, 236), bottom=(86, 134, 62), share=0.85, colour=1.15, tint=(255, 250, 236)),
    "monochrome": _Look(top=(34, 34, 36), bottom=(84, 84, 86), share=0.95, colour=0.0, contrast=1.2, vignette=0.3),
}
# The longer side in pixels, and how well the file is packed.
QUALITIES = {"low": (512, 80), "medium": (768, 88), "high": (1024, 92)}
_SMALL_SIDE = 200
_SKIN_CB, _SKIN_CR = (77, 133), (135, 180)  # Chai and Ngan 1999, a little wider
_HEAD_SHARE = 0.42  # of the frame's height that a head takes
# Colours this far from the backdrop's own, of 255, are the person's.
_UNLIKE = (26.0, 60.0)


def headshot(
    photo: bytes, *, seed: int, style: str = "corporate", aspect_ratio: str = "1:1", quality: str = "high"
) -> bytes:
    """Return a headshot as a JPEG of 512, 768 or 1024 pixels on its longer side, by ``quality``.

    It changes the frame, the background and the print, never the face. The same arguments give the same bytes. About
    200 ms of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: there is no such style, no such aspect ratio, or no such quality.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    if style not in STYLES:
        raise ValueError(f"{style!r} is not a headshot style of the local provider; choose one of {', '.join(STYLES)}")
    if quality not in QUALITIES:
        raise ValueError(f"{quality!r} is not a quality; choose one of {', '.join(QUALITIES)}")
    look, (side, packed) = STYLES[style], QUALITIES[quality]
    dice = np.random.default_rng(seed)
    width, height = size_of(aspect_ratio, side=side)
    picture = decode(photo, side=2 * side)
    x, y, head = _head(picture)
    tall = min(head / _HEAD_SHARE * dice.uniform(0.95, 1.05), picture.height, picture.width * height / width)
    wide = tall * width / height
    left = float(np.clip(x - wide / 2, 0, picture.width - wide))
    top = float(np.clip(y - tall * 0.42, 0, picture.height - tall))
    framed = picture.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, left + wide, top + tall))
    middle = ((x - left) / wide * width, (y - top) / tall * height)
    behind = Image.blend(framed.filter(ImageFilter.GaussianBlur(side / 25)), _backdrop(framed.size, look), look.share)
    print_ = Image.composite(framed, behind, _person(framed, middle, head / tall * height))
    return encode_jpeg(with_grain(_developed(print_, look), 0.004, dice=dice), quality=packed)


def _backdrop(size: tuple[int, int], look: _Look) -> Image.Image:
    down = np.linspace(0, 1, size[1])[:, None, None]
    rows = np.asarray(look.top) * (1 - down) + np.asarray(look.bottom) * down
    return Image.fromarray(np.broadcast_to(np.round(rows), (size[1], size[0], 3)).astype(np.uint8))


def _developed(print_: Image.Image, look: _Look) -> Image.Image:
    toned = ImageEnhance.Contrast(ImageEnhance.Color(print_).enhance(look.colour)).enhance(look.contrast)
    tinted = np.asarray(toned, np.float32) * (np.asarray(look.tint, np.float32) / 255)
    return with_vignette(Image.fromarray(np.round(tinted).astype(np.uint8)), look.vignette)


def _head(picture: Image.Image) -> tuple[float, float, float]:
    """Return the middle of the largest patch of skin and its height, in pixels; without skin, what is usual."""
    small = picture.copy()
    small.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    codes = np.asarray(small.convert("YCbCr"), np.float32)
    skin = _between(codes[..., 1], *_SKIN_CB) * _between(codes[..., 2], *_SKIN_CR)
    patch = box_mean(skin.astype(np.float32), max(2, min(skin.shape) // 16))
    scale = picture.width / small.width
    if float(patch.max()) < 0.5:  # noqa: PLR2004  half of a patch is no skin: nobody there, or not to be told
        return picture.width / 2, picture.height * 0.4, min(picture.size) * _HEAD_SHARE
    weight = patch**4 * np.linspace(1, 0, len(patch))[:, None] ** 4  # heads are above hands, and above orange coats
    rows, columns = np.mgrid[0 : skin.shape[0], 0 : skin.shape[1]]
    total = float(weight.sum())
    y, x = float((rows * weight).sum() / total), float((columns * weight).sum() / total)
    spread = float(np.sqrt((((rows - y) ** 2) * weight).sum() / total))
    return (
        (x + 0.5) * scale,
        (y + 0.5) * scale,
        float(np.clip(spread * 3.4 * scale, min(picture.size) * 0.15, min(picture.size) * 0.5)),
    )


def _between(values: Plane, low: float, high: float) -> Plane:
    inside: Plane = ((values >= low) & (values <= high)).astype(np.float32)
    return inside


def _person(framed: Image.Image, middle: tuple[float, float], head: float) -> Image.Image:
    """Return how much each place belongs to the person: head and shoulders, softly.

    What lies between the face and the edge of where a head can be is the person's unless it looks like what is beyond.
    """
    x, y = middle
    room = _shapes(framed.size, x, y, head, face=(0.62, 0.9), shoulders=1.5)
    core = _shapes(framed.size, x, y, head, face=(0.34, 0.46), shoulders=0.4)
    around = _shapes(framed.size, x, y, head, face=(1.0, 1.25), shoulders=1.5) - room
    mask = np.maximum(core, room * _not_reached(step(_unlike(framed, around), *_UNLIKE)))
    calm = Image.fromarray(np.round(mask * 255).astype(np.uint8)).filter(ImageFilter.MedianFilter(7))
    soft = np.asarray(calm.filter(ImageFilter.GaussianBlur(head * 0.02)), np.float32) / 255
    return Image.fromarray(np.round(step(soft, 0.15, 0.85) * 255).astype(np.uint8))


def _shapes(
    size: tuple[int, int], x: float, y: float, head: float, *, face: tuple[float, float], shoulders: float
) -> Plane:
    """Return an ellipse for the head and one for the shoulders, with soft edges; sizes in heads."""
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    across, down = face[0] * head, face[1] * head
    draw.ellipse((x - across, y - down, x + across, y + down), fill=255)
    draw.ellipse((x - head * shoulders, y + head * 0.55, x + head * shoulders, y + head * 4), fill=255)
    soft = mask.filter(ImageFilter.GaussianBlur(head * 0.12))
    return step(np.asarray(soft, np.float32) / 255, 0.1, 0.9)


def _not_reached(unlike: Plane) -> Plane:
    """Return ``unlike`` with what looks like the backdrop filled in where no way leads to it from the upper edges."""
    height, width = unlike.shape
    small = Image.fromarray(np.where(unlike > 0.5, 255, 0).astype(np.uint8))  # noqa: PLR2004  more so than not
    small = small.resize((max(1, width // 4), max(1, height // 4)), Image.Resampling.BOX).point(
        lambda level: 255 if level > 127 else 0  # noqa: PLR2004  the middle of 255
    )
    right, middle = small.width - 1, small.height // 2
    ways = [(0, y) for y in range(0, middle, 4)] + [(right, y) for y in range(0, middle, 4)]
    for place in ways + [(x, 0) for x in range(0, right, 4)]:
        if small.getpixel(place) == 0:
            ImageDraw.floodfill(small, place, 128)
    reached = np.asarray(small.resize((width, height), Image.Resampling.NEAREST)) == 128  # noqa: PLR2004  what was poured
    filled: Plane = np.where(reached, unlike, 1).astype(np.float32)
    return filled


def _unlike(framed: Image.Image, around: Plane) -> Plane:
    """Return how far each colour is, in steps of 255, from the nearest of those that are ``around`` the head."""
    codes = np.asarray(framed.filter(ImageFilter.GaussianBlur(2)).convert("YCbCr"), np.float32)
    beyond = around > 0.5  # noqa: PLR2004  more so than not
    usual = np.quantile(codes[beyond] if beyond.any() else codes[0], (0.3, 0.5, 0.7), axis=0)
    # Light and shade fall on a backdrop, so lightness counts less than colour does.
    weights = np.array((0.6, 1.6, 1.6), np.float32)
    far = [np.sqrt((((codes - colour) * weights) ** 2).sum(2)) for colour in usual]
    nearest: Plane = np.minimum.reduce(far).astype(np.float32)
    skin = _between(codes[..., 1], *_SKIN_CB) * _between(codes[..., 2], _SKIN_CR[0] + 4, _SKIN_CR[1])
    return np.where(skin > 0, _UNLIKE[1], nearest).astype(np.float32)
