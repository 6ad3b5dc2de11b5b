"""The object store in a folder, for one machine: an object appears whole, durable and once, or not at all."""

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

from eventlet import patcher, tpool

from shared.storage import (
    READ_BYTES,
    ObjectMissing,
    ObjectStat,
    StorageUnavailable,
    StoredObject,
    TooLarge,
    checked_content_type,
    checked_key,
    checked_prefix,
    checked_range,
    content_type_of,
    measured,
    same_or_taken,
)

INCOMING = ".incoming"  # no key starts with a dot
LEFTOVER_SECONDS = 24 * 3600
T = TypeVar("T")


class FolderStore:
    """An ObjectStore whose objects are plain files below ``root``, at the path their key gives."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._incoming = self._root / INCOMING
        with _disk("make the folders of"):
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._drop_leftovers()

    def put(
        self, *, key: str, chunks: Iterable[bytes] | bytes, content_type: str, max_bytes: int | None = None
    ) -> StoredObject:
        """Write aside, then link into place: no crash leaves a partial object, and a taken key stays as it is."""
        target = self._path(key)
        checked_content_type(key=key, content_type=content_type)
        if isinstance(chunks, bytes):
            # All at hand: nothing to wait for but the disk, and one thread beside the green ones waits for all of it.
            write = partial(_written, key=key, data=chunks, max_bytes=max_bytes)
            offered, is_new = _beside(self._put, target, write)
        else:
            offered, is_new = self._put(target, partial(_streamed, key=key, chunks=chunks, max_bytes=max_bytes))
        return offered if is_new else same_or_taken(self.measure(key), offered)

    def _put(self, target: Path, write: Callable[[BinaryIO], StoredObject]) -> tuple[StoredObject, bool]:
        """Return what was written, and whether the name was free for it."""
        aside = self._incoming / uuid4().hex
        try:
            with _disk("write to"):
                file = aside.open("xb")
            with file:
                offered = write(file)
                with _disk("write to"):
                    file.flush()
                    _sync(file.fileno())
            with _disk("write to"):
                return offered, self._link(aside, target)
        finally:
            with suppress(OSError):  # gone, or the disk is failing and the error on its way up says so
                aside.unlink()

    def open(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes of the range; the file closes once they are exhausted or the iterator is closed."""
        checked_range(start=start, end=end)
        reader = _read(self._path(key), start=start, end=end)
        next(reader)  # opens the file, so that a missing object shows here
        return reader

    def stat(self, key: str) -> ObjectStat | None:
        """Return what the file system says."""
        path = self._path(key)
        with _disk("read from"):
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
        return ObjectStat(
            key=key,
            bytes=found.st_size,
            content_type=content_type_of(key),
            stored_at=datetime.fromtimestamp(found.st_mtime, UTC),
        )

    def measure(self, key: str) -> StoredObject:
        """Read the file through and return its size and digests."""
        return measured(key=key, chunks=self.open(key), content_type=content_type_of(key), write=len, max_bytes=None)

    def delete(self, key: str) -> None:
        """Remove the file, durably."""
        path = self._path(key)
        with _disk("delete from"):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync_folder(path.parent)

    def upload_form(self, *, key: str, content_type: str, size: int, seconds: int) -> None:  # noqa: ARG002  no use here
        """Return None: a folder has no address of its own."""
        checked_key(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Walk the folders; objects that come or go meanwhile may or may not be seen."""
        first_folder = self._root / checked_prefix(prefix).rpartition("/")[0]
        with _disk("list"):
            for folder, folders, names in os.walk(first_folder):
                folders[:] = [name for name in folders if name != INCOMING]
                found = (Path(folder, name).relative_to(self._root).as_posix() for name in names)
                yield from (key for key in found if key.startswith(prefix))

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _link(self, aside: Path, target: Path) -> bool:
        """Give the finished file its name; False where the name is taken."""
        _make_folders(target.parent)
        try:
            os.link(aside, target)
        except FileExistsError:
            return False
        _sync_folder(target.parent)
        return True

    def _drop_leftovers(self) -> None:
        """Remove what processes that died while writing left behind; a living writer never takes a day."""
        for aside in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if aside.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                    aside.unlink()


def _streamed(file: BinaryIO, *, key: str, chunks: Iterable[bytes], max_bytes: int | None) -> StoredObject:
    return measured(key=key, chunks=chunks, content_type=content_type_of(key), write=_writer(file), max_bytes=max_bytes)


def _written(file: BinaryIO, *, key: str, data: bytes, max_bytes: int | None) -> StoredObject:
    """Write and measure what is whole already; it may run in a thread that is no green one."""
    if max_bytes is not None and len(data) > max_bytes:
        raise TooLarge(f"{key} is larger than {max_bytes} bytes")
    _writer(file)(data)
    return StoredObject(
        key=key,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        crc32=zlib.crc32(data),
        content_type=content_type_of(key),
    )


def _writer(file: BinaryIO) -> Callable[[bytes], None]:
    def write(piece: bytes) -> None:
        with _disk("write to"):
            file.write(piece)

    return write


def _read(path: Path, *, start: int, end: int | None) -> Iterator[bytes]:
    """Yield one empty piece once the file is open, then the bytes of the range."""
    with _disk("read from"):
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise ObjectMissing(f"no object {path.name}") from None
        with file:
            yield b""
            file.seek(start)
            position = start
            while piece := file.read(READ_BYTES if end is None else min(READ_BYTES, end - position)):
                position += len(piece)
                yield piece


@contextmanager
def _disk(doing: str) -> Iterator[None]:
    """Tell an operator what the disk refused; the code above it need not know errno."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"cannot {doing} the storage folder: {error.strerror or error}") from error


def _make_folders(folder: Path) -> None:
    """Make ``folder`` and its parents, each durable before something is put into it."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Wait until the disk has it."""
    _beside(os.fsync, descriptor)


def _beside(work: Callable[..., T], *arguments: Any) -> T:
    """Run what waits for the disk in a thread beside green threads, since a slow disk would stop them all."""
    if patcher.is_monkey_patched("thread"):
        done: T = tpool.execute(work, *arguments)
        return done
    return work(*arguments)
