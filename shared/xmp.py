"""Puts an XMP packet into a JPEG, PNG or WebP file without touching its pixels, in place of whatever packet it had.

A manifest of content credentials (C2PA) that came with the file is taken out: it vouches for bytes that are others now.
Sources: XMP specification part 3 (where files have it), PNG third edition, the WebP container specification, C2PA 2.1.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

_JPEG_START = b"\xff\xd8"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_XMP_REST = b"http://ns.adobe.com/xmp/extension/\0"
_JPEG_EXIF = b"Exif\0\0"
_JPEG_PACKET_MAX_BYTES = 65_502  # as the specification counts
_MARKER, _APP0, _APP1, _APP11, _SCAN = 0xFF, 0xE0, 0xE1, 0xEB, 0xDA

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = b"XML:com.adobe.xmp\0"

_WEBP_HAS_XMP, _WEBP_HAS_ALPHA = 0x04, 0x10
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = 0x2F


class UnmarkableImage(ValueError):
    """The file's parts do not follow its format, so that nothing can be put among them."""


class _Part(NamedTuple):
    """A segment of a JPEG or a chunk of a PNG or WebP: which it is, what it holds, and all its bytes in the file."""

    kind: int | bytes
    body: bytes
    whole: bytes


def embed(data: bytes, packet: bytes) -> bytes:
    """Return the image file ``data`` with ``packet`` (UTF-8) as its only XMP packet.

    Raises:
        UnmarkableImage: it is no JPEG, PNG or WebP, its parts do not follow its format, or the packet is longer than
            the 65,502 bytes there are for it in a JPEG.
    """
    writer = next((write for start, write in _WRITERS.items() if data.startswith(start)), None)
    if writer is None:
        raise UnmarkableImage("neither a JPEG nor a PNG nor a WebP file")
    try:
        return writer(data, packet)
    except (struct.error, IndexError) as error:
        raise UnmarkableImage("the file ends within one of its parts") from error


def _into_jpeg(data: bytes, packet: bytes) -> bytes:
    """Put it behind the segments that have to come first: JFIF's, then Exif's."""
    if len(packet) > _JPEG_PACKET_MAX_BYTES:
        raise UnmarkableImage(f"a packet of {len(packet)} bytes; a JPEG has room for {_JPEG_PACKET_MAX_BYTES}")
    *segments, rest = _jpeg_parts(data)
    kept = [part for part in segments if not _is_jpeg_mark(part)]
    first = [part for part in kept if part.kind == _APP0 or _is_exif(part)]
    others = [part for part in kept if part not in first]
    body = _JPEG_XMP + packet
    ours = struct.pack(">BBH", _MARKER, _APP1, len(body) + 2) + body
    return b"".join([_JPEG_START, *(part.whole for part in first), ours, *(part.whole for part in others), rest.whole])


def _jpeg_parts(data: bytes) -> Iterator[_Part]:
    """Return the segments before the picture, then the picture with all that follows."""
    at = len(_JPEG_START)
    while True:
        begin = at
        if data[at] != _MARKER:
            raise UnmarkableImage(f"no marker of a segment at byte {at}")
        while data[at] == _MARKER:  # a marker may be preceded by any number of fill bytes
            at += 1
        kind = data[at]
        if kind == _SCAN:
            yield _Part(kind, b"", data[begin:])
            return
        (length,) = struct.unpack_from(">H", data, at + 1)
        body, end = at + 3, at + 1 + length
        if not body <= end < len(data):
            raise UnmarkableImage(f"a segment at byte {begin} that is longer than the file")
        yield _Part(kind, data[body:end], data[begin:end])
        at = end


def _is_jpeg_mark(part: _Part) -> bool:
    return part.kind == _APP11 or (part.kind == _APP1 and part.body.startswith((_JPEG_XMP, _JPEG_XMP_REST)))


def _is_exif(part: _Part) -> bool:
    return part.kind == _APP1 and part.body.startswith(_JPEG_EXIF)


def _into_png(data: bytes, packet: bytes) -> bytes:
    """Put it behind the header: text may stand anywhere, and readers that stop at the pixels find it there."""
    header, *chunks = _png_parts(data)
    kept = [part for part in chunks if part.kind != b"caBX" and not _is_png_mark(part)]
    # Keyword, not compressed, method 0, no language, no translated keyword, then the text.
    body = b"iTXt" + _PNG_XMP + b"\0\0\0\0" + packet
    ours = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"".join([_PNG_START, header.whole, ours, *(part.whole for part in kept)])


def _png_parts(data: bytes) -> Iterator[_Part]:
    at = len(_PNG_START)
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        kind = data[at + 4 : at + 8]
        if end > len(data):
            raise UnmarkableImage(f"a chunk at byte {at} that is longer than the file")
        if kind == b"IEND":
            yield _Part(kind, b"", data[at:])
            return
        yield _Part(kind, data[at + 8 : end - 4], data[at:end])
        at = end


def _is_png_mark(part: _Part) -> bool:
    return part.kind in (b"iTXt", b"tEXt", b"zTXt") and part.body.startswith(_PNG_XMP)


def _into_webp(data: bytes, packet: bytes) -> bytes:
    """Put it at the end, where the format wants it, and say so in the header, which a simple file has to be given."""
    chunks = [part for part in _webp_parts(data) if part.kind not in (b"XMP ", b"C2PA")]
    if chunks and chunks[0].kind == b"VP8X":
        features = bytes([chunks[0].body[0] | _WEBP_HAS_XMP]) + chunks[0].body[1:10]
        chunks = chunks[1:]
    else:
        features = _webp_features(next(part for part in chunks if part.kind in (b"VP8 ", b"VP8L")))
    body = b"".join([_webp_chunk(b"VP8X", features), *(part.whole for part in chunks), _webp_chunk(b"XMP ", packet)])
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_parts(data: bytes) -> Iterator[_Part]:
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + length
    if data[8:12] != b"WEBP" or end > len(data):
        raise UnmarkableImage("a WebP file that is shorter than it says")
    at = 12
    while at < end:
        kind = data[at : at + 4]
        (size,) = struct.unpack_from("<I", data, at + 4)
        body = data[at + 8 : at + 8 + size]
        if len(body) < size:
            raise UnmarkableImage(f"a chunk at byte {at} that is longer than the file")
        yield _Part(kind, body, _webp_chunk(kind, body))
        at += 8 + size + size % 2


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp_features(picture: _Part) -> bytes:
    """Return the extended header of a file that had none: flags, three bytes of nothing, width - 1 and height - 1."""
    flags = _WEBP_HAS_XMP
    if picture.kind == b"VP8L":
        if picture.body[0] != _VP8L_START:
            raise UnmarkableImage("a lossless WebP without its signature")
        (bits,) = struct.unpack_from("<I", picture.body, 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags |= _WEBP_HAS_ALPHA if bits >> 28 & 1 else 0
    else:
        if picture.body[3:6] != _VP8_START:
            raise UnmarkableImage("a lossy WebP without its start code")
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", picture.body, 6))
    return bytes([flags, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


_WRITERS: dict[bytes, Callable[[bytes, bytes], bytes]] = {
    _JPEG_START: _into_jpeg,
    _PNG_START: _into_png,
    b"RIFF": _into_webp,
}
