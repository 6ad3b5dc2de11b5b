"""One object-store interface: write-once objects, measured while written, in a folder or on any S3 service.

It knows keys and bytes only: neither images nor the services that keep them.
"""

import hashlib
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

PIECE_BYTES = 1 << 20
READ_BYTES = 256 << 10
KEY_CHARACTERS_MAX = 512
CONTENT_TYPES = {
    "csv": "text/csv",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webp": "image/webp",
    "zip": "application/zip",
}
# Every part starts with a letter or digit, so that neither `..` nor a hidden file can be named.
_KEY = re.compile(r"(assets|exports|images)/[A-Za-z0-9][\w.-]{0,99}(/[A-Za-z0-9][\w.-]{0,99})+", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9][\w./-]*|", re.ASCII)


class ObjectMissing(Exception):
    """No object has this key."""


class ObjectExists(Exception):
    """The key is taken by other bytes; objects are write-once, so a changed object needs a new key."""


class TooLarge(Exception):
    """The source brought more bytes than ``max_bytes``; nothing was kept."""


class StorageUnavailable(Exception):
    """The folder or the S3 service cannot serve now (full, down, refused): wait, try again, nothing is lost."""


@dataclass(frozen=True, kw_only=True)
class ObjectStat:
    """What the store itself knows of an object: cheap to ask, and without its digests."""

    key: str
    bytes: int
    content_type: str
    stored_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object as measured over its bytes: size, SHA-256 in hex, CRC-32 (as ZIP uses it, unsigned)."""

    key: str
    bytes: int
    sha256: str
    crc32: int
    content_type: str


@dataclass(frozen=True, kw_only=True)
class NewObject:
    """An object that is to be stored, whole and at hand."""

    key: str
    data: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True)
class UploadForm:
    """How a client sends one object to the store itself: POST ``fields`` to ``url`` as a form, ``file`` last."""

    url: str
    fields: Mapping[str, str]


class ObjectStore(Protocol):
    """Where assets, images and exports lie. All methods raise StorageUnavailable, and ValueError for a bad key."""

    def put(
        self, *, key: str, chunks: Iterable[bytes] | bytes, content_type: str, max_bytes: int | None = None
    ) -> StoredObject:
        """Store the bytes under ``key`` once and for all; a repeat with the same bytes gives the same answer.

        Raises:
            ObjectExists: the key holds other bytes.
            TooLarge: there are more than ``max_bytes``; nothing is kept.
        """
        ...

    def put_together(self, objects: Sequence[NewObject], *, max_bytes: int | None = None) -> list[StoredObject]:
        """Store a few objects that belong together, each as `put` does: where one fails, others may be there.

        Raises:
            ObjectExists, TooLarge: as `put`, of any of them.
        """
        ...

    def open(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes ``start`` to before ``end``, in pieces; past the end there is simply nothing more.

        Raises:
            ObjectMissing: at once, not at the first piece.
        """
        ...

    def stat(self, key: str) -> ObjectStat | None:
        """Return size, type and time of storing without reading the object, or None where there is none."""
        ...

    def measure(self, key: str) -> StoredObject:
        """Read the whole object and return what its bytes are now: for audits, and for what others uploaded.

        Raises:
            ObjectMissing: there is no such object.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the object, and whatever the store keeps of it; one that is not there is fine."""
        ...

    def upload_form(self, *, key: str, content_type: str, size: int, seconds: int) -> UploadForm | None:
        """Return what lets a client store exactly ``size`` bytes under ``key`` within ``seconds``, and nothing else.

        None where clients cannot reach the store; then they PUT to a signed link.
        """
        ...

    def drop_leftovers(self) -> None:
        """Remove what writers that died have left in no object: their bytes are nobody's, and may be a face."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield every key that starts with ``prefix``, in no promised order."""
        ...


def open_store(url: str) -> ObjectStore:
    """Return the store that ``STORAGE_URL`` names: ``file:///folder`` or ``s3://bucket?endpoint=…&region=…``.

    Raises:
        ValueError: the address is of neither form.
        StorageUnavailable: the folder cannot be made or written.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        from shared.storage_folder import FolderStore  # noqa: PLC0415  the two kinds import this module

        return FolderStore(unquote(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from shared.storage_s3 import S3Store  # noqa: PLC0415  boto3 takes 40 MB: only where S3 is used

        return S3Store.from_url(url)
    raise ValueError(
        f"STORAGE_URL {parts.scheme}://… is not an object store; "
        "write file:///absolute/folder or s3://bucket?endpoint=https://…&region=…"
    )


def checked_key(key: str) -> str:
    """Return ``key`` if it has the form ``assets|exports|images/{org}/…``, so that no name leaves the store.

    Raises:
        ValueError: it has another form (``..``, an absolute path, a backslash, a control character, …).
    """
    if len(key) > KEY_CHARACTERS_MAX or not _KEY.fullmatch(key):
        raise ValueError(f"{key[:80]!r} is not a storage key; write assets|exports|images/<org>/<name>")
    return key


def checked_prefix(prefix: str) -> str:
    """Return ``prefix`` if some key could start with it.

    Raises:
        ValueError: none could.
    """
    if ".." in prefix or not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix[:80]!r} cannot begin a storage key; write e.g. images/<org>/")
    return prefix


def checked_range(*, start: int, end: int | None) -> None:
    """Refuse a range that runs backwards.

    Raises:
        ValueError: ``start`` is negative or behind ``end``.
    """
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"bytes {start} to {end} is not a range; both count from 0, and end is not included")


def content_type_of(key: str) -> str:
    """Return the media type that the ending of ``key`` stands for, ``application/octet-stream`` if unknown."""
    return CONTENT_TYPES.get(PurePosixPath(key).suffix[1:].lower(), "application/octet-stream")


def checked_content_type(*, key: str, content_type: str) -> str:
    """Return ``content_type`` if it is what the key's ending stands for, so that no store has to remember it.

    Raises:
        ValueError: the two differ.
    """
    if content_type != content_type_of(key):
        raise ValueError(f"{key} ends like {content_type_of(key)}, not {content_type}; choose the ending by the type")
    return content_type


def measured(
    *,
    key: str,
    chunks: Iterable[bytes] | bytes,
    content_type: str,
    write: Callable[[bytes], object],
    max_bytes: int | None,
) -> StoredObject:
    """Pass ``chunks`` on to ``write`` in pieces of at most 1 MiB and return what went through.

    Errors of the source pass through as they are: a client that hung up is no failure of the store.

    Raises:
        TooLarge: more than ``max_bytes`` came; the piece that passed the limit was not written.
    """
    size, checksum, digest = 0, 0, hashlib.sha256()
    for piece in pieces(chunks):
        size += len(piece)
        if max_bytes is not None and size > max_bytes:
            raise TooLarge(f"{key} is larger than {max_bytes} bytes")
        digest.update(piece)
        checksum = zlib.crc32(piece, checksum)
        write(piece)
        time.sleep(0)  # other green threads run between two pieces
    return StoredObject(key=key, bytes=size, sha256=digest.hexdigest(), crc32=checksum, content_type=content_type)


def pieces(chunks: Iterable[bytes] | bytes) -> Iterator[bytes]:
    """Yield the same bytes in pieces of at most 1 MiB, however large the chunks are."""
    for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]


def same_or_taken(stored: StoredObject, offered: StoredObject) -> StoredObject:
    """Answer a second put of a key: the first answer if the bytes are alike.

    Raises:
        ObjectExists: they differ.
    """
    if stored.sha256 != offered.sha256:
        raise ObjectExists(f"{stored.key} already holds other bytes; objects are write-once, use a new key")
    return stored
