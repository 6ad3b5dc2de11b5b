"""What an image is and how it is made safe: told by content, bounded before decoding, upright, bare of metadata.

All but ``low_resolution_warning`` is CPU work on bytes from outside: call it through ``off_hub``.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageCms

from shared.off_hub import off_hub
from shared.problems import Problem

__all__ = [
    "CorruptImage",
    "ImageInfo",
    "ImageTooLarge",
    "NormalisedImage",
    "Preview",
    "UnsupportedImage",
    "decode",
    "encode_jpeg",
    "inspect",
    "low_resolution_warning",
    "normalise",
    "off_hub",
    "preview",
    "previews",
    "thumbnail",
]

MAX_PIXELS = 50_000_000
# A picture one pixel wide takes many times as long as a square one: each row is unpacked and packed by itself.
MAX_SIDE_PIXELS = 20_000
LOW_RESOLUTION_SIDE = 512
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}
_CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_ENCODER_OPTIONS = {
    "JPEG": {"quality": 92, "optimize": False, "subsampling": 0},
    "PNG": {"compress_level": 4},
    "WEBP": {"quality": 92, "method": 2},
}
_SRGB = ImageCms.createProfile("sRGB")
# What people do send instead, so that the answer can name it.
_OTHER_KINDS = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"BM", "a BMP"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<", "a text document (SVG, HTML or XML)"),
)


class UnsupportedImage(Problem):
    """The bytes are no JPEG, PNG or WebP, whatever their name says, or they move."""

    status = 400
    code = "unsupported_image_type"
    title = "This kind of file is not accepted"
    remedy = "Send a JPEG, PNG or WebP image that does not move."


class ImageTooLarge(Problem):
    """The image has more pixels than are decoded here, in all or on one side; ``limit`` and ``excess`` count them."""

    status = 422
    code = "image_too_many_pixels"
    title = "The image has too many pixels"
    remedy = "Scale the image down to at most `limit` pixels: in all, or on its longer side where `detail` says so."


class CorruptImage(Problem):
    """The bytes begin like an image but cannot be decoded to the end."""

    status = 400
    code = "image_corrupt"
    title = "The image is damaged"
    remedy = "Save the image anew from its source, then send it again, whole."


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """An image that decodes to its end; width and height are as it is seen, after its orientation."""

    content_type: str
    format: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class NormalisedImage:
    """An image encoded by us: upright, sRGB, 8 bits a channel, nothing in it but pixels."""

    bytes: bytes
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What an image is, as `ImageInfo` has it, whether its pixels lie as it is seen, and its thumbnail as a JPEG."""

    content_type: str
    width: int
    height: int
    upright: bool
    thumbnail: bytes


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Tell what the image is, having decoded it once to its end.

    Raises:
        UnsupportedImage: no JPEG, PNG or WebP, or an animation.
        ImageTooLarge: more than ``max_pixels``, or a side above 20,000, by its header; nothing was decoded.
        CorruptImage: it cannot be decoded to the end.
    """
    with _opened(data, max_pixels=max_pixels) as image:
        width, height = image.size
        if _orientation(image) in _SIDEWAYS:
            width, height = height, width
        image.draft("RGB", (1, 1))  # JPEG: reads every byte but decodes an eighth of the pixels
        image.load()
        kind = _kind(image)
    return ImageInfo(content_type=_CONTENT_TYPES[kind], format=kind.lower(), width=width, height=height)


def normalise(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NormalisedImage:
    """Return the image encoded anew in its own format, so that whatever else the file held is gone.

    That is EXIF with its GPS position, XMP, comments, and bytes that make the file something else as well. The
    orientation is applied and the colours are converted to sRGB.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: as ``inspect``.
    """
    with _opened(data, max_pixels=max_pixels) as image:
        kind = _kind(image)
        upright = _upright(image)
    output = BytesIO()
    upright.save(output, kind, **_ENCODER_OPTIONS[kind])
    return NormalisedImage(
        bytes=output.getvalue(), content_type=_CONTENT_TYPES[kind], width=upright.width, height=upright.height
    )


def thumbnail(data: bytes, *, side: int = 512, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a JPEG of the image, upright, on white, its longer side at most ``side`` pixels.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: as ``inspect``.
    """
    return encode_jpeg(decode(data, side=side, max_pixels=max_pixels), quality=85)


def preview(data: bytes, *, side: int = 512, max_pixels: int = MAX_PIXELS) -> Preview:
    """Return what `inspect` tells and what `thumbnail` makes, having decoded the image once to its end.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: as ``inspect``.
    """
    with _opened(data, max_pixels=max_pixels) as image:
        width, height = image.size
        orientation = _orientation(image)
        if orientation in _SIDEWAYS:
            width, height = height, width
        kind = _kind(image)
        image.draft("RGB", (2 * side, 2 * side))
        small = _on_white(_upright(image, side=side))
    return Preview(
        content_type=_CONTENT_TYPES[kind],
        width=width,
        height=height,
        upright=orientation not in _TURNS,
        thumbnail=encode_jpeg(small, quality=85),
    )


def previews(pictures: list[bytes]) -> list[Preview]:
    """Return the `preview` of each of several images: one request for many small ones.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: one of them is not as it should be; look at each alone.
    """
    return [preview(data) for data in pictures]


def decode(data: bytes, *, side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image as RGB pixels: upright, sRGB, on white, its longer side at most ``side`` pixels.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: as ``inspect``.
    """
    with _opened(data, max_pixels=max_pixels) as image:
        if side:
            image.draft("RGB", (2 * side, 2 * side))
        return _on_white(_upright(image, side=side))


def encode_jpeg(image: Image.Image, *, quality: int = 92) -> bytes:
    """Return the RGB image as JPEG bytes, without metadata."""
    output = BytesIO()
    image.save(output, "JPEG", quality=quality)
    return output.getvalue()


def low_resolution_warning(*, width: int, height: int) -> str | None:
    """Return what to tell about an image whose shorter side is below 512 pixels; it is accepted even so."""
    if min(width, height) >= LOW_RESOLUTION_SIDE:
        return None
    return (
        f"The image is only {width} x {height} pixels; results are better from {LOW_RESOLUTION_SIDE} pixels "
        "on its shorter side"
    )


@contextmanager
def _opened(data: bytes, *, max_pixels: int) -> Iterator[Image.Image]:
    """Give the image with its header read and checked, its pixels not yet decoded."""
    _require_known_kind(data)
    try:
        if _is_webp(data):
            _require_fewer_pixels(*_webp_canvas(data), max_pixels=max_pixels)
        elif data[12:16] == b"IHDR":  # so that the refusal can name the size: opening it would only say "too many"
            _require_fewer_pixels(*struct.unpack(">II", data[16:24]), max_pixels=max_pixels)
        with Image.open(BytesIO(data), formats=list(_CONTENT_TYPES)) as image:
            _require_fewer_pixels(*image.size, max_pixels=max_pixels)
            _require_still(image)
            yield image
    except (Problem, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            _too_many(f"more than {max_pixels / 1e6:g} million", max_pixels), limit=max_pixels
        ) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise CorruptImage(
            "The image is damaged or cut short and cannot be read to its end; export or upload it again"
        ) from error


def _require_known_kind(data: bytes) -> None:
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or _is_webp(data):
        return
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    kind = next((name for magic, name in _OTHER_KINDS if start.startswith(magic)), "not an image we know")
    if not data:
        kind = "empty"
    elif data[4:8] == b"ftyp":
        kind = "a HEIC or AVIF image, or a video"
    raise UnsupportedImage(f"The file is {kind} by its content; send a JPEG, PNG or WebP image")


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Return width and height from the header, since merely opening a WebP already reserves two whole frames.

    https://developers.google.com/speed/webp/docs/riff_container and RFC 9649.
    """
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    bits = int.from_bytes(data[26:30], "little")
    return bits & 0x3FFF, bits >> 16 & 0x3FFF


def _require_still(image: Image.Image) -> None:
    """Refuse an animation instead of taking a frame: which one is meant is not ours to guess.

    An MPO is no animation: it is a JPEG as phones make it, with a depth or brightness map behind the picture.
    """
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise UnsupportedImage("The image is an animation; send the one frame that is meant")


def _require_fewer_pixels(width: int, height: int, *, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            _too_many(f"{width} x {height}", max_pixels), limit=max_pixels, excess=width * height - max_pixels
        )
    longer = max(width, height)
    if longer > MAX_SIDE_PIXELS:
        raise ImageTooLarge(
            f"The image has {width} x {height} pixels; at most {MAX_SIDE_PIXELS} are accepted on its longer side: "
            "scale it down",
            limit=MAX_SIDE_PIXELS,
            excess=longer - MAX_SIDE_PIXELS,
        )


def _too_many(found: str, max_pixels: int) -> str:
    return f"The image has {found} pixels; at most {max_pixels / 1e6:g} million are accepted: scale it down"


def _kind(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # a damaged EXIF block is no reason to refuse the picture beside it
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    return 1


def _upright(image: Image.Image, *, side: int | None = None) -> Image.Image:
    """Return the pixels as seen, in sRGB, as RGB or (where something shows through) RGBA, without metadata."""
    turn = _TURNS.get(_orientation(image))
    image.load()
    pixels = _eight_bit(image)
    if side:
        pixels.thumbnail((side, side), Image.Resampling.LANCZOS)
    pixels = _to_srgb(pixels, image.info.get("icc_profile"))
    if turn is not None:
        pixels = pixels.transpose(turn)
    pixels.info = {}
    return pixels


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    if image.mode in {"LA", "PA"} or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in {"RGB", "RGBA", "CMYK"} else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile: take it as sRGB
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode=mode)
            if converted is not None:
                return converted
    return image.convert(mode)
