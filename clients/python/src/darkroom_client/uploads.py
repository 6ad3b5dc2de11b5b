"""Uploads: photos that jobs are made from."""

import mimetypes
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from darkroom_client.errors import NotFound
from darkroom_client.models import Upload
from darkroom_client.transport import Transport, segment

Source = str | os.PathLike[str] | bytes | BinaryIO
Progress = Callable[[int, int], None]
_PIECE_BYTES = 64 * 1024


class Uploads:
    """``darkroom.uploads``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        source: Source,
        *,
        purpose: str = "room",
        keep_original: bool | None = None,
        content_type: str | None = None,
        multipart: bool = False,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Upload:
        """Send a photo: JPEG, PNG or WebP, at most 10 MB.

        Args:
            source: a path, the bytes, or a binary file, which is read from where it stands and not closed.
            purpose: `room product inspiration face profile`; it decides how long the photo is kept.
            keep_original: keep a `face` for longer than the job needs it.
            content_type: told by the content unless given.
            multipart: send a form instead of the photo itself, for proxies that let nothing else pass.
            on_progress: called with the bytes sent and their total; begins at 0 again with each try.
            idempotency_key: give one of your own to send the same photo again after a crash of yours.

        Raises:
            ImageRefused, LimitExceeded: the photo is not usable.
            ValueError: it is empty.
        """
        with _opened(source) as file:
            content, headers = _content(file, content_type=content_type, multipart=multipart, on_progress=on_progress)
            answer = self._transport.send(
                "POST",
                "/v1/uploads",
                query={
                    "purpose": purpose,
                    "keep_original": None if keep_original is None else str(keep_original).lower(),
                },
                content=content,
                headers=headers,
                idempotency_key=idempotency_key,
            )
        return Upload.from_json(answer.body)

    def get(self, upload_id: str) -> Upload:
        """Look an upload up."""
        return Upload.from_json(self._transport.send("GET", f"/v1/uploads/{segment(upload_id)}").body)

    def delete(self, upload_id: str) -> None:
        """Delete an upload and its bytes for good."""
        try:
            self._transport.send("DELETE", f"/v1/uploads/{segment(upload_id)}")
        except NotFound as error:
            if error.attempts == 1:
                raise
            # An earlier try deleted it, and its answer was lost.


class _Body:
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


def _opened(source: Source) -> "nullcontext[BinaryIO] | BinaryIO":
    """Return the photo as a file that can be read again from its place on; ours are closed afterwards."""
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).open("rb")
    if not source.seekable():
        return BytesIO(source.read())
    return nullcontext(source)


def _content(
    file: BinaryIO, *, content_type: str | None, multipart: bool, on_progress: Progress | None
) -> tuple[Callable[[], _Body], dict[str, str]]:
    """Return what gives the body of each try, and the headers that go with it."""
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    if size <= 0:
        raise ValueError("there is nothing to upload: the photo is empty, or the file stands at its end")
    file.seek(start)
    name = Path(str(getattr(file, "name", "photo"))).name
    content_type = content_type or _told_by_content(file.read(12)) or mimetypes.guess_type(name)[0]
    content_type = content_type or "application/octet-stream"
    file.seek(start)
    if multipart:
        boundary = secrets.token_hex(16)
        file = BytesIO(_form(file.read(), boundary=boundary, name=name, content_type=content_type))
        start, size = 0, len(file.getbuffer())
        content_type = f"multipart/form-data; boundary={boundary}"

    def body() -> _Body:
        file.seek(start)
        return _Body(file, size=size, on_progress=on_progress)

    return body, {"Content-Type": content_type}


def _told_by_content(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def _form(photo: bytes, *, boundary: str, name: str, content_type: str) -> bytes:
    for character, written in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):
        name = name.replace(character, written)
    disposition = f'form-data; name="file"; filename="{name}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {content_type}\r\n\r\n"
    return head.encode() + photo + f"\r\n--{boundary}--\r\n".encode()
