"""Images from outside: told by content, bounded before decoding, made upright and bare."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

import psutil
import pytest
from PIL import Image, ImageCms

from shared.images import (
    CorruptImage,
    ImageInfo,
    ImageTooLarge,
    UnsupportedImage,
    decode,
    inspect,
    low_resolution_warning,
    normalise,
    off_hub,
    preview,
    previews,
    thumbnail,
)
from shared.problems import Problem

FORMATS = ["JPEG", "PNG", "WEBP"]
GPS_TAG, ORIENTATION_TAG, ARTIST_TAG = 0x8825, 0x0112, 0x013B


def a_picture(width: int = 640, height: int = 480) -> Image.Image:
    """Four plain quarters: red, green, blue, white, clockwise from the top left."""
    picture = Image.new("RGB", (width, height), "white")
    picture.paste("red", (0, 0, width // 2, height // 2))
    picture.paste("lime", (width // 2, 0, width, height // 2))
    picture.paste("blue", (width // 2, height // 2, width, height))
    return picture


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    output = io.BytesIO()
    picture.save(output, kind, **options)
    return output.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def colour_at(picture: Image.Image, x: float, y: float) -> str:
    """Name the colour at a place given as parts of width and height."""
    red, green, blue = picture.convert("RGB").getpixel((int(picture.width * x), int(picture.height * y)))
    names = {(True, False, False): "red", (False, True, False): "lime", (False, False, True): "blue"}
    return names.get((red > 200, green > 200, blue > 200), "white" if min(red, green, blue) > 200 else "other")


def a_black_png(side: int) -> bytes:
    """A well-formed PNG of ``side`` x ``side`` black pixels, one bit each, made without holding them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = b"\0" + bytes((side + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_is_told_by_its_content(kind: str) -> None:
    found = inspect(encoded(a_picture(), kind))

    assert found == ImageInfo(content_type=f"image/{kind.lower()}", format=kind.lower(), width=640, height=480)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (encoded(a_picture(), "GIF"), "a GIF"),
        (encoded(a_picture(), "TIFF"), "a TIFF"),
        (encoded(a_picture(), "BMP"), "a BMP"),
        (b"%PDF-1.7\n", "a PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "SVG"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html></html>", "HTML"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"PK\x03\x04" + bytes(30), "a ZIP"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not an image"),
        (b"just text", "not an image"),
        (b"", "empty"),
    ],
)
def test_anything_else_is_refused_and_named(data: bytes, named: str) -> None:
    with pytest.raises(UnsupportedImage, match=named) as refusal:
        inspect(data)

    assert (refusal.value.status, refusal.value.code) == (400, "unsupported_image_type")
    assert "JPEG, PNG or WebP" in refusal.value.detail


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    frames = [a_picture(64, 48).rotate(angle) for angle in (0, 90, 180)]

    with pytest.raises(UnsupportedImage, match="animation"):
        inspect(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_phone_photo_with_a_depth_map_behind_it_is_its_first_picture() -> None:
    photo = encoded(a_picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64), "black")])
    assert opened(photo).format == "MPO"

    clean = normalise(photo)

    assert inspect(photo).content_type == "image/jpeg"
    assert opened(clean.bytes).format == "JPEG"
    assert colour_at(opened(clean.bytes), 0.25, 0.25) == "red"


@pytest.mark.parametrize("act", [inspect, normalise, thumbnail, decode, preview])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(act: Callable[[bytes], object]) -> None:
    bomb = a_black_png(19_000)
    assert len(bomb) < 60_000

    with pytest.raises(ImageTooLarge, match="at most 50 million") as refusal:
        act(bomb)

    assert (refusal.value.status, refusal.value.code) == (422, "image_too_many_pixels")


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exact": True}])
def test_the_pixels_of_a_webp_are_counted_before_it_is_opened(options: dict[str, bool]) -> None:
    mode = "RGBA" if "exact" in options else "RGB"
    picture = encoded(Image.new(mode, (300, 200), (10, 20, 30, 40)[: len(mode)]), "WEBP", **options)

    with pytest.raises(ImageTooLarge, match="300 x 200") as refusal:
        inspect(picture, max_pixels=59_999)

    assert refusal.value.extra == {"limit": 59_999, "excess": 1}
    assert inspect(picture, max_pixels=60_000).width == 300


@pytest.mark.parametrize(
    "header",
    [
        b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xfe\x3f\0" + b"\xfe\x3f\0",
        b"VP8L" + struct.pack("<I", 20) + b"\x2f" + struct.pack("<I", 0x3FFE | 0x3FFE << 14),
        b"VP8 " + struct.pack("<I", 20) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 0x3FFF, 0x3FFF),
    ],
    ids=["extended", "lossless", "lossy"],
)
def test_a_webp_that_claims_the_largest_size_is_refused_by_its_header_alone(header: bytes) -> None:
    claim = b"RIFF" + struct.pack("<I", 4 + len(header) + 16) + b"WEBP" + header + bytes(16)

    with pytest.raises(ImageTooLarge, match="16383 x 16383"):
        inspect(claim)


def test_a_bomb_costs_the_service_no_memory() -> None:
    off_hub(inspect, encoded(a_picture()))
    bomb = a_black_png(19_000)
    family = [psutil.Process(), *psutil.Process().children()]
    before = sum(process.memory_info().rss for process in family)

    for _ in range(5):
        with pytest.raises(ImageTooLarge):
            off_hub(inspect, bomb)

    assert sum(process.memory_info().rss for process in family) - before < 8_000_000


def test_text_chunks_that_unpack_to_gigabytes_are_refused_without_unpacking_them() -> None:
    packed = zlib.compress(bytes(50_000_000), 9)
    chunk = b"zTXt" + b"Comment\0\0" + packed
    bomb = encoded(a_picture(), "PNG")
    bomb = bomb[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bomb[33:]

    with pytest.raises(CorruptImage):
        inspect(bomb)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("act", [inspect, normalise, thumbnail, preview])
def test_an_image_that_is_cut_short_is_refused(kind: str, kept: float, act: Callable[[bytes], object]) -> None:
    whole = encoded(Image.effect_noise((320, 240), 60).convert("RGB"), kind)

    with pytest.raises(CorruptImage, match="cut short") as refusal:
        act(whole[: int(len(whole) * kept)])

    assert (refusal.value.status, refusal.value.code) == (400, "image_corrupt")


@pytest.mark.filterwarnings("ignore")  # the decoder warns of damaged metadata; that is its right
def test_damaged_bytes_are_read_or_refused_and_never_anything_else() -> None:
    dice = random.Random(20)  # noqa: S311  repeatable damage, no secret
    whole = {kind: encoded(Image.effect_noise((48, 32), 60).convert("RGB"), kind, exif=_gps()) for kind in FORMATS}
    outcomes = set()

    for number in range(600):
        damaged = bytearray(whole[FORMATS[number % 3]])
        for _ in range(dice.randint(1, 8)):
            damaged[dice.randrange(12, len(damaged))] = dice.randrange(256)
        try:
            normalise(bytes(damaged))
            outcomes.add("read")
        except Problem as refusal:
            outcomes.add(refusal.code)

    assert {"read", "image_corrupt"} <= outcomes


@pytest.mark.parametrize("kind", FORMATS)
def test_every_orientation_comes_out_as_it_is_seen(kind: str) -> None:
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the turn that undoes what the tag asks for
    for orientation, undo in turns.items():
        upright = a_picture()
        stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        data = encoded(stored, kind, exif=exif)

        clean = normalise(data)

        seen = opened(clean.bytes)
        corners = [colour_at(seen, *at) for at in ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))]
        assert corners == ["red", "lime", "blue", "white"], orientation
        assert (clean.width, clean.height) == seen.size == (640, 480)
        assert (inspect(data).width, inspect(data).height) == (640, 480)
        assert seen.getexif().get(ORIENTATION_TAG) is None


def _gps() -> Image.Exif:
    exif = Image.Exif()
    exif[ARTIST_TAG] = "Jane Photographer"
    exif.get_ifd(GPS_TAG)[1] = "N"
    return exif


@pytest.mark.parametrize("kind", FORMATS)
def test_no_metadata_survives(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"comment": b"my comment"} if kind == "JPEG" else {}
    told = encoded(
        a_picture(), kind, exif=_gps(), icc_profile=profile, xmp=b"<x:xmpmeta>where I live</x:xmpmeta>", **options
    )
    assert b"Jane Photographer" in told

    clean = normalise(told).bytes

    for secret in (b"Jane", b"Exif", b"eXIf", b"EXIF", b"my comment", b"where I live", b"sRGB", b"ICC"):
        assert secret not in clean
    assert set(opened(clean).info) <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "loop",
        "background",
        "timestamp",
        "duration",
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_what_hides_behind_an_image_is_gone(kind: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("run.html", "<script>alert(1)</script>")
    polyglot = encoded(a_picture(), kind) + archive.getvalue() + b"<script>alert(2)</script>"
    assert zipfile.is_zipfile(io.BytesIO(archive.getvalue()))

    clean = normalise(polyglot).bytes

    assert b"PK\x03\x04" not in clean
    assert b"<script>" not in clean


def test_colours_are_converted_to_srgb() -> None:
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = bytes(swapped[128:400])
    red, blue = (128 + tags.index(name) for name in (b"rXYZ", b"bXYZ"))
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"

    clean = normalise(encoded(a_picture(), "PNG", icc_profile=bytes(swapped)))

    assert colour_at(opened(clean.bytes), 0.25, 0.25) == "blue"
    assert colour_at(opened(clean.bytes), 0.75, 0.75) == "red"


def test_a_damaged_colour_profile_does_not_cost_the_picture() -> None:
    clean = normalise(encoded(a_picture(), "PNG", icc_profile=b"no profile at all"))

    assert colour_at(opened(clean.bytes), 0.25, 0.25) == "red"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_colour_mode_comes_out_as_plain_rgb_or_rgba(mode: str) -> None:
    picture = encoded(
        a_picture().convert("RGBA" if mode == "LA" else "RGB").convert(mode), "JPEG" if mode == "CMYK" else "PNG"
    )

    assert opened(normalise(picture).bytes).mode == ("RGBA" if "A" in mode else "RGB")
    assert decode(picture).mode == "RGB"


def test_sixteen_bits_are_scaled_not_cut() -> None:
    grey = Image.new("I;16", (64, 64))
    grey.putdata([40_000] * 64 * 64)

    assert decode(encoded(grey, "PNG")).getpixel((5, 5)) == (156, 156, 156)


def test_a_thumbnail_is_small_and_upright_on_white() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    clear = Image.new("RGBA", (900, 600), (0, 0, 0, 0))

    small = opened(thumbnail(encoded(clear, "PNG", exif=exif), side=300))

    assert (small.format, small.size, colour_at(small, 0.5, 0.5)) == ("JPEG", (200, 300), "white")


def test_a_thumbnail_is_never_larger_than_the_image() -> None:
    assert opened(thumbnail(encoded(a_picture(100, 80)))).size == (100, 80)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_preview_is_what_inspecting_tells_and_a_thumbnail_shows(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    large, small = (encoded(a_picture(*size), kind, exif=exif) for size in ((1500, 1100), (64, 48)))

    for data, seen in zip((large, small), previews([large, small]), strict=True):
        info = inspect(data)
        assert (seen.content_type, seen.width, seen.height) == (info.content_type, info.width, info.height)
        assert seen.upright == (orientation == 1)
        assert seen.thumbnail == thumbnail(data)


def test_a_palette_is_resolved_before_it_is_scaled() -> None:
    stripes = Image.new("RGB", (1200, 400), "black")
    for x in range(0, 1200, 2):
        stripes.paste("white", (x, 0, x + 1, 400))

    small = opened(thumbnail(encoded(stripes.convert("P"), "PNG"), side=100))

    assert abs(small.convert("L").getpixel((50, 15)) - 128) < 20


@pytest.mark.parametrize(("width", "height"), [(511, 4000), (4000, 100)])
def test_a_warning_is_given_below_512_pixels_on_the_shorter_side(width: int, height: int) -> None:
    assert f"{width} x {height}" in str(low_resolution_warning(width=width, height=height))


def test_no_warning_is_given_from_512_pixels_on() -> None:
    assert low_resolution_warning(width=512, height=512) is None
