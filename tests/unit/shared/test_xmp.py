"""An XMP packet in a file: found by independent readers, alone, and no pixel changed."""

import struct
import zlib
from functools import cache
from io import BytesIO

import hypothesis
import hypothesis.strategies as st
import pytest
from PIL import Image, ImageChops

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
        assert first.info.get("exif") == second.info.get("exif")
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
    for data in (b"", b"GIF89a", b"<html>", b"RIFF\x04\0\0\0WAVE"):
        with pytest.raises(xmp.UnmarkableImage):
            xmp.embed(data, PACKET)


def test_a_packet_that_no_jpeg_can_hold_is_refused() -> None:
    with pytest.raises(xmp.UnmarkableImage, match="has room for 65502"):
        xmp.embed(file_of("jpeg"), b"x" * 65_503)
