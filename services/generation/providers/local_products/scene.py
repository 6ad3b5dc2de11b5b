"""Puts a product into a scene: cut out, set on its backdrop, with the shadow it throws there."""

import re
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from services.generation.providers.local_products.backdrop import Backdrop, backdrop
from services.generation.providers.local_products.cutout import Cutout, cut_out
from services.generation.providers.local_staging.drawing import shaded
from services.generation.providers.local_staging.grade import with_grain, with_vignette
from services.generation.providers.local_staging.order import Order, take_order
from shared.images import decode, encode_jpeg

SIDE = 1024
_RATIO = re.compile(r"([1-9]\d?):([1-9]\d?)")
_RATIO_MAX = 4
_FILL_WIDTH, _FILL_HEIGHT = 0.66, 0.6  # the most of the picture a product takes
_MAT = (242, 239, 233)
_SHADOW_LENGTH, _SHADOW_LEAN = 0.22, 0.9  # of the product's height; sideways for each pixel back
_SHADE = (14, 11, 10)


def product_scene(photo: bytes, *, style: str, room_type: str, aspect_ratio: str, seed: int, side: int = SIDE) -> bytes:
    """Return the product on ``photo`` in a scene of the style, as a JPEG of ``side`` pixels on its longer side.

    A product before a plain background is cut out and set on the scene's ground, its colours as they are; a photo
    without a plain background is hung there, framed. The same arguments give the same bytes; another seed gives
    another light, place and palette. About a fifth of a second of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: the style or the room type is not one we have, or the aspect ratio is none.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    order = take_order(style=style, room_type=room_type, seed=seed)
    size = size_of(aspect_ratio, side=side)
    picture = decode(photo, side=side)
    product = cut_out(picture, alpha=_alpha(photo, size=picture.size))
    place = backdrop(order, size=size, room_type=room_type, stand=product is not None and product.whole)
    scene = _hung(picture, place, order) if product is None else _set_down(product, place, order)
    scene = with_vignette(scene, 0.06 + 0.5 * order.look.vignette)
    return encode_jpeg(with_grain(scene, 0.006 + 0.5 * order.look.grain, dice=order.dice), quality=90)


def size_of(aspect_ratio: str, *, side: int) -> tuple[int, int]:
    """Return width and height for ``4:5`` of ``side`` on the longer; ValueError where it is no such ratio."""
    found = _RATIO.fullmatch(aspect_ratio)
    across, down = (int(found[1]), int(found[2])) if found else (0, 1)
    if not 1 / _RATIO_MAX <= across / down <= _RATIO_MAX:
        raise ValueError(f"{aspect_ratio!r} is not an aspect ratio; give width:height such as 4:5, at most 4:1")
    longer = max(across, down)
    return round(side * across / longer), round(side * down / longer)


def _alpha(photo: bytes, *, size: tuple[int, int]) -> Image.Image | None:
    """Return the mask that the photo came with, upright and of ``size``, or None; the photo has been decoded before."""
    with Image.open(BytesIO(photo)) as image:
        if not image.has_transparency_data:
            return None
        upright = ImageOps.exif_transpose(image.convert("RGBA"))
    return upright.getchannel("A").resize(size, Image.Resampling.LANCZOS)


def _set_down(product: Cutout, place: Backdrop, order: Order) -> Image.Image:
    """Set the product on the ground, or let it rise from the lower edge where the photo cut it off."""
    scene = place.picture
    width, height = scene.size
    if product.whole:
        foot = place.foot
        most = (_FILL_WIDTH * width, min(_FILL_HEIGHT * height, foot[1] - 0.06 * height))
    else:
        foot = (place.foot[0], height)
        most = (0.9 * width, 0.86 * height)
    size = _fitted(product.picture.size, most=most, share=order.dice.uniform(0.86, 1))
    figure = product.picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    shape = figure.getchannel("A")
    if product.whole:
        _throw_shadow(scene, shape, foot=foot, side=order.side)
    scene.paste(_lit(figure, order), (foot[0] - size[0] // 2, foot[1] - size[1]), shape)
    return scene


def _fitted(size: tuple[int, int], *, most: tuple[float, float], share: float) -> tuple[int, int]:
    """Return the size scaled to ``share`` of the most there is room for."""
    scale = share * min(most[0] / size[0], most[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _throw_shadow(scene: Image.Image, shape: Image.Image, *, foot: tuple[int, int], side: int) -> None:
    """Darken the ground: softly where the product keeps the light off, deeply where it touches."""
    quarter = (max(1, scene.width // 4), max(1, scene.height // 4))
    small = shape.resize((max(1, shape.width // 4), max(1, shape.height // 4)), Image.Resampling.BOX)
    wide, tall = small.size
    x, y = foot[0] / 4 - wide / 2, foot[1] / 4
    # From places in the scene to places in the shape: it lies on the ground behind its foot, away from the light.
    lying = (1, -side * _SHADOW_LEAN, side * _SHADOW_LEAN * y - x, 0, 1 / _SHADOW_LENGTH, tall - y / _SHADOW_LENGTH)
    laid = small.transform(quarter, Image.Transform.AFFINE, lying, Image.Resampling.BILINEAR)
    cast = laid.filter(ImageFilter.GaussianBlur(max(1.0, tall / 28))).point(lambda value: value * 0.42)
    sole = small.crop((0, int(tall * 0.86), wide, tall)).resize((wide, max(2, int(tall * 0.05))))
    touch = Image.new("L", quarter, 0)
    touch.paste(sole, (round(x), round(y - sole.height * 0.55)))
    touch = touch.filter(ImageFilter.GaussianBlur(max(0.8, tall / 60))).point(lambda value: value * 0.7)
    scene.paste(_SHADE, mask=ImageChops.lighter(cast, touch).resize(scene.size, Image.Resampling.BILINEAR))


def _lit(figure: Image.Image, order: Order) -> Image.Image:
    """Return the product a trace lighter towards the light; its colours are what is for sale, and stay."""
    trace = 0.05 * order.side
    across = np.linspace(1 - trace, 1 + trace, figure.width, dtype=np.float32)
    colours = np.asarray(figure.convert("RGB"), np.float32) * across[None, :, None]
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def _hung(photo: Image.Image, place: Backdrop, order: Order) -> Image.Image:
    """Hang the photo on the wall, framed."""
    scene = place.picture
    width, height = scene.size
    most = (0.7 * width, place.horizon - 0.18 * height)
    size = _fitted(photo.size, most=most, share=order.dice.uniform(0.9, 1))
    mat, frame = max(2, min(width, height) // 26), max(2, width // 90)
    framed = ImageOps.expand(photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0), mat, _MAT)
    framed = ImageOps.expand(framed, frame, shaded(order.look.accents[0], -0.35))
    left, top = place.foot[0] - framed.width // 2, (place.horizon - framed.height) // 2
    drop = max(2, height // 90)
    shade = Image.new("L", scene.size, 0)
    shade.paste(
        150, (left - order.side * drop, top + drop, left - order.side * drop + framed.width, top + drop + framed.height)
    )
    scene.paste(_SHADE, mask=shade.filter(ImageFilter.BoxBlur(drop)))
    scene.paste(framed, (left, top))
    return scene
