"""Puts an XMP packet into a JPEG, PNG or WebP file without touching its pixels, in place of all else the file says.

What a picture is shown by stays: pixels, colours, density. What somebody wrote beside them goes: other packets, Exif,
comments (some vendors put the prompt there), and manifests of content credentials (C2PA), which vouch for bytes that
are others now.
Sources: XMP specification part 3 (where files have it), PNG third edition, the WebP container specification, C2PA 2.1.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

# A picture of 50 MB, in the pieces that encoders write, has a few thousand. Millions would hold up whoever reads them.
PARTS_MAX = 20_000

_JPEG_START = b"\xff\xd8"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_PACKET_MAX_BYTES = 65_502  # as the specification counts
_MARKERS = re.compile(b"\xff+")  # one may be preceded by any number of fill bytes
_APP0, _APP1, _APP2, _APP14, _APP15 = b"\xe0", b"\xe1", b"\xe2", b"\xee", b"\xef"
_COMMENT, _SCAN = b"\xfe", b"\xda"
# Of what programs may add, what the picture is shown by.
_JPEG_KEPT = {_APP0: b"JFIF\0", _APP2: b"ICC_PROFILE\0", _APP14: b"Adobe"}

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PNG_KEPT = frozenset(b"tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs".split())

_WEBP_HAS_XMP, _WEBP_HAS_ALPHA, _WEBP_HAS_COLOURS = 0x04, 0x10, 0x20
_WEBP_PICTURES = (b"VP8 ", b"VP8L")
_WEBP_KEPT = frozenset((*_WEBP_PICTURES, b"ALPH", b"ICCP"))
_WEBP_FEATURES_BYTES = 10
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = 0x2F

_BEGINNING_BYTES = 16


class UnmarkableImage(ValueError):
    """The file's parts do not follow its format, so that nothing can be put among them."""


class _Part(NamedTuple):
    """A segment of a JPEG or a chunk of a PNG or WebP: which it is, how what it holds begins, all its bytes."""

    kind: bytes
    beginning: bytes
    whole: memoryview


def embed(data: bytes, packet: bytes) -> bytes:
    """Return the image file ``data`` with ``packet`` (UTF-8) as all it says of itself.

    A picture that its Exif turns is to be turned before: that goes as well.

    Raises:
        UnmarkableImage: it is no JPEG, PNG or WebP, its parts do not follow its format or are too many, or the packet
            is longer than the 65,502 bytes there are for it in a JPEG.
    """
    writer = next((write for start, write in _WRITERS.items() if data.startswith(start)), None)
    if writer is None:
        raise UnmarkableImage("neither a JPEG nor a PNG nor a WebP file")
    try:
        return writer(data, packet)
    except (struct.error, IndexError) as error:
        raise UnmarkableImage("the file ends within one of its parts") from error


def _bounded(parts: Iterator[_Part]) -> list[_Part]:
    found = list(islice(parts, PARTS_MAX + 1))
    if len(found) > PARTS_MAX:
        raise UnmarkableImage(f"more than {PARTS_MAX} parts")
    return found


def _into_jpeg(data: bytes, packet: bytes) -> bytes:
    """Put it behind JFIF's segment, which has to come first; what follows the first scan stays as it is."""
    if len(packet) > _JPEG_PACKET_MAX_BYTES:
        raise UnmarkableImage(f"a packet of {len(packet)} bytes; a JPEG has room for {_JPEG_PACKET_MAX_BYTES}")
    *segments, picture = _bounded(_jpeg_parts(data))
    kept = [part for part in segments if _is_kept_in_jpeg(part)]
    first = [part.whole for part in kept if part.kind == _APP0]
    others = [part.whole for part in kept if part.kind != _APP0]
    body = _JPEG_XMP + packet
    ours = b"\xff" + _APP1 + struct.pack(">H", len(body) + 2) + body
    return b"".join([_JPEG_START, *first, ours, *others, picture.whole])


def _jpeg_parts(data: bytes) -> Iterator[_Part]:
    """Return the segments before the picture, then the picture with all that follows."""
    view, begin = memoryview(data), len(_JPEG_START)
    while True:
        markers = _MARKERS.match(data, begin)
        if markers is None:
            raise UnmarkableImage(f"no marker of a segment at byte {begin}")
        at = markers.end()
        kind = data[at : at + 1]
        if kind == _SCAN:
            yield _Part(kind, b"", view[begin:])
            return
        (length,) = struct.unpack_from(">H", data, at + 1)
        body, end = at + 3, at + 1 + length
        if not body <= end < len(data):
            raise UnmarkableImage(f"a segment at byte {begin} that is longer than the file")
        yield _Part(kind, data[body : min(end, body + _BEGINNING_BYTES)], view[begin:end])
        begin = end


def _is_kept_in_jpeg(part: _Part) -> bool:
    name = _JPEG_KEPT.get(part.kind)
    if name is not None:
        return part.beginning.startswith(name)
    return part.kind != _COMMENT and not _APP0 <= part.kind <= _APP15


def _into_png(data: bytes, packet: bytes) -> bytes:
    """Put it behind the header: text may stand anywhere, and readers that stop at the pixels find it there."""
    header, *chunks = _bounded(_png_parts(data))
    kept = (part.whole for part in chunks if part.kind[:1].isupper() or part.kind in _PNG_KEPT)
    # Keyword, not compressed, method 0, no language, no translated keyword, then the text.
    body = b"iTXt" + _PNG_XMP + b"\0\0\0\0" + packet
    ours = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"".join([_PNG_START, header.whole, ours, *kept])


def _png_parts(data: bytes) -> Iterator[_Part]:
    """Return the chunks; what stands behind the last is none of the picture's."""
    view, at, kind = memoryview(data), len(_PNG_START), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise UnmarkableImage(f"a chunk at byte {at} that is longer than the file")
        yield _Part(kind, b"", view[at:end])
        at = end


def _into_webp(data: bytes, packet: bytes) -> bytes:
    """Put it at the end, where the format wants it, and say so in the header, which a simple file has to be given."""
    parts = _bounded(_webp_parts(data))
    picture = next((part for part in parts if part.kind in _WEBP_PICTURES), None)
    if picture is None:
        raise UnmarkableImage("a WebP file without a picture of its own")
    features = _webp_features(parts[0] if parts[0].kind == b"VP8X" else picture)
    kept = (part.whole for part in parts if part.kind in _WEBP_KEPT)
    body = b"".join([_webp_chunk(b"VP8X", features), *kept, _webp_chunk(b"XMP ", packet)])
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_parts(data: bytes) -> Iterator[_Part]:
    (length,) = struct.unpack_from("<I", data, 4)
    view, at, last = memoryview(data), 12, 8 + length
    if data[8:12] != b"WEBP" or last > len(data):
        raise UnmarkableImage("a WebP file that is shorter than it says")
    while at < last:
        (size,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + size + size % 2
        if end > last:
            raise UnmarkableImage(f"a chunk at byte {at} that is longer than the file")
        yield _Part(data[at : at + 4], data[at + 8 : min(end, at + 8 + _BEGINNING_BYTES)], view[at:end])
        at = end


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp_features(part: _Part) -> bytes:
    """Return the extended header: flags, three bytes of nothing, width - 1 and height - 1.

    ``part`` is the one there is, or the picture of a file that has none.
    """
    begins = part.beginning
    if part.kind == b"VP8X":
        if len(begins) < _WEBP_FEATURES_BYTES:
            raise UnmarkableImage("a WebP file whose header is too short")
        flags = begins[0] & (_WEBP_HAS_ALPHA | _WEBP_HAS_COLOURS) | _WEBP_HAS_XMP
        return bytes([flags]) + begins[1:_WEBP_FEATURES_BYTES]
    flags = _WEBP_HAS_XMP
    if part.kind == b"VP8L":
        if begins[0] != _VP8L_START:
            raise UnmarkableImage("a lossless WebP without its signature")
        (bits,) = struct.unpack_from("<I", begins, 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags |= _WEBP_HAS_ALPHA if bits >> 28 & 1 else 0
    else:
        if begins[3:6] != _VP8_START:
            raise UnmarkableImage("a lossy WebP without its start code")
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", begins, 6))
    return bytes([flags, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


_WRITERS: dict[bytes, Callable[[bytes, bytes], bytes]] = {
    _JPEG_START: _into_jpeg,
    _PNG_START: _into_png,
    b"RIFF": _into_webp,
}
