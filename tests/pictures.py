"""Pictures and what only looks like one, as bytes."""

import io
import struct
import zipfile
import zlib

import PIL.Image


def a_picture(kind="JPEG", *, size=(640, 480), colour="navy", **options):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


def a_black_png(side, height=None):
    """A well-formed PNG of ``side`` x ``side`` (or ``height``) black pixels, a bit each, made without holding them."""
    height = height or side

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = b"\0" + bytes((side + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def a_polyglot(kind="JPEG"):
    """A picture that is a ZIP archive and an HTML page as well."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("run.html", "<script>alert(1)</script>")
    return a_picture(kind) + archive.getvalue() + b"<script>alert(2)</script>"
