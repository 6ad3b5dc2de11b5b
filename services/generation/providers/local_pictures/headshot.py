"""Headshots out of a photo of a person: framed about the skin there is, the rest calmed, printed in a style."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from services.generation.providers.local_products.scene import size_of
from services.generation.providers.local_staging.grade import with_grain, with_vignette
from services.generation.providers.local_staging.scene import Plane, box_mean, step
from shared.images import decode, encode_jpeg

SIDE = 1024
# Backdrop, how much of it, and what the print does to colour: 1 keeps it.
STYLES: dict[str, tuple[tuple[int, int, int], float, float]] = {
    "corporate": ((92, 104, 120), 0.65, 0.92),
    "creative": ((196, 120, 74), 0.55, 1.2),
    "model": ((226, 224, 220), 0.7, 0.55),
}
_SMALL_SIDE = 200
_SKIN_CB, _SKIN_CR = (77, 133), (135, 180)  # Chai and Ngan 1999, a little wider
_HEAD_SHARE = 0.42  # of the frame's height that a head takes


def headshot(photo: bytes, *, seed: int, style: str = "corporate", aspect_ratio: str = "1:1") -> bytes:
    """Return a headshot as a JPEG of 1024 pixels on its longer side.

    It changes the frame, the background and the print, never the face. The same arguments give the same bytes. About
    200 ms of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: there is no such style, or no such aspect ratio.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    if style not in STYLES:
        raise ValueError(f"{style!r} is not a headshot style of the local provider; choose one of {', '.join(STYLES)}")
    dice = np.random.default_rng(seed)
    width, height = size_of(aspect_ratio, side=SIDE)
    picture = decode(photo, side=2 * SIDE)
    x, y, head = _head(picture)
    tall = min(head / _HEAD_SHARE * dice.uniform(0.95, 1.05), picture.height, picture.width * height / width)
    wide = tall * width / height
    left = float(np.clip(x - wide / 2, 0, picture.width - wide))
    top = float(np.clip(y - tall * 0.42, 0, picture.height - tall))
    framed = picture.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, left + wide, top + tall))
    middle = ((x - left) / wide * width, (y - top) / tall * height)
    backdrop, share, colour = STYLES[style]
    behind = Image.blend(
        framed.filter(ImageFilter.GaussianBlur(SIDE / 40)), Image.new("RGB", framed.size, backdrop), share
    )
    print_ = Image.composite(framed, behind, _person(framed.size, middle, head / tall * height))
    toned = Image.blend(print_.convert("L").convert("RGB"), print_, colour)
    return encode_jpeg(with_grain(with_vignette(toned, 0.18), 0.004, dice=dice), quality=92)


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


def _person(size: tuple[int, int], middle: tuple[float, float], head: float) -> Image.Image:
    """Return how much each place belongs to the person: head and shoulders, softly."""
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    x, y = middle
    draw.ellipse((x - head * 0.62, y - head * 0.9, x + head * 0.62, y + head * 0.9), fill=255)
    draw.ellipse((x - head * 1.5, y + head * 0.55, x + head * 1.5, y + head * 4), fill=255)
    soft = mask.filter(ImageFilter.GaussianBlur(head * 0.18))
    return Image.fromarray(np.round(step(np.asarray(soft, np.float32) / 255, 0.1, 0.9) * 255).astype(np.uint8))
