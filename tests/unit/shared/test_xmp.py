"""An XMP packet in a file: found by independent readers, alone, and no pixel changed."""

import struct
import warnings
import zlib
from functools import cache
from io import BytesIO

import hypothesis
import hypothesis.strategies as st
import pytest
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

from shared import xmp

PACKET = '<x:xmpmeta xmlns:x="adobe:ns:meta/">é</x:xmpmeta>'.encode()
OTHER = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">other</x:xmpmeta>'
EXIF = Image.Exif()
EXIF[0x0131] = "a camera"
KINDS = {
    "jpeg": {"format": "JPEG"},
    "progressive jpeg": {"format": "JPEG", "progressive": True},
    "jpeg with exif and colours": {
        "format": "JPEG",
        "exif": EXIF,
        "icc_profile": b"p" * 70_000,
    },
    "jpeg with another packet": {"format": "JPEG", "xmp": OTHER},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP"},
    "lossless webp": {"format": "WEBP", "lossless": True},
    "webp with exif": {"format": "WEBP", "exif": EXIF},
    "webp with another packet": {"format": "WEBP", "xmp": OTHER},
}
MODES = {"jpeg": ("RGB", "L", "CMYK"), "png": ("RGB", "RGBA", "L", "P"), "webp": ("RGB", "RGBA")}


@cache  # noise is another each time
def file_of(kind: str, *, mode: str = "RGB", size: tuple[int, int] = (37, 23)) -> bytes:
    bands = [Image.effect_noise(size, 64) for _ in range(3)]
    picture, output = Image.merge("RGB", bands).convert(mode), BytesIO()
    if mode == "RGBA":
        picture.putalpha(picture.getchannel("R"))
    picture.save(output, **KINDS[kind])
    return output.getvalue()


def packet_of(data: bytes) -> bytes:
    """Return what Pillow finds, which reads the formats in its own way."""
    with Image.open(BytesIO(data)) as image:
        image.load()
        found = image.info.get("xmp")
    assert isinstance(found, bytes)
    return found


def assert_same_picture(one: bytes, other: bytes) -> None:
    with Image.open(BytesIO(one)) as first, Image.open(BytesIO(other)) as second:
        assert (first.mode, first.size) == (second.mode, second.size)
        assert first.info.get("icc_profile") == second.info.get("icc_profile")
        assert ImageChops.difference(first.convert("RGBA"), second.convert("RGBA")).getextrema() == ((0, 0),) * 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_packet_is_found_and_no_pixel_is_changed(kind: str) -> None:
    file = file_of(kind)

    marked = xmp.embed(file, PACKET)

    assert packet_of(marked) == PACKET
    assert OTHER not in marked
    assert_same_picture(file, marked)


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_every_kind_of_pixels_stays_as_it_was(kind: str, mode: str) -> None:
    file = file_of(kind, mode=mode)

    marked = xmp.embed(file, PACKET)

    assert packet_of(marked) == PACKET
    assert_same_picture(file, marked)


@pytest.mark.parametrize("kind", KINDS)
def test_marking_a_marked_file_leaves_only_the_last_packet(kind: str) -> None:
    marked = xmp.embed(file_of(kind), OTHER)

    again = xmp.embed(marked, PACKET)

    assert again == xmp.embed(file_of(kind), PACKET)


@hypothesis.given(width=st.integers(1, 300), height=st.integers(1, 300), lossless=st.booleans(), clear=st.booleans())
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_header_a_simple_webp_is_given_tells_its_size(
    *, width: int, height: int, lossless: bool, clear: bool
) -> None:
    output = BytesIO()
    Image.new("RGBA" if clear else "RGB", (width, height), (9, 9, 9, 9) if clear else (9, 9, 9)).save(
        output, "WEBP", lossless=lossless
    )

    marked = xmp.embed(output.getvalue(), PACKET)

    assert packet_of(marked) == PACKET
    assert_same_picture(output.getvalue(), marked)


PROMPT = "a chair, secret ingredient"
SAID = Image.Exif()
SAID[0x010E] = PROMPT
WRITTEN = PngInfo()
WRITTEN.add_text("parameters", PROMPT)
WRITTEN.add_text("workflow", PROMPT, zip=True)
WRITTEN.add_itxt("Comment", PROMPT)
WRITTEN.add_text("Raw profile type xmp", OTHER.hex())
SAYS_MORE = {
    "JPEG": {"exif": SAID, "comment": PROMPT, "xmp": OTHER},
    "PNG": {"exif": SAID, "pnginfo": WRITTEN},
    "WEBP": {"exif": SAID, "xmp": OTHER},
}
SHOWN_BY = {"JPEG": {"dpi": (300, 300)}, "PNG": {"dpi": (300, 300)}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("kind", SAYS_MORE)
def test_whatever_else_a_file_says_is_gone_and_what_the_picture_is_shown_by_stays(kind: str) -> None:
    picture, plain, talkative = Image.linear_gradient("L").convert("RGB"), BytesIO(), BytesIO()
    options = {"icc_profile": b"p" * 200, **SHOWN_BY[kind]}
    picture.save(plain, kind, **options)
    picture.save(talkative, kind, **options, **SAYS_MORE[kind])
    file = talkative.getvalue()
    if kind == "JPEG":  # IPTC's own block, as Photoshop keeps it
        body = b"Photoshop 3.0\0" + PROMPT.encode()
        file = file[:2] + struct.pack(">BBH", 0xFF, 0xED, len(body) + 2) + body + file[2:]

    marked = xmp.embed(file, PACKET)

    assert marked == xmp.embed(plain.getvalue(), PACKET)
    with Image.open(BytesIO(marked)) as shown, Image.open(BytesIO(file)) as before:
        assert shown.info["icc_profile"] == options["icc_profile"]
        assert shown.info.get("dpi") == before.info.get("dpi")


def test_what_stands_behind_a_png_or_a_webp_is_gone() -> None:
    for kind in ("png", "webp"):
        assert xmp.embed(file_of(kind) + b"PK\x03\x04", PACKET) == xmp.embed(file_of(kind), PACKET)


def a_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_file_of_ever_so_many_parts_is_refused_before_they_fill_the_memory() -> None:
    jpeg, png, webp = file_of("jpeg"), file_of("png"), file_of("webp with exif")
    many = xmp.PARTS_MAX + 1
    jpeg = jpeg[:2] + b"\xff\xfe\0\2" * many + jpeg[2:]
    png = png[:33] + a_chunk(b"teXt") * many + png[33:]
    webp += (b"JUNK" + bytes(4)) * many
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]

    for file in (jpeg, png, webp):
        with pytest.raises(xmp.UnmarkableImage, match="more than 20000 parts"):
            xmp.embed(file, PACKET)


def test_any_number_of_fill_bytes_may_stand_before_a_segment() -> None:
    file = file_of("jpeg")

    marked = xmp.embed(file[:2] + b"\xff" * 2_000_000 + file[2:], PACKET)

    assert packet_of(marked) == PACKET


def test_content_credentials_that_vouch_for_other_bytes_are_taken_out() -> None:
    jpeg, png, webp = file_of("jpeg"), file_of("png"), file_of("webp with exif")
    manifest = b"jumb c2pa manifest"
    chunk = b"caBX" + manifest
    jpeg = jpeg[:2] + struct.pack(">BBH", 0xFF, 0xEB, len(manifest) + 2) + manifest + jpeg[2:]
    png = png[:33] + struct.pack(">I", len(manifest)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    webp += b"C2PA" + struct.pack("<I", len(manifest)) + manifest
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]

    marked = [xmp.embed(file, PACKET) for file in (jpeg, png, webp)]

    assert [packet_of(file) for file in marked] == [PACKET] * 3
    assert not any(manifest in file for file in marked)


def shown(data: bytes) -> tuple[str, tuple[int, int], bytes] | None:
    """Return the pixels; None where it cannot be decoded."""
    try:
        with warnings.catch_warnings(), Image.open(BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            warnings.simplefilter("ignore")
            image.load()
            return image.mode, image.size, image.convert("RGBA").tobytes()
    except Exception:  # noqa: BLE001  decoders raise nearly anything on damaged bytes
        return None


@hypothesis.given(
    kind=st.sampled_from(sorted(KINDS)),
    at=st.integers(2, 250),
    cut=st.integers(0, 6),
    put=st.binary(max_size=6),
)
@hypothesis.settings(max_examples=400, deadline=None)
def test_a_damaged_file_that_shows_something_shows_the_same_when_it_is_marked_or_is_refused(
    *, kind: str, at: int, cut: int, put: bytes
) -> None:
    file = file_of(kind)
    damaged = file[:at] + put + file[at + cut :]

    try:
        marked = xmp.embed(damaged, PACKET)
    except xmp.UnmarkableImage:
        return

    before = shown(damaged)
    assert before is None or shown(marked) == before


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_file_that_was_cut_is_refused_or_marked_but_never_crashes(kind: str) -> None:
    file = file_of(kind)

    outcomes = []
    for length in range(len(file)):
        try:
            outcomes.append(PACKET in xmp.embed(file[:length], PACKET))
        except xmp.UnmarkableImage:
            outcomes.append(None)

    assert False not in outcomes
    assert outcomes[:20] == [None] * 20


def test_what_is_no_picture_is_refused() -> None:
    no_webp = (b"RIFF\x04\0\0\0WAVE", b"RIFF\x04\0\0\0WEBP", b"RIFF\x0c\0\0\0WEBPVP8X\0\0\0\0")
    short_header = b"RIFF\x14\0\0\0WEBPVP8X\0\0\0\0VP8 \0\0\0\0"
    for data in (b"", b"GIF89a", b"<html>", *no_webp, short_header):
        with pytest.raises(xmp.UnmarkableImage):
            xmp.embed(data, PACKET)


def test_a_packet_that_no_jpeg_can_hold_is_refused() -> None:
    with pytest.raises(xmp.UnmarkableImage, match="has room for 65502"):
        xmp.embed(file_of("jpeg"), b"x" * 65_503)
