"""Cutting a photo of a person to an aspect ratio, for models whose pictures have the frame of what they are given."""

from typing import Final

from shared.images import decode, encode_jpeg

# Of what is cut off in height this much goes at the top: heads are there.
_CUT_ABOVE: Final = 0.25


def framed(photo: bytes, *, aspect_ratio: str, side: int) -> bytes:
    """Return the largest part of a photo in an ``aspect_ratio`` such as ``4:5``: a JPEG of at most ``side`` pixels.

    Raises:
        ValueError: it is no aspect ratio.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    across, down = (int(part) for part in aspect_ratio.split(":"))
    picture = decode(photo, side=2 * side)
    width = min(picture.width, round(picture.height * across / down))
    height = min(picture.height, round(picture.width * down / across))
    left, top = (picture.width - width) // 2, round((picture.height - height) * _CUT_ABOVE)
    cut = picture.crop((left, top, left + width, top + height))
    cut.thumbnail((side, side))
    return encode_jpeg(cut)
