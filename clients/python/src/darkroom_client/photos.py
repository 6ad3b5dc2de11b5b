"""Photos on their way out: opened from whatever they are given as, told by their content, read anew for each try."""

import hashlib
import mimetypes
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing only from Python 3.11 on

Source = str | os.PathLike[str] | bytes | BinaryIO
Progress = Callable[[int, int], None]
_PIECE_BYTES = 64 * 1024


class Body:
    """A file on its way out: requests reads it in pieces, and the caller hears of each."""

    def __init__(self, file: BinaryIO, *, size: int, on_progress: Progress | None) -> None:
        self._file, self._size, self._on_progress = file, size, on_progress

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        self._tell(sent)
        while piece := self._file.read(min(_PIECE_BYTES, self._size - sent)):
            yield piece
            sent += len(piece)
            self._tell(sent)

    def _tell(self, sent: int) -> None:
        if self._on_progress:
            self._on_progress(sent, self._size)


@dataclass(frozen=True)
class Photo:
    """What is sent: ``size`` bytes of a file from ``start`` on, as one type."""

    file: BinaryIO
    start: int
    size: int
    name: str
    content_type: str

    @classmethod
    def of(cls, file: BinaryIO, *, content_type: str | None = None) -> "Self":
        """Take a file from where it stands; its type is told by its content unless given.

        Raises:
            ValueError: there is nothing in it.
        """
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        if size <= 0:
            raise ValueError("there is nothing to upload: the photo is empty, or the file stands at its end")
        file.seek(start)
        name = Path(str(getattr(file, "name", "photo"))).name
        told = content_type or _told_by_content(file.read(12)) or mimetypes.guess_type(name)[0]
        return cls(file, start, size, name, told or "application/octet-stream")

    def body(self, on_progress: Progress | None) -> Body:
        """Return the body of one try."""
        self.file.seek(self.start)
        return Body(self.file, size=self.size, on_progress=on_progress)

    def sha256(self) -> str:
        """Return the digest of its bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for piece in self.body(None):
            digest.update(piece)
        return digest.hexdigest()

    def as_form(self, fields: Mapping[str, str] | None = None) -> "Photo":
        """Return the form that has ``fields``, and then the photo as its part ``file``."""
        boundary = secrets.token_hex(16)
        photo = b"".join(self.body(None))
        form = _form(photo, fields or {}, boundary=boundary, name=self.name, content_type=self.content_type)
        return Photo(BytesIO(form), 0, len(form), self.name, f"multipart/form-data; boundary={boundary}")


def opened(source: Source) -> AbstractContextManager[BinaryIO]:
    """Return the photo as a file that can be read again from its place on; ours are closed afterwards."""
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).open("rb")
    if not source.seekable():
        return BytesIO(source.read())
    return nullcontext(source)


def _told_by_content(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def _form(photo: bytes, fields: Mapping[str, str], *, boundary: str, name: str, content_type: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(field)}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    disposition = f'form-data; name="file"; filename="{_quoted(name)}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {content_type}\r\n\r\n"
    return b"".join(parts) + head.encode() + photo + f"\r\n--{boundary}--\r\n".encode()


def _quoted(text: str) -> str:
    for character, written in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(character, written)
    return text
